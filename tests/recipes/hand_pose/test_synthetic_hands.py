"""Synthetic hands: functions of their index, and what their labels say about their images."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from jaxrecipes.models.hand.joints import NORM_JOINTS, TIPS
from jaxrecipes.models.hand.model import hand_geometry
from jaxrecipes.models.hand.procedural import procedural_hand
from jaxrecipes.recipes.hand_pose.crop import HandCrop
from jaxrecipes.recipes.hand_pose.hands.draw import as_sequences, synthetic_hands
from jaxrecipes.recipes.hand_pose.hands.quaternions import rotate, times, to_axis_angle, turn_about
from jaxrecipes.recipes.hand_pose.schema import pack_sequence, parse_sequence


@pytest.fixture(scope="module")
def hands():
    return synthetic_hands(36, seed=3, image_size=64, silhouettes=True)


@pytest.fixture(scope="module")
def clips():
    return synthetic_hands(4, seed=3, image_size=64, num_frames=5)


def _dilated(mask, reach):
    grown = np.pad(mask, reach)
    size = mask.shape[0]
    shifts = range(2 * reach + 1)
    return np.any([grown[y : y + size, x : x + size] for y in shifts for x in shifts], axis=0)


def test_a_sample_depends_on_seed_and_index_alone(hands):
    some = synthetic_hands(5, seed=3, start=20, image_size=64, silhouettes=True)
    for name, array in some.items():
        np.testing.assert_array_equal(array, np.asarray(hands[name])[20:25], err_msg=name)
    other = synthetic_hands(5, seed=4, start=20, image_size=64)
    assert np.abs(other["joint_cam"] - some["joint_cam"]).mean() > 5


def test_a_longer_clip_begins_with_the_frames_of_a_shorter_one(hands, clips):
    for name in ("image", "joint_cam", "mano_pose", "hand_bbox", "joint_valid"):
        np.testing.assert_array_equal(clips[name][:, :1], hands[name][:4], err_msg=name)


def test_arrays_have_the_shapes_and_types_of_the_schema(clips):
    shapes = {
        "image": (4, 5, 64, 64, 3),
        "image_size": (4, 2),
        "left": (4,),
        "hand_bbox": (4, 5, 4),
        "joint_img": (4, 5, 21, 2),
        "joint_cam": (4, 5, 21, 3),
        "joint_valid": (4, 5, 21),
        "mano_pose": (4, 5, 48),
        "mano_shape": (4, 5, 10),
        "mano_valid": (4, 5),
        "timestamp": (4, 5),
        "focal": (4, 5, 2),
        "princpt": (4, 5, 2),
    }
    assert {name: array.shape for name, array in clips.items()} == shapes
    types = {"image": np.uint8, "image_size": np.int32}
    assert all(array.dtype == types.get(name, np.float32) for name, array in clips.items())


def test_pose_and_shape_give_the_joints(hands):
    sign = np.where(hands["left"] > 0, -1, 1)[:, None, None]
    pose = hands["mano_pose"].reshape(-1, 16, 3).copy()
    pose[..., 1:] *= sign  # a left hand's, back to those of the mirrored right hand
    posed = jax.jit(hand_geometry)(
        procedural_hand(), pose.reshape(-1, 48), hands["mano_shape"][:, 0]
    )
    joints = np.array(posed.joint_rel)
    joints[..., 0] *= sign[..., 0]
    given = hands["joint_cam"][:, 0]
    np.testing.assert_allclose(joints, given - given[:, :1], atol=2e-2)


def test_joints_project_to_their_pixels_and_the_box_is_tight(hands):
    cam, focal, princpt = (hands[k][:, 0] for k in ("joint_cam", "focal", "princpt"))
    points = focal[:, None] * cam[..., :2] / cam[..., 2:] + princpt[:, None]
    np.testing.assert_allclose(points, hands["joint_img"][:, 0], atol=1e-3)
    box = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=-1)
    np.testing.assert_allclose(box, hands["hand_bbox"][:, 0], atol=1e-3)


def test_joints_lie_in_the_silhouette(hands):
    checked = 0
    for mask, points in zip(hands["silhouette"][:, 0], hands["joint_img"][:, 0], strict=True):
        points = np.round(points).astype(int)
        points = points[((points >= 0) & (points < 64)).all(axis=-1)]
        assert _dilated(mask, 1)[points[:, 1], points[:, 0]].all()
        checked += len(points)
    assert checked > 0.9 * 36 * 21
    assert 0.02 < hands["silhouette"].mean() < 0.1


def test_the_hand_is_drawn_where_its_silhouette_is():
    """Where there is no hand, an image is noise around a gradient."""
    hands = synthetic_hands(12, seed=0, image_size=64, silhouettes=True)
    images = np.asarray(hands["image"])[:, 0].astype(float)
    axis = np.linspace(-1, 1, 64)
    plane = np.stack([np.ones((64, 64)), *np.meshgrid(axis, axis)], axis=-1)
    for image, mask in zip(images, hands["silhouette"][:, 0], strict=True):
        outside = ~_dilated(mask, 1)
        fit = plane @ np.linalg.lstsq(plane[outside], image[outside], rcond=None)[0]
        off = np.abs(image - fit).mean(axis=-1)
        assert off[outside].mean() < 7.5
        assert off[mask].mean() > 2 * off[outside].mean()


def test_crops_of_a_left_hand_are_those_of_the_right_hand_that_it_mirrors():
    crop = jax.jit(HandCrop(img_size=24).plain)
    cropped = []
    options = {"image_size": 64, "drop_joint_fraction": 0.1, "silhouettes": True}
    for left_every in (0, 1):
        hands = synthetic_hands(4, seed=1, left_every=left_every, **options)
        assert (hands["left"] == left_every).all()
        # Light and noise are not mirrored, so silhouettes stand for the images.
        mask = hands.pop("silhouette")[..., None] * np.array([255, 255, 255], np.uint8)
        cropped.append(crop(hands | {"image": mask}))
    right, left = cropped
    for name in sorted(set(right) - {"left", "patch"}):
        np.testing.assert_allclose(left[name], right[name], atol=2e-4, err_msg=name)
    off = np.abs(np.asarray(left["patch"]) - np.asarray(right["patch"]))
    assert off.mean() < 1e-3
    assert 0.05 < np.asarray(right["patch"]).mean() < 0.9


def test_every_third_hand_is_a_left_one(hands):
    np.testing.assert_array_equal(hands["left"], np.arange(36) % 3 == 2)


def test_wrists_turn_no_further_than_asked():
    upright = {"seed": 0, "image_size": 32, "left_every": 0}
    still = synthetic_hands(1, max_angle=0.0, **upright)["joint_cam"][0, 0]
    assert still[list(TIPS[1:4]), 1].max() < still[0, 1] - 30  # fingers up: y points down
    assert still[1, 0] > still[17, 0] + 30  # a right palm: the thumb is on the right
    pose = synthetic_hands(40, max_angle=30.0, **upright)["mano_pose"][:, 0, :3].astype(float)
    angle = np.linalg.norm(pose, axis=-1)
    turn = turn_about(pose / angle[:, None], angle)
    back = times(turn, np.array([0.5, -0.5, -0.5, -0.5]))
    turned = np.rad2deg(np.linalg.norm(to_axis_angle(back), axis=-1))
    assert 20 < turned.max() < 30.001


def test_labels_are_dropped_as_often_as_asked():
    hands = synthetic_hands(
        200, seed=0, image_size=32, drop_joint_fraction=0.2, drop_mano_fraction=0.5
    )
    assert 0.75 < hands["joint_valid"].mean() < 0.85
    assert 0.4 < hands["mano_valid"].mean() < 0.6


def test_clips_move_smoothly(clips):
    np.testing.assert_allclose(np.diff(clips["timestamp"]), 1000 / 30, rtol=1e-5)
    joints = clips["joint_cam"]
    steps = np.linalg.norm(np.diff(joints, axis=1), axis=-1)
    assert 0 < steps.max() < 60
    assert np.linalg.norm(np.diff(joints, 2, axis=1), axis=-1).max() < 30
    lengths = np.linalg.norm(np.diff(joints[:, :, list(NORM_JOINTS)], axis=2), axis=-1)
    np.testing.assert_allclose(lengths, lengths[:, :1].repeat(5, 1), atol=1e-2)


def test_samples_of_hand_shards_hold_the_same_arrays(clips):
    sequences = list(as_sequences(clips, start=7))
    assert [s.key for s in sequences] == [f"synthetic_{i:06d}" for i in range(7, 11)]
    read = parse_sequence(sequences[2].key, pack_sequence(sequences[2]))
    assert read.left == bool(clips["left"][2])
    images = np.stack([np.asarray(Image.open(io.BytesIO(image))) for image in read.images])
    np.testing.assert_array_equal(images, clips["image"][2])
    for name, label in read.labels.items():
        np.testing.assert_array_equal(label, clips[name][2], err_msg=name)


def test_quaternions_turn_as_rodrigues_says():
    axis, angle = np.array([0.6, 0.0, 0.8]), np.array(4.0)
    turn = turn_about(axis, angle)
    vector = np.array([0.3, -1.0, 0.2])
    expected = (
        vector * np.cos(4.0)
        + np.cross(axis, vector) * np.sin(4.0)
        + axis * (axis @ vector) * (1 - np.cos(4.0))
    )
    np.testing.assert_allclose(rotate(turn, vector), expected, atol=1e-12)
    np.testing.assert_allclose(to_axis_angle(turn), (4.0 - 2 * np.pi) * axis, atol=1e-12)
    np.testing.assert_array_equal(to_axis_angle(turn_about(axis, np.array(0.0))), np.zeros(3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_size": 16}, "hands of 16 pixels"),
        ({"max_angle": 200.0}, "max_angle 200"),
        ({"num_frames": 0}, "num_frames=0"),
        ({"start": -1}, "start=-1"),
    ],
)
def test_options_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        synthetic_hands(1, seed=0, **wrong)
