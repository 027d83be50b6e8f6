"""Universal face weights and checkpoints, both ways, to the bit."""

import numpy as np
import pytest

from jaxrecipes.convert import ConversionError, from_torch, load_torch, save_torch, to_torch
from jaxrecipes.convert.torch_optim import PlateauNumbers
from jaxrecipes.recipes.universal_face.original_checkpoint import (
    StepDecay,
    read_checkpoint,
    write_checkpoint,
)
from jaxrecipes.recipes.universal_face.original_weights import loss_to_torch

ORIGINAL = "universal_face/original_checkpoint_epoch_10.pth"


def parts(golden):
    arrays = golden("universal_face/uf_a")
    model, loss = (
        {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        for prefix in ("sd/", "crit/")
    )
    return model, loss, golden.json(arrays["cfg"])


@pytest.mark.parametrize("prefix", ["", "criterion."])
def test_network_and_loss_come_back_to_the_bit(golden, prefix):
    model, loss, config = parts(golden)
    state_dict = model | {prefix + key: value for key, value in loss.items()}
    _, params, batch_stats = from_torch("universal_face", state_dict, config)
    back = to_torch("universal_face", params, batch_stats, config)
    assert list(back) == list(model)
    for key, value in (model | loss).items():
        np.testing.assert_array_equal((back | loss_to_torch(params))[key], value)


def test_absent_loss_projections_are_drawn_alike_and_said(golden, caplog):
    model, _, config = parts(golden)
    draws = []
    for _ in range(2):
        _, params, _ = from_torch(
            "universal_face", {f"module.{k}": v for k, v in model.items()}, config
        )
        draws.append(params["loss_projections"]["id_to_feat"]["kernel"])
    np.testing.assert_array_equal(draws[0], draws[1])
    assert 0.9 < np.abs(draws[0]).max() * np.sqrt(config["id_dim"]) <= 1.0
    assert "drawn anew" in caplog.text


def test_half_of_the_loss_projections_is_an_error(golden):
    model, loss, config = parts(golden)
    key = "id_to_feat_proj.weight"
    with pytest.raises(ConversionError, match=r"missing .*feat_to_id_proj\.weight"):
        from_torch("universal_face", model | {key: loss[key]}, config)


def test_a_checkpoint_of_the_original_is_read(golden):
    checkpoint = read_checkpoint(golden.path / ORIGINAL)
    assert (checkpoint.epoch, checkpoint.optimizer.count) == (10, 60)
    assert isinstance(checkpoint.scheduler, PlateauNumbers)
    assert checkpoint.scheduler.settings["mode"] == "max"
    assert checkpoint.best_val_cosine == checkpoint.scheduler.best
    assert checkpoint.projections_drawn
    assert checkpoint.args["lambda_id"] == 3.0


def test_a_checkpoint_comes_back_to_the_bit(golden, tmp_path):
    write_checkpoint(tmp_path / "x.pth", read_checkpoint(golden.path / ORIGINAL))
    want, got = load_torch(golden.path / ORIGINAL), load_torch(tmp_path / "x.pth")
    for name in want.keys() - {"model_state_dict", "optimizer_state_dict"}:
        assert got[name] == want[name], name
    assert list(got["model_state_dict"]) == list(want["model_state_dict"])
    for key, value in want["model_state_dict"].items():
        np.testing.assert_array_equal(got["model_state_dict"][key], value)
    want, got = want["optimizer_state_dict"], got["optimizer_state_dict"]
    assert got["param_groups"] == want["param_groups"]
    for index, entry in want["state"].items():
        for name, value in entry.items():
            np.testing.assert_array_equal(got["state"][index][name], value)


def test_the_loss_projections_are_where_the_originals_diagnostics_look(golden, tmp_path):
    checkpoint = read_checkpoint(golden.path / ORIGINAL)
    write_checkpoint(tmp_path / "x.pth", checkpoint)
    assert set(load_torch(tmp_path / "x.pth")["criterion_state_dict"]) == {
        "id_to_feat_proj.weight",
        "feat_to_id_proj.weight",
    }
    again = read_checkpoint(tmp_path / "x.pth")
    assert not again.projections_drawn
    np.testing.assert_array_equal(
        again.params["loss_projections"]["id_to_feat"]["kernel"],
        checkpoint.params["loss_projections"]["id_to_feat"]["kernel"],
    )


def test_the_step_decay_of_old_runs_is_read_and_written(golden, tmp_path):
    loaded = load_torch(golden.path / ORIGINAL)
    state = {
        "step_size": 4,
        "gamma": 0.5,
        "base_lrs": [0.002],
        "last_epoch": 10,
        "_last_lr": [5e-4],
    }
    save_torch(tmp_path / "old.pth", loaded | {"scheduler_state_dict": state})
    checkpoint = read_checkpoint(tmp_path / "old.pth")
    assert checkpoint.scheduler == StepDecay(step_size=4, gamma=0.5, learning_rate=0.002)
    write_checkpoint(tmp_path / "again.pth", checkpoint)
    got = load_torch(tmp_path / "again.pth")["scheduler_state_dict"]
    assert {name: got[name] for name in state} == state


def test_another_file_is_refused(golden, tmp_path):
    save_torch(tmp_path / "x.pth", {"model_state_dict": {}})
    with pytest.raises(ValueError, match="no checkpoint of the universal face program"):
        read_checkpoint(tmp_path / "x.pth")
