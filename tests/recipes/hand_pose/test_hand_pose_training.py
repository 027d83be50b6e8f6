"""The recipe's own steps against the original's, and the schedules that its presets run by."""

import dataclasses
import pathlib

import jax
import numpy as np
import optax
import pytest

from jaxrecipes.config import from_dict, load_config
from jaxrecipes.recipes.hand_pose import recipe as hand_recipe
from jaxrecipes.recipes.hand_pose.config import (
    SMALL,
    BackboneSource,
    DropoutConfig,
    HandRunConfig,
    LossConfig,
)
from jaxrecipes.recipes.hand_pose.original import from_torch, to_torch
from jaxrecipes.recipes.hand_pose.original_hand import stored_hand
from jaxrecipes.train.config import OptimConfig
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.state import create_state
from jaxrecipes.train.step import make_train_step

FILE = str(pathlib.Path(__file__).parents[3] / "configs/hand_pose.py")
HEADS = {"backbone": {"num_heads": 2}, "handec": {"num_head": 3}}
LABELS = ("mano_pose", "mano_shape", "mano_valid", "joint_cam", "joint_rel", "joint_valid")
CAMERA = ("patch_bbox", "focal", "princpt", "timestamp")


def preprocessed(arrays, prefix):
    """A batch as augmentation leaves it."""
    batch = {name: arrays[f"{prefix}{name}"] for name in LABELS + CAMERA}
    return batch | {"patch": np.moveaxis(arrays[f"{prefix}patches"], 2, -1)}


@pytest.fixture(scope="module")
def trained(golden):
    """Eight updates on two batches in turn: (arrays, network, params, what each step logged)."""
    arrays = golden("hand_pose/posenet_train_seed")
    weights = golden("hand_pose/posenet_weights") | golden("hand_pose/posenet_weights_persp")
    model, params, _ = from_torch(weights, HEADS)
    cfg = {name: float(arrays[f"cfg/{name}"]) for name in ("lr", "blr", "wd", "warm", "total")}
    config = HandRunConfig(
        steps=int(cfg["total"]),
        optim=OptimConfig(
            learning_rate=cfg["lr"],
            schedule=f"warmup_cosine(rate, warmup_steps={cfg['warm']}, total_steps=run, "
            f"num_cycles={float(arrays['cfg/cyc'])})",
            weight_decay=cfg["wd"],
            clip_norm=1.0,
        ),
        backbone=BackboneSource(size="custom", learning_rate=cfg["blr"]),
        model=model.config,
        dropout=DropoutConfig(rate=0.0),
        loss=LossConfig(fk_grad=False, norm_eps=0.0),
    )
    patch = pytest.MonkeyPatch()
    patch.setattr(hand_recipe, "hand_model", lambda source: stored_hand(weights))
    recipe = hand_recipe.make_recipe(config, DataInfo(steps_per_epoch=4))
    patch.undo()
    recipe = dataclasses.replace(
        recipe, init=lambda key: (params, {}), augment=lambda key, batch, hparams: batch
    )
    state = jax.tree.map(jax.numpy.asarray, create_state(recipe, jax.random.key(0)))
    step = jax.jit(make_train_step(recipe))
    batches = [preprocessed(arrays, f"in/batch{i}/") for i in range(2)]
    logs = []
    for i in range(8):
        state, metrics = step(state, batches[i % 2])
        logs.append(jax.device_get(metrics.log))
    return arrays, recipe, model, jax.device_get(state.params), logs


def test_losses_norms_and_rates_are_the_originals(trained):
    arrays, recipe, _, _, logs = trained
    np.testing.assert_allclose([log["loss"] for log in logs], arrays["out/loss"], rtol=1e-5)
    norms = [log["grad_norm"] for log in logs]
    np.testing.assert_allclose(norms, arrays["out/grad_norm_before_clip"], rtol=1e-4)
    rates = [log["hparams/learning_rate"] for log in logs]
    np.testing.assert_allclose(rates, arrays["out/lr_used"][:, 0], rtol=1e-6)
    factor = logs[0]["hparams/backbone_rate_factor"]
    np.testing.assert_allclose(np.array(rates) * factor, arrays["out/lr_used"][:, 1], rtol=1e-6)
    logged = [float(recipe.hparams["learning_rate"](step)) for step in range(1, 9)]
    np.testing.assert_allclose(logged, arrays["out/lr_logged"][:, 0], rtol=1e-6)


def test_parameters_end_where_the_originals_do(trained):
    arrays, _, model, params, _ = trained
    written = to_torch(params, {}, model.config)
    for key in (key for key in arrays if key.startswith("final/")):
        want = arrays[key]
        np.testing.assert_allclose(
            written[key[6:]].reshape(want.shape), want, atol=1e-5, err_msg=key
        )


