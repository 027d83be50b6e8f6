"""A recipe that compiles in a second: a small network with BatchNorm and dropout on random
vectors."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes import optim
from jaxrecipes.losses import bce_with_logits
from jaxrecipes.metrics import BinaryCounts
from jaxrecipes.nn import BatchNorm, dropout
from jaxrecipes.schedules import as_schedule
from jaxrecipes.sharding import make_mesh
from jaxrecipes.train import programs
from jaxrecipes.train.apply_fn import linen_apply
from jaxrecipes.train.config import DataConfig, LoopConfig, RunConfig
from jaxrecipes.train.fit import fit
from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.run_data import make_run_data

NUM_FEATURES = 6


class Toy(nn.Module):
    width: int = 8

    @nn.compact
    def __call__(self, x, *, train, dropout_rate=0.0):
        x = nn.Dense(self.width, use_bias=False, name="hidden")(
            x
        )  # a bias before BatchNorm has no gradient but rounding
        x = BatchNorm(name="norm")(x, train=train)
        if train:
            x = dropout(self.make_rng("dropout"), x, dropout_rate)
        return nn.Dense(1, name="out")(x)[:, 0]


def toy_hparams(**values):
    defaults = {
        "learning_rate": 0.05,
        "weight_decay": 0.01,
        "dropout_rate": 0.2,
        "loss_weight/bce": 1.0,
        "loss_weight/l2": 0.1,
        "ema_decay": 0.9,
        "clip_norm": 1.0,
    }
    return {name: as_schedule(value) for name, value in (defaults | values).items()}


@functools.cache
def _parts(width):
    """The functions of a toy recipe: the same objects for the same width, see `_programs`."""
    model = Toy(width)

    def init(key):
        variables = model.init(key, jnp.zeros((2, NUM_FEATURES), jnp.float32), train=False)
        return variables["params"], variables["batch_stats"]

    def inputs(batch):
        return batch["x"]

    def loss_terms(logits, batch, hparams):
        del hparams
        return {
            "bce": bce_with_logits(logits, batch["label"].astype(jnp.float32)),
            "l2": jnp.square(logits),
        }

    def metrics(logits, batch, hparams):
        del hparams
        probs = jax.nn.sigmoid(logits)
        return {"classification": BinaryCounts.from_probs(probs, batch["label"], batch.get("mask"))}

    return {
        "init": init,
        "apply_fn": linen_apply(model),
        "inputs": inputs,
        "loss_terms": loss_terms,
        "metrics": metrics,
    }


def toy_recipe(*, hparams=None, make_tx=optim.adamw, width=8, **fields):
    own = {"name": "toy", "hparams": hparams or toy_hparams(), "make_tx": make_tx, "ema": True}
    return Recipe(**(_parts(width) | own | fields))


def toy_arrays(num_examples=64, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((num_examples, NUM_FEATURES)).astype(np.float32)
    label = (x @ np.arange(-2.0, NUM_FEATURES - 2) > 0).astype(np.int32)  # one rule for every seed
    return {"x": x, "label": label}


def toy_batch(seed=0, batch_size=16):
    return jax.tree.map(jnp.asarray, toy_arrays(batch_size, seed))


def toy_config(**fields):
    data = DataConfig(batch_size=8, eval_batch_size=16)
    loop = LoopConfig(steps_per_call=3, log_every_steps=4, compilation_cache="")
    return RunConfig(**({"epochs": 3, "data": data, "loop": loop} | fields))


def toy_data(config, arrays=None, *, mesh=None, val=True):
    """64 examples to train on, and 20 others to validate on."""
    splits = {"train": arrays or toy_arrays()} | ({"val": toy_arrays(20, seed=1)} if val else {})
    return make_run_data(splits, config, mesh or make_mesh(config.parallel.fsdp_devices))


def toy_fit(workdir, recipe=None, *, config=None, arrays=None, val=True, **options):
    """A run of 3 epochs of 8 steps on `toy_data`; runs that differ in numbers share programs."""
    config, recipe = config or toy_config(), recipe or toy_recipe()
    data = toy_data(config, arrays, val=val)
    workdir.mkdir(parents=True, exist_ok=True)
    if options.get("programs") is None:
        options["programs"] = _programs(recipe, data, config)
    return fit(recipe, data, config, workdir, **options)


_MADE = {}


def _programs(recipe, data, config):
    """Programs of an earlier run that differs in nothing they see: most of a toy run's time goes
    into tracing and compiling them."""
    static = [
        getattr(recipe, field.name)
        for field in dataclasses.fields(recipe)
        if field.name != "hparams"
    ]
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), data.train.source)
    settings = {field: getattr(config, field) for field in ("data", "parallel")}
    key = repr(jax.tree.structure(dict(recipe.hparams))), repr(shapes), repr(settings)
    key = *key, config.loop.steps_per_call, jax.config.jax_enable_x64, *static
    key = *key, programs.on_cpu(data.mesh)  # which a test may deny
    if key not in _MADE:
        steps = config.loop.steps_per_call
        _MADE[key] = programs.Programs(recipe, data, steps_per_call=steps, mesh=data.mesh)
    return _MADE[key]
