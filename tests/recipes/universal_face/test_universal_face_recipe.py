"""universal_face's loss, gradients and train step follow the original's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.convert import from_torch, to_torch
from jaxrecipes.fields import leaves_of
from jaxrecipes.losses import composite_loss
from jaxrecipes.recipes.universal_face.config import LossConfig, UniversalFaceRunConfig
from jaxrecipes.recipes.universal_face.network import UniversalFaceConfig
from jaxrecipes.recipes.universal_face.original import loss_to_torch
from jaxrecipes.recipes.universal_face.recipe import (
    TERMS,
    check_config,
    make_recipe,
)
from jaxrecipes.train.config import OptimConfig, PlateauConfig
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.state import create_state
from jaxrecipes.train.step import current_hparams, make_train_step

LOSSES = 1e-5  # relative, over 20 steps; reached: 1e-6
WEIGHTS = 5e-5  # absolute, after 20 steps; reached: 1e-6
GRADIENTS = 1e-4  # of a tensor's greatest; reached: 2e-6
OLD = LossConfig(
    lambda_id=2.0,
    lambda_pose=0.3,
    lambda_contrast=0.2,
    lambda_similarity_protection=0.5,
    temperature=0.07,
    protection_margin=0.0,
)


def start(golden, case, *, optim=None, **fields):
    """(recipe, state) at the original's weights, without dropout."""
    arrays = golden(f"universal_face/{case}")
    state_dict = {k.split("/")[1]: v for k, v in arrays.items() if k.startswith(("sd/", "crit/"))}
    cfg = golden.json(arrays["cfg"])
    _, params, batch_stats = from_torch("universal_face", state_dict, cfg)
    config = UniversalFaceRunConfig(
        model=dataclasses.replace(UniversalFaceConfig.from_dict(cfg), dropout=0.0),
        attention_dropout=0.0,
        optim=dataclasses.replace(optim or OptimConfig(), schedule="constant"),
        **fields,
    )
    recipe = make_recipe(config, DataInfo(steps_per_epoch=4))
    params, batch_stats = jax.tree.map(jnp.asarray, (params, batch_stats))
    ready = dataclasses.replace(recipe, init=lambda key: (params, batch_stats))
    return arrays, cfg, recipe, create_state(ready, jax.random.key(0))


def batch_of(arrays, prefix):
    batch = {name: jnp.asarray(arrays[f"{prefix}/{name}"]) for name in ("src", "tgt", "pose")}
    return batch | {"person": jnp.asarray(arrays[f"{prefix}/labels"].astype(np.int32))}


def total_loss(recipe, batch_stats, batch, hparams, params, src, pose):
    """(total, log); `src` and `pose` are the network's inputs, the labels stay those of `batch`."""
    options = {"hparams": hparams, "train": True, "key": jax.random.key(0)}
    outputs, _ = recipe.apply_fn(params, batch_stats, {"src": src, "pose": pose}, **options)
    return composite_loss(recipe.loss_terms(outputs, batch, hparams), hparams)


def test_every_term_is_the_originals_for_both_sets_of_numbers(golden):
    arrays, _, recipe, state = start(golden, "uf_b")
    batch, hparams = batch_of(arrays, "in"), current_hparams(recipe, state)

    @jax.jit
    def run(hparams):
        inputs = state.params, batch["src"], batch["pose"]
        return total_loss(recipe, state.batch_stats, batch, hparams, *inputs)[1]

    for name, loss in (("cli", LossConfig()), ("old", OLD)):
        own = {leaf.name: jnp.float32(leaf.value) for leaf in leaves_of(loss)}
        log = run(hparams | own)
        wanted = {f"loss/{term}": arrays[f"loss_{name}/{term}"] for term in TERMS}
        wanted["loss"] = arrays[f"loss_{name}/total"]
        assert set(log) == set(wanted)
        for key, want in wanted.items():
            np.testing.assert_allclose(log[key], want, rtol=LOSSES, atol=1e-7, err_msg=key)


def test_gradients_are_the_originals(golden):
    arrays, cfg, recipe, state = start(golden, "uf_b")
    wanted = golden("universal_face/uf_b_grads")
    batch, hparams = batch_of(arrays, "in"), current_hparams(recipe, state)

    def loss(params, src, pose):
        return total_loss(recipe, state.batch_stats, batch, hparams, params, src, pose)[0]

    params, src, pose = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(
        state.params, batch["src"], batch["pose"]
    )
    found = {
        f"grad/{key}": value
        for key, value in to_torch("universal_face", params, state.batch_stats, cfg).items()
    } | {f"grad_crit/{key}": value for key, value in loss_to_torch(params).items()}
    found |= {"grad_in/src": src, "grad_in/pose": pose}
    for key, want in wanted.items():
        if not key.startswith(("grad/", "grad_crit/", "grad_in/")):
            continue
        limit = GRADIENTS * np.abs(want).max() + 1e-8
        np.testing.assert_allclose(found[key], want, atol=limit, rtol=0, err_msg=key)
    # What is added to all keys alike has no effect: exactly 0 here, rounding noise in PyTorch.
    channels = cfg["feat_dim"]
    for key in ("qkv.bias", "pose_encoder.2.weight", "pose_encoder.2.bias"):
        assert not found[f"grad/pose_encoder.layers.0.attn.{key}"][channels : 2 * channels].any()


