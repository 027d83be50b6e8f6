"""The whole step, as the recipe wires it, against the original's training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.config import from_dict
from jaxrecipes.convert import from_torch, to_torch
from jaxrecipes.recipes.ocec.config import AugmentConfig, EyeDataConfig, LossConfig, OcecRunConfig
from jaxrecipes.recipes.ocec.network import OcecConfig
from jaxrecipes.recipes.ocec.recipe import check_config, make_recipe
from jaxrecipes.train import create_state, make_train_step
from jaxrecipes.train.config import DataConfig, EmaConfig, OptimConfig, RunConfig
from jaxrecipes.train.hparams import collect
from jaxrecipes.train.recipe import DataInfo

NO_AUGMENTATION = AugmentConfig(flip_prob=0.0, distort_prob=0.0, clahe_prob=0.0)


def run_config(golden, arrays, **fields):
    model = golden.json(arrays["config_json"])
    size = model.pop("image_size")
    known = {name: model[name] for name in OcecConfig.__dataclass_fields__ if name in model}
    return OcecRunConfig(
        # At a rate of 0 the original has other keys.
        model=dataclasses.replace(OcecConfig.from_dict(known), dropout="constant(0)"),
        data=EyeDataConfig(image_size=tuple(size)),
        augment=NO_AUGMENTATION,
        **({"optim": OptimConfig(schedule="constant")} | fields),
    )


def trained(config, arrays, batches):
    """The losses and the final state dict of a training from the golden starting weights."""
    recipe = make_recipe(config, DataInfo(steps_per_epoch=10))
    state_dict = {k.removeprefix("sd/"): v for k, v in arrays.items() if k.startswith("sd/")}
    _, params, batch_stats = from_torch("ocec", state_dict, vars(config.model))
    state = jax.jit(lambda key: create_state(recipe, key))(jax.random.key(0))
    state = state.replace(params=params, batch_stats=batch_stats)
    step = jax.jit(make_train_step(recipe))
    losses, norms = [], []
    for images, labels in batches:
        images = np.moveaxis(images, -3, -1)  # ... C H W to ... H W C
        state, metrics = step(state, {"image": jnp.asarray(images), "label": jnp.asarray(labels)})
        losses.append(float(metrics.log["loss"]))
        norms.append(float(metrics.log["grad_norm"]))
    params, batch_stats = jax.device_get((state.params, state.batch_stats))
    return losses, norms, to_torch("ocec", params, batch_stats, vars(config.model))


def final_difference(arrays, prefix, found):
    wanted = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    return max(float(np.abs(found[key] - value).max()) for key, value in wanted.items())


def test_twenty_steps_follow_the_original(golden):
    arrays = golden("ocec/model__inverted_se__avgmax_mlp")
    config = run_config(
        golden,
        arrays,
        optim=OptimConfig(learning_rate=1e-3, weight_decay=1e-2),
        loss=LossConfig(pos_weight=float(arrays["pos_weight"])),
        ema=EmaConfig(enabled=False),
    )
    images, labels = arrays["traj/x_u8"], arrays["traj/y"].astype(np.int32)
    order = [s % len(images) for s in range(20)]
    losses, _, found = trained(config, arrays, [(images[i], labels[i]) for i in order])
    np.testing.assert_allclose(losses, arrays["traj/losses"], atol=2e-4)
    assert final_difference(arrays, "traj/final/", found) < 2e-4


def test_accumulated_clipped_updates_follow_the_original(golden):
    arrays = golden("ocec/accumulation__baseline_avg")
    count = int(arrays["accum"])
    config = run_config(
        golden,
        arrays,
        optim=OptimConfig(
            learning_rate=float(arrays["lr"]),
            weight_decay=float(arrays["weight_decay"]),
            accumulation_steps=count,
            clip_norm=float(arrays["clip_max_norm"]),
        ),
        loss=LossConfig(pos_weight=float(arrays.get("pos_weight", 1.0))),
        ema=EmaConfig(enabled=False),
    )
    images = arrays["x_u8"].reshape(-1, count, *arrays["x_u8"].shape[1:])
    labels = arrays["y"].astype(np.int32).reshape(-1, count, arrays["y"].shape[1])
    losses, norms, found = trained(config, arrays, list(zip(images, labels, strict=True)))
    wanted = arrays["clip/micro_losses"].reshape(-1, count).mean(1)
    np.testing.assert_allclose(losses, wanted, atol=1e-5)
    np.testing.assert_allclose(norms, arrays["clip/grad_norms_before_clip"], rtol=1e-4)
    assert final_difference(arrays, "clip/final/", found) < 1e-4


def small_config(**fields):
    return OcecRunConfig(
        **{
            "model": OcecConfig(base_channels=8, num_blocks=1),
            "data": EyeDataConfig(image_size=(16, 16)),
            **fields,
        }
    )


def test_the_focal_loss_predicts_with_twice_the_logit():
    recipe = make_recipe(small_config(loss=LossConfig(kind="focal")), DataInfo(steps_per_epoch=10))
    batch = {"label": jnp.array([1, 0], jnp.int32)}
    counts = recipe.metrics(jnp.array([0.3, 0.3]), batch, {})["classification"]
    assert (int(counts.tp), int(counts.fp)) == (1, 1)
    assert set(recipe.hparams) >= {"label_smoothing", "focal_gamma", "loss_weight/focal"}
    assert "pos_weight" not in recipe.hparams


def test_only_what_is_on_is_a_hyperparameter():
    config = small_config(
        augment=dataclasses.replace(NO_AUGMENTATION, mixup_prob="delayed(0.5, start_step=epoch)")
    )
    recipe = make_recipe(config, DataInfo(steps_per_epoch=10))
    assert {"mixup_prob", "mixup_alpha", "dropout_rate"} <= recipe.hparams.keys()
    assert (
        not {"flip_prob", "cutmix_prob", "cutmix_alpha", "drop_path_rate"} & recipe.hparams.keys()
    )
    assert [float(recipe.hparams["mixup_prob"](step)) for step in (9, 10)] == [0.0, 0.5]


def test_mixed_batches_carry_both_labels_and_count_the_dominant_one():
    config = small_config(
        augment=AugmentConfig(flip_prob=0, distort_prob=0, clahe_prob=0, mixup_prob=1.0)
    )
    recipe = make_recipe(config, DataInfo(steps_per_epoch=10))
    rng = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(rng.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)),
        "label": jnp.arange(8, dtype=jnp.int32) % 2,
    }
    hparams = {name: jnp.float32(schedule(0)) for name, schedule in recipe.hparams.items()}
    mixed = recipe.augment(jax.random.key(0), batch, hparams)
    weight = float(mixed["mix_lambda"][0])
    assert 0 < weight < 1
    term = recipe.loss_terms(jnp.zeros(8), mixed, hparams)["bce"]
    np.testing.assert_allclose(term, np.log(2.0), rtol=1e-6)
    logits = jnp.where(mixed["label"] == 1, 5.0, -5.0)
    accuracy = recipe.metrics(logits, mixed, hparams)["classification"].compute()["accuracy"]
    assert float(accuracy) == (1.0 if weight >= 0.5 else 0.0)


def test_a_token_grid_that_does_not_divide_names_those_that_do():
    config = small_config(
        model=OcecConfig(num_blocks=4, arch_variant="convnext"), data=EyeDataConfig()
    )
    with pytest.raises(ValueError, match=r"2x3 does not divide the 3x5.*1x1, 1x5, 3x1, 3x5"):
        check_config(config)


def test_the_learning_rate_scales_with_the_batch():
    config = RunConfig(
        data=DataConfig(batch_size=512),
        optim=OptimConfig(learning_rate=0.1, reference_batch_size=256, accumulation_steps=2),
    )
    hparams = collect(config, 10)
    assert float(hparams["learning_rate"](0)) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("fields", "step", "wanted"),
    [
        ({"kind": "plateau", "warmup_epochs": 4}, 25, 0.75),  # epoch 3 of 4: 3/4
        ({"kind": "plateau", "warmup_epochs": 4}, 40, 1.0),
        ({"kind": "cosine", "min_learning_rate": 0.0}, 150, 0.5),  # halfway through 30 epochs
        ({"kind": "cosine", "warmup_epochs": 10}, 100, 1.0),
        ({"kind": "step", "period_epochs": 5, "factor": 0.1}, 100, 0.01),
        ({"kind": "exponential", "factor": 0.5}, 29, 0.25),
        ({"kind": "cyclic", "max_learning_rate": 3.0, "step_size_up": 10}, 5, 2.0),
        ({"kind": "one_cycle", "max_learning_rate": 2.0}, 89, 2.0),
    ],
)
def test_learning_rate_kinds(fields, step, wanted):
    optim = {"learning_rate": 1.0}
    config = from_dict(RunConfig, {"epochs": 30, "optim": optim, "lr_schedule": fields})
    schedule = collect(config, 10)["learning_rate"]
    assert float(schedule(step)) == pytest.approx(wanted, rel=1e-5)


def test_cyclic_momentum_moves_against_the_rate():
    lr = {"kind": "cyclic", "step_size_up": 10, "cycle_momentum": True}
    b1 = collect(from_dict(RunConfig, {"lr_schedule": lr}), 10)["b1"]
    np.testing.assert_allclose(
        [float(b1(s)) for s in (0, 5, 10, 20)], [0.9, 0.85, 0.8, 0.9], rtol=1e-6
    )
