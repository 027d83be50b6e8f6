import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.models.hand.camera import project
from jaxrecipes.recipes.hand_pose.augment import drawn_view
from jaxrecipes.recipes.hand_pose.crop import HandCrop, draw

SIZE = 28
RANGES = {
    "scale_z_min": 1.0,
    "scale_z_max": 1.0,
    "scale_f_min": 0.9,
    "scale_f_max": 1.1,
    "persp_rot_max": 0.0,
}
STRETCHED = RANGES | {"scale_z_min": 0.9, "scale_z_max": 1.1}
SEED = HandCrop(img_size=SIZE, crop="affine", persp_rot_root_fix=False)
FIXED = HandCrop(img_size=SIZE)
LIMITS = {  # absolute: pixels, intensities, millimetres, radians
    "patch": 2e-4,
    "joint_cam": 1e-2,
    "joint_rel": 1e-2,
    "mano_pose": 2e-4,
    "focal": 1e-3,
    "princpt": 1e-3,
} | {f"{name}_bbox": 1e-3 for name in ("patch", "hand", "joint_patch", "joint_hand")}


@pytest.fixture(scope="module")
def batch(golden):
    """The original's three clips of two frames, on canvases of one size."""
    arrays = golden("hand_pose/preprocess_seed")
    images = [np.moveaxis(arrays[f"in/imgs_{i}"], 1, -1) for i in range(3)]
    sizes = np.array([image.shape[1:3] for image in images], np.int32)
    canvas = np.zeros((3, 2, *sizes.max(0), 3), np.uint8)
    for i, image in enumerate(images):
        canvas[i, :, : image.shape[1], : image.shape[2]] = image
    names = ("hand_bbox", "joint_img", "joint_cam", "joint_valid")
    names += ("mano_pose", "mano_valid", "focal", "princpt")
    return {name: arrays[f"in/{name}"] for name in names} | {
        "image": canvas,
        "image_size": sizes,
        "left": arrays["in/handedness_is_left"].astype(np.float32),
    }


def draws_of(arrays, case):
    draws = {
        key.split("/")[2]: x[:, 0] for key, x in arrays.items() if key.startswith(f"draw/{case}/")
    }
    return {name: jnp.asarray(x) for name, x in draws.items()}


def check(found, arrays, case):
    for key, expected in arrays.items():
        if not key.startswith(f"out/{case}/"):
            continue
        name = key.split("/")[2]
        if name == "patches":
            name, expected = "patch", np.moveaxis(expected, 2, -1)
        limit = LIMITS.get(name, 1e-3)
        np.testing.assert_allclose(found[name], expected, atol=limit, rtol=1e-6, err_msg=name)


@pytest.fixture(scope="module")
def plain():
    return jax.jit(SEED.plain)


@pytest.fixture(scope="module")
def augmented():
    return jax.jit(FIXED.augmented)


def test_validation_crops_equal_the_original(golden, batch, plain):
    check(plain(batch), golden("hand_pose/preprocess_seed"), "val")


@pytest.mark.parametrize(
    ("crop", "case"),
    [
        (dataclasses.replace(SEED, joint_type="6d"), "seed/val_6d"),
        (dataclasses.replace(FIXED, perspective_normalization=True), "feb/val_persp_norm"),
    ],
    ids=["6d", "persp_norm"],
)
def test_options_of_validation_equal_the_original(golden, batch, crop, case):
    file, case = case.split("/")
    check(jax.jit(crop.plain)(batch), golden(f"hand_pose/preprocess_{file}"), case)


@pytest.mark.parametrize(
    ("crop", "case", "ranges"),
    [
        (SEED, "train", RANGES),
        (dataclasses.replace(SEED, joint_type="quat"), "train_scale_z", STRETCHED),
    ],
    ids=["train", "train_scale_z"],
)
def test_the_seeds_augmented_crops_equal_the_original(golden, batch, crop, case, ranges):
    arrays = golden("hand_pose/preprocess_seed")
    check(jax.jit(crop.augmented)(batch, draws_of(arrays, case), ranges), arrays, case)


