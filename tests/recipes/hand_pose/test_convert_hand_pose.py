"""The hand_pose original's checkpoints: read in every form, and written back to the bit."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxrecipes.convert import (
    ConversionError,
    from_torch,
    load_safetensors,
    save_safetensors,
    to_torch,
)
from jaxrecipes.models.dinov2.config import Dinov2Config
from jaxrecipes.models.hand.mano import load_mano
from jaxrecipes.models.hand.model import HandModel
from jaxrecipes.recipes.hand_pose.network_config import (
    HandDecoderConfig,
    HandPoseConfig,
    PerspectiveConfig,
    TemporalConfig,
)
from jaxrecipes.recipes.hand_pose.original import export_torch, import_torch, template
from jaxrecipes.recipes.hand_pose.original_hand import stored_hand, with_hand, write_hand

HEADS = {"backbone": {"num_heads": 2}, "handec": {"num_head": 3}}
LOSS = "loss_fn.rmano_layer."
SMALL = HandPoseConfig(
    backbone=Dinov2Config(width=8, depth=1, num_heads=2, mlp_ratio=1, image_size=28),
    img_size=28,
    handec=HandDecoderConfig(num_layer=1, num_head=2, dim_head=4, dim_mlp=8, heatmap_resolution=5),
    persp_info_embed=PerspectiveConfig(num_sample=2),
)


def drawn_variables(config):
    """(params, batch_stats)"""
    generator = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda s: (10.0 * generator.uniform(size=s.shape)).astype(s.dtype), template(config)
    )
    return variables["params"], variables.get("batch_stats", {})


@pytest.fixture(scope="module")
def checkpoint(golden):
    return golden("hand_pose/posenet_weights") | golden("hand_pose/posenet_weights_persp")


@pytest.fixture(scope="module")
def complete(checkpoint):
    """With the arrays of the loss, as a file that was saved on a GPU has them."""
    names = ("rmano_layer.", "J_regressor_mano")
    hand = {f"{LOSS}{k}": a for k, a in checkpoint.items() if k.startswith(names)}
    centres = {
        f"loss_fn.{axis}_centers": checkpoint[f"handec.deccam.{axis}_centers"] for axis in "xyz"
    }
    return checkpoint | hand | centres


@pytest.fixture(scope="module")
def read(checkpoint):
    """(config, params, batch_stats)"""
    model, params, batch_stats = from_torch("hand_pose", checkpoint, {"MODEL": HEADS})
    return model.config, params, batch_stats


def test_sizes_are_told_by_the_weights(read):
    config, _, _ = read
    assert (config.img_size, config.joint_type, config.persp_info_embed.num_sample) == (56, "3", 4)
    assert (config.backbone.width, config.backbone.depth, config.backbone.image_size) == (16, 2, 70)
    handec = config.handec
    assert (handec.num_layer, handec.dim_head, handec.dim_mlp) == (2, 8, 24)
    assert handec.heatmap_resolution == (16, 12, 20)
    assert config.norm_mean[2] == 10.432839  # the published one, not what the bins round it to


def test_written_with_the_users_hand_it_is_the_original_file(read, complete):
    config, params, batch_stats = read
    bare = to_torch("hand_pose", params, batch_stats, config)
    written = with_hand(bare, stored_hand(complete))
    assert set(written) == set(complete)
    for key, array in complete.items():
        assert written[key].dtype == array.dtype, key
        atol = 1e-6 * np.abs(array).max() if key.endswith("_centers") else 0
        np.testing.assert_allclose(written[key], array, rtol=0, atol=atol, err_msg=key)


def test_written_without_a_hand_it_holds_nothing_of_mano(read):
    config, params, batch_stats = read
    written = to_torch("hand_pose", params, batch_stats, config)
    assert not [key for key in written if "mano" in key.lower() or key.startswith("loss_fn.")]


def test_a_folder_becomes_a_run_and_the_run_the_same_file(
    checkpoint, imported, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)  # the run's folder gets the hand
    config = dataclasses.replace(
        SMALL,
        backbone=dataclasses.replace(SMALL.backbone, width=64, num_heads=1),
        handec=dataclasses.replace(
            SMALL.handec, num_head=1, dim_head=64, width=64, heatmap_resolution=(5, 5, 5)
        ),
    )
    state_dict = to_torch("hand_pose", *drawn_variables(config), config)
    state_dict = with_hand(state_dict, stored_hand(checkpoint))
    file = tmp_path / "checkpoint-3000" / "model.safetensors"
    file.parent.mkdir()
    save_safetensors(file, state_dict, metadata={"format": "pt"})
    run = imported("hand_pose", file.parent)
    assert run.step == 3000
    assert run.config.network == config
    export_torch(run, tmp_path / "back")
    written, metadata = load_safetensors(tmp_path / "back/checkpoint-3000/model.safetensors")
    assert metadata == {"format": "pt"}
    assert set(written) == set(state_dict)
    jax.tree.map(np.testing.assert_array_equal, written, state_dict)


def test_arrays_of_the_loss_and_wrappers_of_keys_change_nothing(read, complete):
    config, params, _ = read
    wrapped = {f"module.{key}": array for key, array in complete.items()}
    _, again, _ = from_torch("hand_pose", wrapped, config)
    kernel = params["handec"]["transformer"]["layers_1"]["mlp"]["linear1"]["kernel"]
    other = again["handec"]["transformer"]["layers_1"]["mlp"]["linear1"]["kernel"]
    np.testing.assert_array_equal(kernel, other)


def test_hand_inside_is_the_one_that_was_put_in(checkpoint, golden):
    hand, mano = stored_hand(checkpoint), golden("hand_pose/mano_lbs")
    assert isinstance(hand, HandModel)
    theirs = {"joint_regressor": "joint_regressor_21", "faces": "f"}
    for name in HandModel.__dataclass_fields__:
        want = mano[f"mano/{theirs.get(name, name)}"]
        np.testing.assert_allclose(getattr(hand, name), want, rtol=1e-6, err_msg=name)


def test_hand_inside_can_be_kept_as_a_mano_file(checkpoint, tmp_path):
    hand, file, regressor = stored_hand(checkpoint), tmp_path / "hand.npz", tmp_path / "joints.npy"
    write_hand(file, hand, regressor=regressor)
    read = load_mano(file, regressor=regressor)
    for name in HandModel.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(read, name), getattr(hand, name), err_msg=name)


def test_missing_and_unexpected_tensors_are_all_listed(checkpoint):
    broken = {k: a for k, a in checkpoint.items() if k != "handec.decshape.bias"}
    broken["handec.extra"] = np.zeros(3, np.float32)
    with pytest.raises(ConversionError, match=r"(?s)handec\.decshape\.bias.*handec\.extra"):
        from_torch("hand_pose", broken, HEADS)


def test_heads_that_do_not_fit_are_asked_for(checkpoint):
    with pytest.raises(ConversionError, match=r"handec\.num_head"):
        from_torch("hand_pose", checkpoint, {"backbone": {"num_heads": 2}})


def test_other_bins_than_configured_are_an_error(read, checkpoint):
    moved = checkpoint | {"handec.deccam.x_centers": checkpoint["handec.deccam.x_centers"] + 1.0}
    with pytest.raises(ConversionError, match="x_centers"):
        from_torch("hand_pose", moved, read[0])


def test_other_bins_become_the_configurations(checkpoint):
    key = "handec.deccam.x_centers"
    model, _, _ = from_torch("hand_pose", checkpoint | {key: checkpoint[key] + 1.0}, HEADS)
    first, last = model.config.ranges[0]
    np.testing.assert_allclose([first, last], checkpoint[key][[0, -1]] + 1.0, rtol=1e-6)


def test_unknown_fields_of_a_configuration_are_named(checkpoint):
    with pytest.raises(ValueError, match=r"MODEL\.handec.*num_heads.*num_head"):
        from_torch("hand_pose", checkpoint, {"handec": {"num_heads": 3}})


def test_no_file_is_a_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="checkpoint-STEP"):
        import_torch(tmp_path, tmp_path / "run")


VARIANTS = {
    "dense": {"persp_info_embed": PerspectiveConfig(type="dense", num_sample=2)},
    "none": {"persp_info_embed": PerspectiveConfig(type="none"), "drop_cls": True},
    "infused": {"infusion_layer": (0, 1), "joint_type": "6d"},
    "denormed": {"handec": dataclasses.replace(SMALL.handec, denorm_output="statistics.npz")},
    "one_head": {"handec": dataclasses.replace(SMALL.handec, num_head=1, dim_head=8)},
    "registers": {"backbone": dataclasses.replace(SMALL.backbone, num_registers=4)},
    "stage_2": {"temporal": TemporalConfig(layers=1, heads=2), "num_frame": 3},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_comes_back_as_it_was(name):
    config = dataclasses.replace(SMALL, **VARIANTS[name])
    params, batch_stats = drawn_variables(config)
    state_dict = to_torch("hand_pose", params, batch_stats, config)
    model, *again = from_torch("hand_pose", state_dict, config)
    assert model.config == config
    jax.tree.map(np.testing.assert_array_equal, again, [params, batch_stats])
