"""Runs of hand_pose on rendered hands: they learn, go on, validate on the same samples; stage 2."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.data.feed import fetch
from jaxrecipes.data.fingerprint import of_split
from jaxrecipes.interrupt import Interrupt
from jaxrecipes.models.dinov2.config import Dinov2Config
from jaxrecipes.optim import leaves_by_path
from jaxrecipes.recipes.hand_pose.config import (
    AugmentConfig,
    BackboneSource,
    DropoutConfig,
    HandDataConfig,
    HandRunConfig,
    LossConfig,
)
from jaxrecipes.recipes.hand_pose.network_config import (
    HandDecoderConfig,
    HandPoseConfig,
    PerspectiveConfig,
    TemporalConfig,
)
from jaxrecipes.runs.init_from import with_init_from
from jaxrecipes.runs.recipe_module import load_recipe
from jaxrecipes.runs.trained import open_trained
from jaxrecipes.sharding import make_mesh
from jaxrecipes.train.config import LoopConfig, OptimConfig
from jaxrecipes.train.fit import fit
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.run_data import make_run_data

HAND_POSE = load_recipe("hand_pose")

CONFIG = HandRunConfig(
    seed=1,
    steps=24,
    data=HandDataConfig(
        batch_size=8,
        eval_batch_size=8,
        embedded_train=24,
        embedded_val=10,
        embedded_image_size=32,
        embedded_max_angle=30.0,
    ),
    optim=OptimConfig(
        learning_rate=1e-2,
        schedule="warmup_cosine(rate, warmup_steps=0, total_steps=run)",
        clip_norm=1.0,
    ),
    loop=LoopConfig(
        steps_per_call=4, log_every_steps=4, validate_every_steps=8, compilation_cache=""
    ),
    backbone=BackboneSource(size="custom", learning_rate=1e-2),
    model=HandPoseConfig(
        backbone=Dinov2Config(width=16, depth=1, num_heads=2, mlp_ratio=2.0, image_size=28),
        img_size=28,
        persp_info_embed=PerspectiveConfig(type="none"),
        handec=HandDecoderConfig(
            num_layer=1, num_head=2, dim_head=8, dim_mlp=16, heatmap_resolution=(16,)
        ),
    ),
    dropout=DropoutConfig(rate=0.2, warmup_steps=12),
    loss=LossConfig(lambda_rel=0.05, heatmap_sigma=1.5),
    augment=AugmentConfig(in_plane_rot_max=0.1, pixels="none"),
)


def data_of(config, workdir=None):
    splits = HAND_POSE.load_data(config, report_dir=workdir)
    return {name: split.arrays for name, split in splits.items()}


def with_drawn_weights(recipe):
    """The recipe with initial weights of numpy, which nothing needs to be compiled for."""
    params, batch_stats = jax.eval_shape(recipe.init, jax.random.key(0))
    assert not batch_stats
    rng = np.random.default_rng(0)
    drawn = jax.tree.map(lambda x: np.float32(0.3 * rng.standard_normal(x.shape)), params)
    return dataclasses.replace(recipe, init=lambda key: (drawn, {}))


def simpler(recipe):
    """The recipe with the plain crop and a loss of the pose alone, which compile in half the
    time."""

    def pose_error(outputs, batch, hparams):
        return {"theta": jnp.square(outputs["pose"] - batch["mano_pose"]).mean(axis=(1, 2))}

    return dataclasses.replace(
        recipe,
        augment=lambda key, batch, hparams: recipe.preprocess(batch),
        loss_terms=pose_error,
        metrics=lambda outputs, batch, hparams: {},
        step_metrics=(),
        log_line=None,
    )


def run_of(config, arrays, workdir, programs=None):
    """How a run ended, and its programs for others that differ in numbers alone."""
    mesh = make_mesh()
    data = make_run_data(arrays, config, mesh)
    recipe = with_drawn_weights(
        HAND_POSE.make_recipe(config, DataInfo(steps_per_epoch=data.steps_per_epoch))
    )
    if config.init_from is not None:
        recipe = with_init_from(simpler(recipe), config.init_from)
    programs = programs or Programs(
        recipe, data, steps_per_call=config.loop.steps_per_call, mesh=mesh
    )
    return fit(recipe, data, config, workdir, programs=programs), programs


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """24 updates: (folder, data, how they ended, compiled programs)."""
    workdir = tmp_path_factory.mktemp("run")
    arrays = data_of(CONFIG, workdir)
    finished, programs = run_of(CONFIG, arrays, workdir)
    return workdir, arrays, finished, programs


def history(workdir):
    entries = json.loads((workdir / "history.json").read_text())
    return [{name: e[name] for name in ("step", "train", "val", "hparams")} for e in entries]


def test_some_steps_lower_the_loss_and_the_error(undisturbed):
    first, *_, last = history(undisturbed[0])
    for name in ("loss", "micro_mpjpe_rel"):
        assert last["train"][name] < first["train"][name], name
        assert last["val"][name] < first["val"][name], name


def test_dropout_begins_at_its_step_and_compiles_nothing(undisturbed):
    workdir, _, finished, _ = undisturbed
    rates = {entry["step"]: entry["hparams"]["dropout_rate"] for entry in history(workdir)}
    assert rates == pytest.approx({8: 0.0, 16: 0.2, 24: 0.2})
    assert finished.summary["compilations"] == {"train": 1, "eval": 1}


@pytest.mark.parametrize("after_calls", [1, 4])
def test_a_stopped_run_goes_on_bit_for_bit(undisturbed, tmp_path, monkeypatch, after_calls):
    """Stopped before dropout begins, and after that."""
    workdir, arrays, want, programs = undisturbed
    data_of(CONFIG, tmp_path)
    calls = iter(range(100))
    monkeypatch.setattr(Interrupt, "requested", lambda self: next(calls) >= after_calls)
    assert run_of(CONFIG, arrays, tmp_path, programs)[0] is None
    monkeypatch.undo()
    finished = run_of(CONFIG, data_of(CONFIG, tmp_path), tmp_path, programs)[0]
    assert history(tmp_path) == history(workdir)
    jax.tree.map(np.testing.assert_array_equal, finished.params, want.params)


def validated_on(config):
    """What an evaluation of the validation split sees, sample by sample."""
    val = make_run_data(data_of(config), config, make_mesh()).val
    assert val is not None
    seen = []
    for item, mask in val.feed.evaluation_items(val.batch_size):
        batch = jax.device_get(fetch(val.feed.source, item))
        seen.append({name: array[np.asarray(mask) > 0] for name, array in batch.items()})
    return {name: np.concatenate([batch[name] for batch in seen]) for name in seen[0]}


def test_runs_of_other_settings_validate_on_the_same_samples():
    other = dataclasses.replace(
        CONFIG,
        seed=7,
        data=dataclasses.replace(CONFIG.data, batch_size=4, eval_batch_size=3, embedded_train=9),
        dropout=DropoutConfig(rate=0.5, warmup_steps=0),
    )
    one, two = validated_on(CONFIG), validated_on(other)
    assert len(one["left"]) == 10
    for name, array in one.items():
        np.testing.assert_array_equal(two[name], array, err_msg=name)
    trains = [data_of(config)["train"]["joint_cam"][:9] for config in (CONFIG, other)]
    assert not np.array_equal(*trains)


@pytest.mark.parametrize("change", [{"val_seed": 43}, {"embedded_val": 9}])
def test_other_validation_samples_have_another_fingerprint(change):
    other = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, **change))
    vals = [HAND_POSE.load_data(config)["val"] for config in (CONFIG, other)]
    prints = [of_split(val.identity) for val in vals]
    assert prints[0] != prints[1]


def test_stage_2_trains_the_refiner_alone(undisturbed, tmp_path):
    workdir, *_ = undisturbed
    config = dataclasses.replace(
        CONFIG,
        steps=2,
        select_metric="loss",
        init_from=str(workdir),
        optim=dataclasses.replace(CONFIG.optim, frozen=("^(?!temporal_refiner/)",)),
        backbone=BackboneSource(size="custom", learning_rate=None),
        model=dataclasses.replace(
            CONFIG.model, num_frame=3, temporal=TemporalConfig(layers=1, heads=2)
        ),
    )
    arrays = {"train": data_of(config)["train"]}  # validation would be one more program
    finished = run_of(config, arrays, tmp_path)[0]
    first_stage = leaves_by_path(open_trained(workdir).weights()[0])
    params = leaves_by_path(finished.params)
    new = {path for path in params if path.startswith("temporal_refiner/")}
    assert set(params) == set(first_stage) | new
    for path, leaf in first_stage.items():
        np.testing.assert_array_equal(params[path], leaf, err_msg=path)
    drawn = with_drawn_weights(HAND_POSE.make_recipe(config, DataInfo(steps_per_epoch=1))).init(
        None
    )[0]
    for path, leaf in leaves_by_path(drawn).items():
        if path in new:
            assert np.any(params[path] != leaf), path
