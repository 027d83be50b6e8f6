"""Times the OCEC train step against PyTorch on this machine, interleaved in one process.

    python benchmarks/ocec_step.py --settings flagship small --rounds 5 --json result.json

A step is forward, BCE, backward, AdamW and BatchNorm's running statistics, in float32, on batches
that are already in memory, with dropout off on both sides. PyTorch runs eagerly in channels_last,
and with --torch-compile also compiled. Ratios are PyTorch's median over ours: above 1 we are
faster.
"""

import argparse
import ctypes
import dataclasses
import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
import optax
from jax import numpy as jnp

from jaxrecipes.convert.ocec import to_torch
from jaxrecipes.models.init import init_variables
from jaxrecipes.models.ocec import Ocec, OcecConfig

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


def compile_jax(setting: Setting, steps_per_call: int):
    """The compiled program of one call: one step, or a scan over several. Donates its state."""
    step = jax_step(Ocec(setting.config))
    images, labels = batches(setting, steps_per_call)
    if steps_per_call == 1:
        call, data = step, (images[0], labels[0])
    else:

        def call(state, data):
            return jax.lax.scan(step, state, data)

        data = (images, labels)
    started = time.perf_counter()
    program = jax.jit(call, donate_argnums=0).lower(initial_state(setting), data).compile()
    return program, jax.device_put(data), time.perf_counter() - started


def jax_contestant(setting: Setting, steps_per_call: int):
    """(call, steps per call, facts) for our side."""
    program, data, compile_seconds = compile_jax(setting, steps_per_call)
    state = [initial_state(setting)]

    def call():
        state[0], loss = program(state[0], data)
        jax.block_until_ready((state[0], loss))

    facts = {
        "temp_bytes": program.memory_analysis().temp_size_in_bytes,
        "compile_seconds": round(compile_seconds, 1),
    }
    return call, steps_per_call, facts


def torch_contestant(setting: Setting, compiled: bool):
    """(call, 1, facts) for PyTorch, on the same weights; checks that both give the same logits."""
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

    def call():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_fn(forward(x), y)
        loss.backward()
        optimizer.step()
        loss.item()

    return call, 1, {}


def measure(contestants: dict, rounds: int, steps: int) -> dict[str, dict]:
    """Median seconds per step of each contestant; they take turns."""
    for call, _, _ in contestants.values():
        call()
        call()
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, (call, steps_per_call, _) in contestants.items():
            for _ in range(max(1, steps // steps_per_call)):
                started = time.perf_counter()
                call()
                samples[name].append((time.perf_counter() - started) / steps_per_call)
    return {
        name: {
            "ms": round(1e3 * statistics.median(times), 2),
            "best_ms": round(1e3 * min(times), 2),
            **contestants[name][2],
        }
        for name, times in samples.items()
    }


def keep_freed_memory() -> None:
    """Has glibc keep freed memory instead of giving it back to the kernel, for both sides."""
    m_trim_threshold, m_mmap_max, m_arena_max = -1, -4, -8
    libc = ctypes.CDLL(None)
    for parameter, value in ((m_arena_max, 1), (m_mmap_max, 0), (m_trim_threshold, -1)):
        if not libc.mallopt(parameter, value):
            raise OSError(f"mallopt({parameter}, {value}) failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--steps", type=int, default=8, help="steps in a turn")
    parser.add_argument("--torch-compile", action="store_true", help="also torch.compile")
    parser.add_argument("--tuned-allocator", action="store_true", help="mallopt for both sides")
    parser.add_argument("--json", help="write the result to this file")
    args = parser.parse_args()
    if args.tuned_allocator:
        keep_freed_memory()
    try:
        import torch
    except ImportError:
        sys.exit("this benchmark compares with PyTorch: pip install jaxrecipes[torch]")

    result = {
        "versions": {"jax": jax.__version__, "torch": torch.__version__},
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "allocator": "mallopt: freed memory kept" if args.tuned_allocator else "default",
        "settings": {},
    }
    for name in args.settings:
        setting = SETTINGS[name]
        contestants = {"torch eager": torch_contestant(setting, compiled=False)}
        if args.torch_compile:
            contestants["torch.compile"] = torch_contestant(setting, compiled=True)
        contestants["jax, 1 step a call"] = jax_contestant(setting, 1)
        contestants[f"jax, {STEPS_PER_CALL} steps a call"] = jax_contestant(setting, STEPS_PER_CALL)
        rows = measure(contestants, args.rounds, args.steps)
        result["settings"][name] = rows
        print(f"\n{name}: batch {setting.batch} of {setting.image_size}, {setting.config.head}")
        for row, facts in rows.items():
            facts["ratio"] = round(rows["torch eager"]["ms"] / facts["ms"], 3)
            memory = f"{facts['temp_bytes'] / 1e6:8.0f} MB temp" if "temp_bytes" in facts else ""
            line = f"{facts['ms']:9.2f} ms (best {facts['best_ms']:.2f})"
            print(f"  {row:22}{line:32} ratio {facts['ratio']:.2f} {memory}", flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
