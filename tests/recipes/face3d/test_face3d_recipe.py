"""The face3d recipe's wiring: presets, loss, checkpoints of the original, messages."""

import importlib.util
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.convert import load_torch
from jaxrecipes.losses import composite_loss
from jaxrecipes.recipes.face3d.config import Face3DRunConfig, LossConfig
from jaxrecipes.recipes.face3d.network_config import Face3DConfig
from jaxrecipes.runs.recipe_module import load_recipe
from jaxrecipes.runs.trained import open_trained
from jaxrecipes.schedules import evaluate
from jaxrecipes.train.config import OptimConfig
from jaxrecipes.train.recipe import DataInfo

FACE3D = load_recipe("face3d")

ROOT = pathlib.Path(__file__).parents[3]
SMALL = Face3DConfig(d_model=24, nhead=2, num_layers=1, dim_feedforward=8)


@pytest.fixture(scope="module")
def presets():
    spec = importlib.util.spec_from_file_location("face3d_presets", ROOT / "configs/face3d.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PRESETS


@pytest.fixture
def original(golden):
    return golden.path / "face3d/original_checkpoint_epoch_10.pth"


def test_presets_are_the_source_documents(presets):
    def numbers(name):
        config = presets[name]
        FACE3D.check_config(config)
        lr, loss = config.plateau, config.loss
        rate, patience = config.optim.learning_rate, config.early_stopping.patience_epochs
        weights = (loss.mse_weight, loss.cosine_weight)
        plateau = (lr.factor, lr.patience_epochs, config.optim.min_learning_rate)
        return rate, *weights, *plateau, patience

    assert numbers("recommended") == (5e-5, 0.3, 0.7, 0.2, 3, 1e-7, 15)
    assert presets["quick_start"] == presets["recommended"]
    assert numbers("aggressive") == (2e-5, 0.2, 0.8, 0.1, 2, 5e-8, 10)
    assert presets["aggressive"].model.keypoints
    assert presets["aggressive"].model.use_pose_attention
    assert numbers("conservative") == (5e-5, 0.4, 0.6, 0.3, 4, 1e-7, 20)
    assert numbers("before") == (1e-4, 0.5, 0.5, 0.5, 5, 0.0, None)


@pytest.mark.parametrize("kind", ["combined", "mse", "cosine"])
def test_loss_is_the_originals_and_extensions_that_are_off_do_not_change_it(golden, kind):
    arrays = golden("face3d/losses")
    pred, target = (jnp.asarray(arrays[f"combined/a/{name}"]) for name in ("pred", "target"))
    batch = {"tgt": target, "pose": jnp.full((len(pred), 3), 40.0)}
    values = {}
    for name, extra in (("off", {}), ("scheduled", {"focal_gamma": "constant(0)"})):
        config = Face3DRunConfig(model=SMALL, loss=LossConfig(kind=kind, **extra))
        recipe = FACE3D.make_recipe(config, DataInfo(steps_per_epoch=1))
        hparams = evaluate(jax.tree.map(jnp.float32, dict(recipe.hparams)), jnp.int32(0))
        values[name], _ = composite_loss(recipe.loss_terms(pred, batch, hparams), hparams)
    key = {"combined": "0.3_0.7/value"}.get(kind, kind)
    np.testing.assert_allclose(values["off"], arrays[f"combined/a/{key}"], rtol=1e-5)
    np.testing.assert_allclose(values["scheduled"], values["off"], rtol=1e-6)


@pytest.mark.parametrize("trace", ["head_defaults", "doc_basic", "doc_aggressive", "no_warmup"])
def test_warm_up_and_cosine_follow_the_original_epoch_by_epoch(golden, trace):
    arrays, prefix = golden("face3d/schedules"), f"epoch_schedule/warmup_cosine/{trace}"
    args = golden.json(arrays[f"{prefix}/args"])
    warmup, after = args["warmup_epochs"], args["epochs"] - args["warmup_epochs"]
    schedule = f"cosine(rate, steps={after}, end={args['eta_min']})"
    if warmup:
        rise = f"linear({args['warmup_lr']}, rate, steps={warmup})"
        schedule = f"join(({rise}, {schedule}), ({warmup},))"
    config = Face3DRunConfig(
        epochs=args["epochs"],
        optim=OptimConfig(learning_rate=args["lr"], schedule=f"every({schedule}, epoch)"),
        model=SMALL,
    )
    schedule = FACE3D.make_recipe(config, DataInfo(steps_per_epoch=2)).hparams["learning_rate"]
    steps = 2 * jnp.arange(args["epochs"])
    rates = jax.vmap(lambda step: evaluate({"rate": schedule}, step)["rate"])(steps)
    np.testing.assert_allclose(rates, arrays[f"{prefix}/lr_used"], rtol=2e-5)


def test_an_imported_run_stands_where_the_original_stood_and_goes_back(original, tmp_path):
    FACE3D.import_torch(original, tmp_path / "run", use_torch=False)
    trained = open_trained(tmp_path / "run")
    want = load_torch(original)
    assert trained.step == 60
    assert trained.metadata["history"][-1]["epoch"] == 10  # the file counts from 0
    assert float(trained.hparams["learning_rate"]) == pytest.approx(1e-5)
    stopping = trained.state.early_stopping
    assert int(stopping.num_bad_epochs) == want["epochs_without_improvement"]
    FACE3D.export_torch(trained, tmp_path / "back.pth", weights="raw")
    got = load_torch(tmp_path / "back.pth")
    assert list(got) == list(want)
    assert list(got["model_state_dict"]) == list(want["model_state_dict"])
    same = ("epoch", "model_state_dict", "optimizer_state_dict", "train_loss_history")
    for name in (*same, "val_loss_history", "val_cosine_sim_history", "best_val_loss"):
        jax.tree.map(np.testing.assert_array_equal, got[name], want[name])
    jax.tree.map(
        lambda x, y: x == y or np.testing.assert_allclose(x, y, rtol=1e-6),
        got["scheduler_state_dict"],
        want["scheduler_state_dict"],
    )
    kept = "lr epochs batch_size d_model nhead num_decoder_layers dim_feedforward dropout"
    kept += " use_pose_attention model_type loss_type mse_weight cosine_weight weight_decay"
    kept += " scheduler_type warmup_epochs warmup_lr cosine_eta_min early_stopping_patience"
    for name in kept.split():
        assert got["args"][name] == want["args"][name], name


def test_a_file_that_is_something_else_is_refused(golden, imported):
    with pytest.raises(ValueError, match="no checkpoint of the face3d program"):
        imported("face3d", golden.path / "ocec/original_checkpoint__baseline.pt")


COUNTING = {"base_lrs": [1e-3], "last_epoch": 10, "_last_lr": [5e-4]}
SCHEDULES = {
    "every(step_decay(rate, step_size=4, gamma=0.5), epoch)": {"step_size": 4, "gamma": 0.5},
    "every(cosine(rate, steps=20, end=1e-06), epoch)": {"T_max": 20, "eta_min": 1e-6},
}


@pytest.mark.parametrize("text", SCHEDULES)
def test_a_scheduler_that_counts_becomes_a_schedule_and_comes_back(
    original, imported, tmp_path, text
):
    state = SCHEDULES[text] | COUNTING
    run = imported("face3d", load_torch(original) | {"scheduler_state_dict": state})
    assert run.config.optim.schedule == text
    FACE3D.export_torch(run, tmp_path / "back.pth", weights="raw")
    got = load_torch(tmp_path / "back.pth")["scheduler_state_dict"]
    assert {name: got[name] for name in SCHEDULES[text]} == SCHEDULES[text]
    assert got["last_epoch"] == 10


def test_the_loss_scale_of_mixed_precision_goes_on_and_comes_back(original, imported, tmp_path):
    scaler = {"scale": 1024.0, "growth_factor": 2.0, "backoff_factor": 0.5}
    scaler |= {"growth_interval": 2000, "_growth_tracker": 7}
    run = imported("face3d", load_torch(original) | {"scaler_state_dict": scaler})
    assert run.config.precision == "float16"
    FACE3D.export_torch(run, tmp_path / "back.pth", weights="raw")
    assert load_torch(tmp_path / "back.pth")["scaler_state_dict"] == scaler


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"model_type": "decoder_onyl"}, "did you mean 'decoder_only'"),
        ({"nhead": 7}, "7 attention heads do not divide d_model 512"),
        ({"model_type": "angle_warping", "d_model": 20}, "always has 8"),
        ({"model_type": "angle_warping", "use_keypoints": True}, "belong to model_type"),
        ({"dropout": 1.5}, "dropout is 1.5; expected 0 <= dropout < 1"),
    ],
)
def test_wrong_models_are_named(model, message):
    with pytest.raises(ValueError, match=message):
        Face3DConfig(**model)


def test_the_fallback_of_the_text_encoder_needs_no_clip():
    model = Face3DConfig(model_type="decoder_only_clip", use_clip_pose_encoder=False)
    FACE3D.check_config(Face3DRunConfig(model=model))


def test_inputs_without_poses_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 24), np.float32))
    trained = types.SimpleNamespace(config=Face3DRunConfig(model=SMALL))
    with pytest.raises(ValueError, match="needs the pose of each face"):
        FACE3D.load_inputs(trained, [tmp_path / "x.npy"])