@pytest.mark.parametrize("train_loss_projections", [False, True])
def test_twenty_steps_follow_the_original(golden, train_loss_projections):
    kind = "trained" if train_loss_projections else "frozen"
    run = golden(f"universal_face/uf_b_traj_proj_{kind}")
    rates = golden.json(run["cfg"])
    optim = OptimConfig(
        learning_rate=rates["lr"], weight_decay=rates["weight_decay"], clip_norm=1.0
    )
    fields = {"optim": optim, "train_loss_projections": train_loss_projections}
    _, cfg, recipe, state = start(golden, "uf_b", **fields)
    batches = [batch_of(run, f"batch{i % 4}") for i in range(20)]
    batches = jax.tree.map(lambda *x: jnp.stack(x), *batches)
    step = make_train_step(recipe)
    state, metrics = jax.jit(lambda s, b: jax.lax.scan(step, s, b))(state, batches)
    log = metrics.log
    for term in TERMS:
        np.testing.assert_allclose(
            log[f"loss/{term}"], run[f"f64/loss/{term}"], rtol=LOSSES, atol=1e-7, err_msg=term
        )
    np.testing.assert_allclose(log["loss"], run["f64/loss/total"], rtol=LOSSES)
    np.testing.assert_allclose(log["grad_norm"], run["f64/grad_norm"], rtol=LOSSES)
    found = to_torch("universal_face", state.params, state.batch_stats, cfg)
    found |= {f"crit/{key}": value for key, value in loss_to_torch(state.params).items()}
    for key, want in run.items():
        if key.startswith("final"):
            name = key.replace("final_crit/", "crit/").removeprefix("final/")
            np.testing.assert_allclose(found[name], want, atol=WEIGHTS, err_msg=key)


def test_validation_is_the_originals_and_takes_the_estimated_pose_as_well(golden):
    arrays, _, recipe, state = start(golden, "uf_b")
    batch = batch_of(arrays, "in")
    hparams = current_hparams(recipe, state)

    @jax.jit
    def evaluate(batch):
        options = {"hparams": hparams, "train": False, "key": jax.random.key(0)}
        inputs = recipe.inputs(batch)
        outputs, _ = recipe.apply_fn(state.params, state.batch_stats, inputs, **options)
        return outputs, recipe.metrics(outputs, batch, hparams)

    outputs, metrics = evaluate(batch)
    assert {len(leaf) for leaf in jax.tree.leaves(outputs)} == {len(batch["src"])}
    found = {name: float(metric.compute()) for name, metric in metrics.items()}
    assert found["cosine_similarity"] == pytest.approx(float(arrays["val_cosine_similarity"]))
    assert found["cosine_similarity_estimated"] != found["cosine_similarity"]
    assert -1 < found["cosine_similarity_input"] < 1


def test_rates_of_0_are_left_out_unless_scheduled():
    model = UniversalFaceConfig(feat_dim=16, transformer_depth=1, dropout=0.0)
    scheduled = dataclasses.replace(model, dropout="delayed(0.3, start_step=run/2)")
    config = UniversalFaceRunConfig(model=scheduled)
    assert {"dropout_rate", "attention_dropout_rate"} <= make_recipe(
        config, DataInfo(steps_per_epoch=5)
    ).hparams.keys()
    recipe = make_recipe(dataclasses.replace(config, model=model), DataInfo(steps_per_epoch=5))
    assert "dropout_rate" not in recipe.hparams
    assert {"temperature", "protection_margin", "loss_weight/ortho"} <= recipe.hparams.keys()


def test_a_plateau_that_minds_the_worse_end_is_refused():
    config = UniversalFaceRunConfig(plateau=PlateauConfig(monitor="cosine_similarity"))
    with pytest.raises(ValueError, match=r"give --plateau\.mode max"):
        check_config(config)


def test_the_defaults_are_the_source_documents():
    config = UniversalFaceRunConfig()
    check_config(config)
    recipe = make_recipe(config, DataInfo(steps_per_epoch=10))
    wanted = {
        "id_similarity": 3.0,
        "pose": 0.2,
        "ortho": 0.05,
        "contrast": 0.1,
        "reconstruction": 0.5,
        "pose_consistency": 0.1,
        "similarity_protection": 1.0,
    }
    values = {name: float(schedule(0)) for name, schedule in recipe.hparams.items()}
    for name, weight in wanted.items():
        assert values[f"loss_weight/{name}"] == pytest.approx(weight)
    assert (values["temperature"], values["protection_margin"]) == pytest.approx((0.1, 0.01))
    assert (values["learning_rate"], values["weight_decay"]) == pytest.approx((1e-4, 1e-5))
    plateau = recipe.plateau
    assert (plateau.mode, plateau.factor, plateau.patience, plateau.min_lr) == (
        "max",
        0.5,
        10,
        1e-6,
    )
    assert recipe.frozen == ("^loss_projections/feat_to_id/",)
