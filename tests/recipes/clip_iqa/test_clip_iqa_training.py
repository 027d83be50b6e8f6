"""clip_iqa's gradients and train steps against the original's, under each way of freezing."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxrecipes.convert.safetensors import load_safetensors
from jaxrecipes.losses import composite_loss
from jaxrecipes.models.clip.network import IMAGE_MEAN, IMAGE_STD
from jaxrecipes.optim import leaves_by_path, merge, parameter_paths, split_frozen
from jaxrecipes.recipes.clip_iqa import original as clip_iqa
from jaxrecipes.recipes.clip_iqa.config import (
    AugmentConfig,
    ClipSource,
    FreezeConfig,
    IqaRunConfig,
    LossConfig,
)
from jaxrecipes.recipes.clip_iqa.freezing import frozen_rules, unused_rules
from jaxrecipes.recipes.clip_iqa.original_rules import clip_iqa_rules
from jaxrecipes.recipes.clip_iqa.recipe import make_recipe
from jaxrecipes.sharding import make_mesh
from jaxrecipes.train import create_state, current_hparams, make_train_step
from jaxrecipes.train.config import OptimConfig
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.state import with_moments

MODES = {
    "full": FreezeConfig(),
    "freeze_clip": FreezeConfig(mode="clip"),
    "both_flags": FreezeConfig(mode="clip", layers=1),
    "partial_0": FreezeConfig(mode="partial", layers=0),
    "partial_1": FreezeConfig(mode="partial", layers=1),
    "partial_2": FreezeConfig(mode="partial", layers=2),
    "partial_3": FreezeConfig(mode="partial", layers=3),
    "partial_all": FreezeConfig(mode="partial", layers=99),
    "traditional_refine": FreezeConfig(),
}


@pytest.fixture(scope="module")
def original(golden):
    """Arrays and (network, params) of "iqa_residual" or "iqa_traditional"."""
    folder = golden.path / "clip_iqa/hf_tiny"
    clip = load_safetensors(folder / "model.safetensors")[0]
    arguments = {
        "clip_config": json.loads((folder / "config.json").read_text()),
        "refinement_heads": 4,
        "dropout": 0.0,
    }

    def load(name):
        arrays = golden(f"clip_iqa/{name}")
        heads = {key[3:]: array for key, array in arrays.items() if key.startswith("sd/")}
        state_dict = {f"clip.{key}": array for key, array in clip.items()} | heads
        model, params, _ = clip_iqa.from_torch(state_dict, arguments)
        return model.config, params

    return load


def batch_of(arrays, prefix=""):
    """The batch as the recipe takes it: pixels before their normalisation."""
    pixels = arrays[f"{prefix}pixel_values"].transpose(0, 2, 3, 1)
    return {
        "image": ((pixels * np.array(IMAGE_STD) + IMAGE_MEAN) * 255).astype(np.float32),
        "tokens": arrays[f"{prefix}input_ids"],
        "explanation_tokens": arrays[f"{prefix}exp_input_ids"],
        "quality": arrays[f"{prefix}q_target"][:, 0],
        "consistency": arrays[f"{prefix}c_target"][:, 0],
    }


def run_config(network, mode, *, explanations, **fields):
    return IqaRunConfig(
        clip=ClipSource(size="custom", custom=network.clip),
        heads=dataclasses.replace(network.heads, refinement_dropout=0.0),
        freeze=MODES[mode],
        loss=LossConfig(explanations=explanations),
        augment=AugmentConfig(enabled=False),
        **fields,
    )


def originals_keys(network, paths):
    """The original's names of parameters whose paths here are in `paths`."""
    names = set()
    for rule in clip_iqa_rules(network):
        if not paths.isdisjoint(rule.targets):
            names |= set(rule.sources)
    return names


def trained_paths(params, rules):
    return set(jax.tree.leaves(parameter_paths(split_frozen(params, rules)[0])))


@pytest.mark.parametrize("use", ["noexp", "exp"])
def test_the_rules_freeze_what_the_original_freezes_or_never_uses(golden, original, use):
    arrays = golden("clip_iqa/grads")
    for mode in arrays["modes"]:
        name = "iqa_traditional" if mode == "traditional_refine" else "iqa_residual"
        network, params = original(name)
        freeze = MODES[str(mode)]
        frozen = frozen_rules(freeze, network.clip, layers=freeze.layers)
        unused = unused_rules(network, explanations=use == "exp")
        trainable = originals_keys(network, trained_paths(params, frozen))
        trained = originals_keys(network, trained_paths(params, (*frozen, *unused)))
        want = {k: set(arrays[f"{mode}/{use}/{k}"]) for k in ("trainable", "unused_but_trainable")}
        assert trainable == want["trainable"], mode
        assert trainable - trained == want["unused_but_trainable"], mode
        assert trained == set(arrays[f"{mode}/{use}/names"]), mode