def test_the_log_line_has_the_source_documents_form(trained):
    _, recipe, _, _, logs = trained
    line = recipe.log_line(7, 20, {name: float(value) for name, value in logs[6].items()})
    assert line.startswith("7/20 lr=9.1509e-04 dropout=0.000 total=")
    names = [part.split("=")[0] for part in line.split()[1:]]
    terms = ["theta", "shape", "trans", "joint_rel", "joint_img"]
    errors = ["mpjpe", "mpjpe_rel", "mpvpe", "mpvpe_rel", "rte"]
    assert names == [
        *("lr", "dropout", "total"),
        *(f"loss_{term}" for term in terms),
        *(f"micro_{error}" for error in errors),
    ]


@pytest.mark.parametrize("preset", ["stage1", "stage1_seed"])
def test_rates_and_dropout_follow_the_source_documents_schedules(golden, preset):
    arrays = golden("hand_pose/schedules")
    config = dataclasses.replace(
        load_config(f"{FILE}:{preset}", []), backbone=BackboneSource(size="custom"), model=SMALL
    )
    hparams = hand_recipe.make_recipe(config, DataInfo(steps_per_epoch=3000)).hparams
    steps = arrays["in/steps"]
    rates = np.array([hparams["learning_rate"](int(step)) for step in steps])
    np.testing.assert_allclose(rates, arrays["out/lr_regressor"], rtol=1e-5, atol=1e-10)
    factor = float(hparams["backbone_rate_factor"](0))
    np.testing.assert_allclose(rates * factor, arrays["out/lr_backbone"], rtol=1e-5, atol=1e-11)
    at = arrays["in/dropout_steps"]
    dropout = np.array([hparams["dropout_rate"](int(step)) for step in at])
    np.testing.assert_allclose(dropout, arrays["out/dropout_at_steps"], rtol=1e-6)
    others = np.array([hparams["output_dropout_rate"](int(step)) for step in at])
    want = np.full(len(at), 0.1) if preset == "stage1_seed" else arrays["out/dropout_at_steps"]
    np.testing.assert_allclose(others, want, rtol=1e-6)


def test_dropout_may_rise_slowly():
    config = dataclasses.replace(
        load_config(FILE, []), dropout=DropoutConfig(rate=0.2, warmup_steps=10, ramp_steps=4)
    )
    rate = hand_recipe.make_recipe(config, DataInfo(steps_per_epoch=5)).hparams["dropout_rate"]
    got = [float(rate(step)) for step in (0, 9, 10, 12, 14, 100)]
    np.testing.assert_allclose(got, [0, 0, 0, 0.1, 0.2, 0.2], atol=1e-6)


@pytest.mark.parametrize(("scope", "other"), [("all", 0.3), ("listed", 0.1)])
def test_another_schedule_of_dropout_is_that_of_all_in_its_scope(scope, other):
    stored = {
        "dropout": {"scope": scope},
        "schedules": {"dropout_rate": "0.3"},
        "backbone": {"size": "custom"},
    }
    config = from_dict(HandRunConfig, stored)  # as version 0.1 said it
    hparams = hand_recipe.make_recipe(config, DataInfo(steps_per_epoch=5)).hparams
    got = [float(hparams[name](0)) for name in ("dropout_rate", "output_dropout_rate")]
    np.testing.assert_allclose(got, [0.3, other])


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_any_optimizer_moves_the_backbone_by_its_own_rate(optimizer):
    config = HandRunConfig(
        optim=OptimConfig(optimizer=optimizer, learning_rate=0.1, weight_decay=0.0, eps=0.0),
        backbone=BackboneSource(size="custom", learning_rate=0.01),
    )
    recipe = hand_recipe.make_recipe(config, DataInfo(steps_per_epoch=5))
    hparams = {name: value(5000) for name, value in recipe.hparams.items()}
    params = {"backbone": {"w": np.ones(2)}, "handec": {"w": np.ones(2)}}
    tx, grads = recipe.make_tx(hparams), jax.tree.map(lambda x: 0.5 * x, params)
    updates, state = tx.update(grads, tx.init(params), params)
    step = 0.05 if optimizer == "sgd" else 0.1
    np.testing.assert_allclose(updates["handec"]["w"], -step, rtol=1e-5)
    np.testing.assert_allclose(updates["backbone"]["w"], -0.1 * step, rtol=1e-5)
    assert (optax.tree.get(state, "mu") is None) == (optimizer == "sgd")
