"""Universal face weights and checkpoints, both ways, to the bit."""

import numpy as np
import pytest

from jaxrecipes.convert import ConversionError, from_torch, load_torch, to_torch
from jaxrecipes.recipes.universal_face.original import export_torch, loss_to_torch

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


def test_a_checkpoint_comes_back_to_the_bit(golden, imported, tmp_path):
    export_torch(imported("universal_face", golden.path / ORIGINAL), tmp_path / "x.pth")
    want, got = load_torch(golden.path / ORIGINAL), load_torch(tmp_path / "x.pth")
    assert set(want) <= set(got)
    assert list(got["model_state_dict"]) == list(want["model_state_dict"])
    for key, value in want["model_state_dict"].items():
        np.testing.assert_array_equal(got["model_state_dict"][key], value)
    assert got["scheduler_state_dict"].keys() == want["scheduler_state_dict"].keys()
    assert {name: got["args"][name] for name in ("lambda_id", "lr", "dropout")} == {
        name: want["args"][name] for name in ("lambda_id", "lr", "dropout")
    }
    assert got["epoch"] == want["epoch"] == 10
    want, got = want["optimizer_state_dict"], got["optimizer_state_dict"]
    assert got["param_groups"] == want["param_groups"]
    for index, entry in want["state"].items():
        for name, value in entry.items():
            np.testing.assert_array_equal(got["state"][index][name], value)


def test_the_loss_projections_are_where_the_originals_diagnostics_look(golden, imported, tmp_path):
    run = imported("universal_face", golden.path / ORIGINAL)
    export_torch(run, tmp_path / "x.pth")
    found = load_torch(tmp_path / "x.pth")["criterion_state_dict"]
    kernels = run.state.params["loss_projections"]
    assert set(found) == {"id_to_feat_proj.weight", "feat_to_id_proj.weight"}
    np.testing.assert_array_equal(
        found["id_to_feat_proj.weight"].T, kernels["id_to_feat"]["kernel"]
    )
    again = imported("universal_face", tmp_path / "x.pth")
    for name, branch in again.state.params["loss_projections"].items():
        np.testing.assert_array_equal(branch["kernel"], kernels[name]["kernel"])


def test_the_step_decay_of_old_runs_is_read_and_written(golden, imported, tmp_path):
    state = {"step_size": 4, "gamma": 0.5, "base_lrs": [0.002], "last_epoch": 10}
    loaded = load_torch(golden.path / ORIGINAL)
    loaded["scheduler_state_dict"] = state | {"_last_lr": [5e-4]}
    loaded["args"]["lr"] = 0.002
    run = imported("universal_face", loaded)
    assert run.config.optim.schedule == "every(step_decay(rate, step_size=4, gamma=0.5), epoch)"
    export_torch(run, tmp_path / "again.pth")
    got = load_torch(tmp_path / "again.pth")["scheduler_state_dict"]
    assert {name: got[name] for name in state} == state


def test_a_scheduler_that_no_run_goes_on_with_is_refused(golden, imported):
    loaded = load_torch(golden.path / ORIGINAL) | {"scheduler_state_dict": {"last_epoch": 3}}
    with pytest.raises(ConversionError, match=r"FILE\.pt: the scheduler's state has no '_last_lr'"):
        imported("universal_face", loaded)


def test_another_file_is_refused(imported):
    with pytest.raises(ValueError, match="no checkpoint of the universal face program"):
        imported("universal_face", {"model_state_dict": {}})