@pytest.mark.parametrize("mode", ["full", "partial_1", "traditional_refine"])
def test_loss_and_gradients_equal_the_originals(golden, original, mode):
    arrays = golden("clip_iqa/grads")
    network, params = original("iqa_traditional" if "trad" in mode else "iqa_residual")
    recipe = make_recipe(run_config(network, mode, explanations=True), DataInfo(steps_per_epoch=1))
    batch = batch_of(arrays)
    trainable, frozen = split_frozen(params, recipe.frozen)
    hparams = {name: schedule(0) for name, schedule in recipe.hparams.items()}

    @jax.jit
    @jax.value_and_grad
    def objective(trainable):
        outputs, _ = recipe.apply_fn(
            merge(trainable, frozen),
            {},
            recipe.inputs(batch),
            hparams=hparams,
            train=True,
            key=jax.random.key(0),
        )
        return composite_loss(recipe.loss_terms(outputs, batch, hparams), hparams)[0]

    loss, grads = objective(trainable)
    prefix = f"{mode}/exp"
    np.testing.assert_allclose(loss, arrays[f"{prefix}/loss"], atol=1e-6)
    full = merge(grads, jax.tree.map(np.zeros_like, frozen))
    theirs = clip_iqa.to_torch(full, {}, network)
    for name, norm in zip(arrays[f"{prefix}/names"], arrays[f"{prefix}/norms"], strict=True):
        got = np.linalg.norm(np.float64(theirs[name]))
        np.testing.assert_allclose(got, norm, atol=2e-6, err_msg=name)
    checked = [key for key in arrays if key.startswith(f"{prefix}/grad/")]
    assert checked
    for key in checked:
        got = theirs[key.removeprefix(f"{prefix}/grad/")]
        np.testing.assert_allclose(got, arrays[key], atol=1e-6, err_msg=key)


@pytest.mark.parametrize("name", ["full_exp", "freeze_clip", "partial_all"])
def test_ten_steps_equal_the_originals(golden, original, name):
    arrays = golden("clip_iqa/trajectory")
    network, params = original("iqa_residual")
    explanations = bool(arrays[f"{name}/loss_exp"].any())
    mode = name if name in MODES else "full"
    config = run_config(
        network,
        mode,
        explanations=explanations,
        steps=10,
        optim=OptimConfig(
            learning_rate=float(arrays["lr"]),
            schedule="cosine",
            warmup_ratio=float(arrays["warmup_ratio"]),
            weight_decay=float(arrays["weight_decay"]),
            clip_norm=float(arrays[f"{name}/max_grad_norm"]),
        ),
    )
    recipe = make_recipe(config, DataInfo(steps_per_epoch=10))
    state = create_state(dataclasses.replace(recipe, init=lambda key: (params, {})), SEED)
    state = state.replace(params=jax.tree.map(jax.numpy.asarray, params))
    step = jax.jit(make_train_step(recipe))
    batches = [batch_of(arrays, f"batch{i}/") for i in range(2)]
    for i in range(10):
        rate = current_hparams(recipe, state)["learning_rate"]
        np.testing.assert_allclose(rate, arrays[f"{name}/lr"][i], rtol=1e-5, atol=1e-9)
        state, metrics = step(state, batches[i % 2])
        np.testing.assert_allclose(metrics.log["loss"], arrays[f"{name}/loss"][i], atol=1e-5)
        np.testing.assert_allclose(
            metrics.log["grad_norm"], arrays[f"{name}/grad_norm"][i], rtol=2e-3, atol=1e-5
        )
    before, after = (clip_iqa.to_torch(tree, {}, network) for tree in (params, state.params))
    unchanged = {key for key in before if np.array_equal(before[key], after[key])}
    assert unchanged == set(arrays[f"{name}/unchanged"])
    finals = [key for key in arrays if key.startswith(f"{name}/final/")]
    assert finals
    for key in finals:
        got = after[key.removeprefix(f"{name}/final/")]
        np.testing.assert_allclose(got, arrays[key], atol=2e-4, err_msg=key)


def test_progressive_unfreezing_equals_the_originals(golden, original):
    arrays = golden("clip_iqa/trajectory")
    network, params = original("iqa_residual")
    steps = len(arrays["progressive/loss"])
    per_stage = steps // len(arrays["progressive/stages"])
    layers = map(int, arrays["progressive/stages"])
    config = dataclasses.replace(
        run_config(
            network,
            "full",
            explanations=False,
            steps=steps,
            optim=OptimConfig(
                learning_rate=float(arrays["lr"]),
                schedule="cosine",
                warmup_ratio=1.5 / steps,
                weight_decay=float(arrays["weight_decay"]),
                clip_norm=1.0,
            ),
        ),
        freeze=FreezeConfig(mode="partial", plan=dict(enumerate(layers, start=1))),
    )
    recipe = make_recipe(config, DataInfo(steps_per_epoch=per_stage))
    state = create_state(dataclasses.replace(recipe, init=lambda key: (params, {})), SEED)
    state = state.replace(params=jax.tree.map(jax.numpy.asarray, params))
    for i in range(steps):
        if i % per_stage == 0:
            stage = recipe.stage_at(i)
            state = with_moments(stage, state, leaves_by_path(state.opt_state), make_mesh())
            step = jax.jit(make_train_step(stage))
        rate = current_hparams(recipe, state)["learning_rate"]
        np.testing.assert_allclose(rate, arrays["progressive/lr"][i], rtol=1e-5, atol=1e-9)
        state, metrics = step(state, batch_of(arrays, f"batch{i % 2}/"))
        np.testing.assert_allclose(
            metrics.log["loss"], arrays["progressive/loss"][i], atol=1e-5, err_msg=str(i)
        )
    after = clip_iqa.to_torch(state.params, {}, network)
    finals = [key for key in arrays if key.startswith("progressive/final/")]
    assert finals
    for key in finals:
        got = after[key.removeprefix("progressive/final/")]
        np.testing.assert_allclose(got, arrays[key], atol=2e-4, err_msg=key)


SEED = jax.random.key(0)
