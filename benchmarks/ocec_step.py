"""Times the OCEC train step against PyTorch on this machine, interleaved in one process.

    python benchmarks/ocec_step.py --settings flagship small --rounds 5 --json result.json

A step is forward, BCE, backward, AdamW and BatchNorm's running statistics, in float32, on batches
that are already in memory, with dropout off on both sides. PyTorch runs eagerly in channels_last,
and with --torch-compile also compiled. Ratios are PyTorch's median over ours: above 1 we are
faster.
"""

import argparse
import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
import optax
from jax import numpy as jnp
from report import write_json
from timing import (
    Contestant,
    add_timing_arguments,
    compare,
    conditions,
    jax_contestant,
    prepare,
    print_comparison,
    require_torch,
    torch_contestant,
)

from jaxrecipes.nn.init_variables import init_variables
from jaxrecipes.recipes.ocec.network import Ocec, OcecConfig
from jaxrecipes.recipes.ocec.original import to_torch

STEPS_PER_CALL = 8
LEARNING_RATE, WEIGHT_DECAY, POS_WEIGHT = 1e-4, 1e-4, 0.881


@dataclasses.dataclass(frozen=True)
class Setting:
    """One network at one image size (height, width) and batch size."""

    config: OcecConfig
    image_size: tuple[int, int]
    batch: int


SETTINGS = {
    "flagship": Setting(OcecConfig(base_channels=64, num_blocks=8), (32, 64), 256),
    "small": Setting(OcecConfig(base_channels=16, num_blocks=4), (24, 40), 64),
    "inverted_se": Setting(OcecConfig(arch_variant="inverted_se"), (24, 40), 256),
    "convnext": Setting(OcecConfig(arch_variant="convnext"), (32, 48), 256),
}


def jax_step(model: Ocec) -> Callable:
    """`(state, (images, labels)) -> (state, loss)`."""
    tx = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def step(state, batch):
        params, batch_stats, opt_state = state
        images, labels = batch

        def objective(params):
            variables = {"params": params, "batch_stats": batch_stats}
            logits, new = model.apply(variables, images, train=True, mutable=["batch_stats"])
            loss = jax.nn.softplus(logits) - labels * logits
            positive = (POS_WEIGHT - 1.0) * labels * jax.nn.softplus(-logits)
            return (loss + positive).mean(), new.get("batch_stats", {})

        (loss, batch_stats), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), batch_stats, opt_state), loss

    return step


def initial_state(setting: Setting):
    """(params, batch_stats, opt_state) for `jax_step`."""
    images = jax.ShapeDtypeStruct((1, *setting.image_size, 3), jnp.float32)
    params, batch_stats = init_variables(
        Ocec(setting.config), jax.random.key(0), images, train=False
    )
    tx = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    return params, batch_stats, tx.init(params)


def batches(setting: Setting, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`[count, B, H, W, 3]` images in [0, 1] and `[count, B]` labels."""
    rng = np.random.default_rng(0)
    shape = (count, setting.batch, *setting.image_size, 3)
    images = rng.random(shape, dtype=np.float32)
    return images, rng.integers(0, 2, shape[:2]).astype(np.float32)


def torch_step(setting: Setting, compiled: bool) -> Contestant:
    """PyTorch on the same weights, after a check that both give the same logits."""
    import torch
    from torch_ocec import TorchOcec

    params, batch_stats, _ = initial_state(setting)
    config = dataclasses.replace(setting.config, dropout=0.0)
    weights = to_torch(params, batch_stats, config)
    model = TorchOcec(config).to(memory_format=torch.channels_last)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=True)
    images, labels = (array[0] for array in batches(setting, 1))
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    y = torch.from_numpy(labels)
    with torch.no_grad():
        theirs = model.eval()(x[:8]).numpy()
    variables = {"params": params, "batch_stats": batch_stats}
    apply = functools.partial(Ocec(setting.config).apply, train=False)
    np.testing.assert_allclose(jax.jit(apply)(variables, images[:8]), theirs, atol=1e-4)

    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    loss_fn = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(POS_WEIGHT))
    forward = torch.compile(model) if compiled else model
    return torch_contestant(lambda: loss_fn(forward(x), y), optimizer)


def contestants_of(setting: Setting, torch_compile: bool) -> dict[str, Contestant]:
    """Both sides of one setting, by name."""
    contestants = {"torch eager": torch_step(setting, compiled=False)}
    if torch_compile:
        contestants["torch.compile"] = torch_step(setting, compiled=True)
    step, state = jax_step(Ocec(setting.config)), initial_state(setting)
    data = batches(setting, STEPS_PER_CALL)
    for steps in (1, STEPS_PER_CALL):
        name = f"jax, {steps} step{'s' * (steps > 1)} a call"
        contestants[name] = jax_contestant(step, state, data, steps_per_call=steps)
    return contestants


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--torch-compile", action="store_true", help="also torch.compile")
    add_timing_arguments(parser, rounds=5, steps=8)
    args = parser.parse_args()
    prepare(args)
    require_torch()

    settings = {}
    for name in args.settings:
        setting = SETTINGS[name]
        print(f"\n{name}: batch {setting.batch} of {setting.image_size}, {setting.config.head}")
        settings[name] = compare(
            contestants_of(setting, args.torch_compile),
            rounds=args.rounds,
            steps=args.steps,
            reference="torch eager",
        )
        print_comparison(settings[name])
    write_json({"machine": conditions(args, "jax", "torch"), "settings": settings}, args.json)


if __name__ == "__main__":
    main()