@pytest.mark.parametrize("case", ["train_persp", "train_persp_norm"])
def test_turned_crops_equal_the_original(golden, batch, augmented, case):
    arrays = golden("hand_pose/preprocess_feb")
    if case == "train_persp_norm":
        augmented = jax.jit(dataclasses.replace(FIXED, perspective_normalization=True).augmented)
    ranges = STRETCHED | {"persp_rot_max": float(arrays["cfg/persp_rot_max"])}
    check(augmented(batch, draws_of(arrays, case), ranges), arrays, case)


@pytest.fixture(scope="module")
def draws():
    return draw(jax.random.key(7), 3)


def test_labels_move_with_the_view(batch, augmented, draws):
    """Projected by the new camera, the new joints are where the new image has them."""
    exact = dict(batch)
    exact["joint_cam"] = batch["joint_cam"] + np.array([0.0, 0.0, 900.0], np.float32)
    camera = batch["focal"][:, :, None], batch["princpt"][:, :, None]
    exact["joint_img"] = project(exact["joint_cam"], *camera)
    found = augmented(exact, draws, STRETCHED | {"persp_rot_max": 0.2})
    camera = found["focal"][:, :, None], found["princpt"][:, :, None]
    expected = project(found["joint_cam"], *camera)
    np.testing.assert_allclose(found["joint_img"], expected, atol=5e-3)


def test_a_left_hand_is_the_mirrored_right_one(batch, plain):
    one, other = (plain(batch | {"left": left}) for left in (batch["left"], 1 - batch["left"]))
    np.testing.assert_allclose(other["patch"], one["patch"][:, :, :, ::-1], atol=1e-5)
    np.testing.assert_array_equal(other["joint_cam"] * np.array([-1, 1, 1]), one["joint_cam"])


def test_a_frame_without_a_known_joint_gets_the_whole_image_and_counts_nowhere(
    batch, augmented, draws
):
    unknown = batch | {"joint_valid": batch["joint_valid"].copy()}
    unknown["joint_valid"][0, 1] = 0.0
    found = augmented(unknown, draws, RANGES)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))
    height, width = batch["image_size"][0]
    np.testing.assert_array_equal(found["hand_bbox"][0, 1], [0, 0, width, height])
    assert found["mano_valid"][0, 1] == 0
    np.testing.assert_array_equal(found["mano_valid"][1:], batch["mano_valid"][1:])


def test_clips_do_not_depend_on_each_other(batch, augmented, draws):
    order = np.array([2, 0, 1])
    found = augmented(batch, draws, STRETCHED)
    turned = augmented(
        *({name: x[order] for name, x in arrays.items()} for arrays in (batch, draws)), STRETCHED
    )
    for name, x in found.items():
        np.testing.assert_allclose(turned[name], x[order], atol=1e-5, err_msg=name)


def test_ranges_are_data(batch, augmented, draws):
    augmented(batch, draws, STRETCHED)
    traced = augmented._cache_size()
    for limit in (0.05, 0.1):
        augmented(batch, draws, STRETCHED | {"persp_rot_max": limit, "scale_f_max": 1.1 + limit})
    assert augmented._cache_size() == traced


def test_the_image_turns_by_no_more_than_the_range_either_way(batch):
    """The range times where the draw is on a circle: 0, 1/4 one way, 1/2, 1/4 the other way."""
    draws = draw(jax.random.key(7), 3) | {"rad": np.array([0.0, 0.25, 0.75], np.float32)}
    ranges = RANGES | {"in_plane_rot_max": 0.4}
    found = drawn_view(batch["focal"], batch["princpt"], draws, ranges).root[:, 0]
    angles = np.arctan2(found[:, 1, 0], found[:, 0, 0])
    np.testing.assert_allclose(angles, [0.0, 0.2, -0.2], atol=1e-6)


def test_back_is_the_inverse_of_the_image_change(batch, draws):
    ranges = STRETCHED | {"persp_rot_max": 0.2}
    view = jax.jit(drawn_view)(batch["focal"], batch["princpt"], draws, ranges)
    both = np.matmul(view.image, view.back, dtype=np.float64)
    np.testing.assert_allclose(both / both[..., 2:, 2:], np.eye(3) + 0 * both, atol=2e-3)
