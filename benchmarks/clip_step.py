"""Times the train step of clip_iqa against PyTorch in each freezing mode, interleaved in one
process.

    python benchmarks/clip_step.py --modes full --tokens 20 --json result.json

A step is what a run does with one batch in memory: normalise, forward of both towers, loss,
backward, clip by the global norm, AdamW. PyTorch does the original's step, eagerly and with
--torch-compile with its network compiled. Both start from the same random weights and are checked
to compute the same scores. Ratios are PyTorch's median over ours: above 1 we are faster.

Where a mode freezes the text tower, or all of CLIP, ours runs also without what is computed once
for the whole run: "cached text" takes each prompt's embedding from a table, "cached" each image's
as well (no augmentation). The original has no such caches.

With a GPU both sides run on it. --compile-only runs neither: a table of what the compiler says of
our step in each mode, its floating-point operations, its temporary memory and that of its arguments
(weights, moments, batch).
"""

import argparse
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from report import write_json
from timing import (
    Contestant,
    add_timing_arguments,
    compare,
    conditions,
    prepare,
    print_comparison,
    torch_device,
)

from jaxrecipes.models.clip.network import IMAGE_MEAN, IMAGE_STD
from jaxrecipes.recipes.clip_iqa import original as clip_iqa
from jaxrecipes.recipes.clip_iqa.config import (
    AugmentConfig,
    ClipSource,
    FreezeConfig,
    IqaRunConfig,
)
from jaxrecipes.recipes.clip_iqa.recipe import make_recipe
from jaxrecipes.train import create_state, current_hparams, make_train_step
from jaxrecipes.train.recipe import DataInfo, Recipe

MODES = {
    "full": FreezeConfig(),
    "partial_8": FreezeConfig(mode="partial", layers=8),
    "partial_10": FreezeConfig(mode="partial", layers=10),
    "partial_12": FreezeConfig(mode="partial", layers=12),
    "clip": FreezeConfig(mode="clip"),
}
START, END = 49406, 49407  # CLIP's special tokens
Batch = dict[str, np.ndarray]


def made_up_batch(config: IqaRunConfig, *, size: int, tokens: int) -> Batch:
    """Random images and texts of different lengths, as a run has them in memory."""
    rng = np.random.default_rng(0)
    side = config.network.clip.vision.image_size
    ids = rng.integers(320, START, (size, tokens)).astype(np.int32)
    ids[:, 0] = START
    for row, end in zip(ids, rng.integers(tokens // 2, tokens, size), strict=True):
        row[end], row[end + 1 :] = END, 0
    return {
        "image": rng.integers(0, 256, (size, side, side, 3), dtype=np.uint8),
        "tokens": ids,
        "quality": rng.random(size, np.float32),
        "consistency": rng.random(size, np.float32),
    }


def compile_step(recipe: Recipe, state: Any, batch: Any) -> tuple[Any, dict[str, Any]]:
    """The compiled step for such a state and batch (arrays or their shapes), and what the compiler
    says of it.
    """
    step = jax.jit(make_train_step(recipe), donate_argnums=0)
    program = step.lower(state, batch).compile()
    memory = program.memory_analysis()
    facts = {
        "gflop": round((program.cost_analysis() or {}).get("flops", float("nan")) / 1e9, 2),
        "temp_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
    }
    return program, facts


def print_compiled(config: IqaRunConfig, mode: str, batch: Batch) -> dict[str, dict[str, Any]]:
    """What the compiler says of a mode's step, by batch; printed, too. Nothing runs."""
    recipe = make_recipe(config, DataInfo(steps_per_epoch=100))
    state = jax.eval_shape(functools.partial(create_state, recipe), jax.random.key(0))
    rows = {}
    for name, inputs in {"jax": batch, **cached_batches(config, batch)}.items():
        _, facts = compile_step(recipe, state, inputs)
        rows[name] = facts
        print(
            f"  {mode:12}{name:14}{facts['gflop']:9.1f} GFLOP {facts['temp_bytes'] / 1e6:8.0f} MB "
            f"temporary {facts['argument_bytes'] / 1e6:8.0f} MB arguments",
            flush=True,
        )
    return rows


class Ours:
    """The recipe's step and its first state."""

    def __init__(self, config: IqaRunConfig):
        self.recipe = make_recipe(config, DataInfo(steps_per_epoch=100))
        self.state = jax.jit(functools.partial(create_state, self.recipe))(jax.random.key(0))

    def contestant(self, batch: Batch) -> Contestant:
        """The compiled step on one batch, with what the compiler says of it."""
        state = jax.tree.map(jax.numpy.copy, self.state)
        data = jax.device_put(batch)
        program, facts = compile_step(self.recipe, state, data)
        states = [state]

        def call() -> None:
            states[0], metrics = program(states[0], data)
            jax.block_until_ready((states[0], metrics))

        return Contestant(call, 1, facts)

    def outputs(self, batch: Batch) -> dict[str, np.ndarray]:
        """The scores with the first weights."""

        @jax.jit
        def apply(state, batch):
            return self.recipe.apply_fn(
                state.params,
                state.batch_stats,
                self.recipe.inputs(batch),
                hparams=current_hparams(self.recipe, state),
                train=False,
                key=state.key,
            )[0]

        return jax.device_get(apply(self.state, batch))


def cached_batches(config: IqaRunConfig, batch: Batch) -> dict[str, Batch]:
    """The batches that stand in for the batch where towers are frozen, by name."""
    clip, freeze = config.network.clip, config.freeze
    rng, size = np.random.default_rng(1), len(batch["tokens"])

    def unit_rows(width: int) -> np.ndarray:
        x = rng.normal(size=(size, width)).astype(np.float32)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    rest = {name: array for name, array in batch.items() if name != "tokens"}
    if freeze.mode == "clip":
        text = {"text_embedding": unit_rows(clip.projection_dim)}
        image = {"image_embedding": unit_rows(clip.projection_dim)}
        scores = {name: array for name, array in rest.items() if name != "image"}
        return {"cached text": rest | text, "cached": scores | text | image}
    if freeze.mode == "partial" and freeze.layers >= clip.text.depth:
        return {"cached text": rest | {"text_pooled": unit_rows(clip.text.width)}}
    return {}


def torch_side(
    config: IqaRunConfig, ours: Ours, batch: Batch, *, device: str
) -> tuple[Any, Callable, Mapping[str, Any]]:
    """(model, step, batch) of PyTorch with our first weights, checked to give our scores."""
    import torch
    from torch_clip_iqa import TorchClipIqa, freeze, make_step

    def tensor(array: np.ndarray) -> Any:
        return torch.from_numpy(np.array(array)).to(device)

    network = config.network
    model = TorchClipIqa(network.clip, network.heads).to(device)
    weights = clip_iqa.to_torch(jax.device_get(ours.state.params), {}, network)
    model.load_state_dict({name: tensor(array) for name, array in weights.items()})
    freeze(model, config.freeze.mode, config.freeze.layers)
    pixels = (batch["image"] / np.float32(255) - np.array(IMAGE_MEAN)) / np.array(IMAGE_STD)
    theirs = {
        "pixels": tensor(pixels.transpose(0, 3, 1, 2).astype(np.float32)),
        "tokens": tensor(batch["tokens"].astype(np.int64)),
        "quality": tensor(batch["quality"]),
        "consistency": tensor(batch["consistency"]),
    }
    with torch.no_grad():
        scores = model.eval()(theirs["pixels"], theirs["tokens"])
    found = ours.outputs(batch)
    limit = 2e-5 if (device, config.precision) == ("cpu", "float32") else 2e-2
    for name, score in zip(("quality", "consistency"), scores, strict=True):
        np.testing.assert_allclose(found[name], score.cpu(), atol=limit)
    model.train()
    step = make_step(
        model,
        learning_rate=config.optim.learning_rate,
        weight_decay=config.optim.weight_decay,
        clip_norm=config.optim.clip_norm,
        loss_weights=(config.loss.w_q, config.loss.w_c),
        autocast=functools.partial(
            torch.autocast, device, torch.bfloat16, enabled=config.precision == "bfloat16"
        ),
    )
    return model, step, theirs


def contestants_of(
    config: IqaRunConfig, *, device: str, size: int, tokens: int, torch_compile: bool
) -> dict[str, Contestant]:
    """Both sides of one mode, by name."""
    import torch

    ours, batch = Ours(config), made_up_batch(config, size=size, tokens=tokens)
    model, step, theirs = torch_side(config, ours, batch, device=device)

    def call(forward: Callable) -> None:
        step(forward, theirs).item()

    contestants = {"torch eager": Contestant(functools.partial(call, model))}
    if torch_compile:
        # The weights are the same objects: one trains on from the other's, which costs no time.
        contestants["torch.compile"] = Contestant(functools.partial(call, torch.compile(model)))
    contestants["jax"] = ours.contestant(batch)
    for name, cached in cached_batches(config, batch).items():
        contestants[f"jax, {name}"] = ours.contestant(cached)
    return contestants


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["full"])
    parser.add_argument("--tokens", nargs="+", type=int, default=[20], help="of each text")
    parser.add_argument("--size", default="vit_b_32", help="of CLIP, as clip.size")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument(
        "--precision", nargs="+", choices=["float32", "bfloat16"], default=["float32"]
    )
    parser.add_argument("--freeze-pre-norm", action="store_true", help="ours: freeze.pre_norm")
    parser.add_argument("--torch-compile", action="store_true", help="also torch.compile")
    parser.add_argument("--compile-only", action="store_true", help="operations and bytes alone")
    add_timing_arguments(parser, rounds=7, steps=2)
    args = parser.parse_args()
    prepare(args)
    device = "cpu" if args.compile_only else torch_device()
    settings = {}
    for precision in args.precision:
        for mode in args.modes:
            freeze = MODES[mode]
            if args.freeze_pre_norm and freeze.mode == "partial":
                freeze = dataclasses.replace(freeze, pre_norm=True)
            config = IqaRunConfig(
                clip=ClipSource(size=args.size),
                freeze=freeze,
                augment=AugmentConfig(enabled=False),
                optim=dataclasses.replace(
                    IqaRunConfig().optim, schedule="constant", warmup_ratio=None
                ),
                precision=precision,
            )
            for tokens in args.tokens:
                name = f"{args.size}, {mode}, {tokens} tokens, {precision}"
                if args.compile_only:
                    batch = made_up_batch(config, size=args.batch_size, tokens=tokens)
                    settings[name] = print_compiled(config, mode, batch)
                    continue
                rows = compare(
                    contestants_of(
                        config,
                        device=device,
                        size=args.batch_size,
                        tokens=tokens,
                        torch_compile=args.torch_compile,
                    ),
                    rounds=args.rounds,
                    steps=args.steps,
                    reference="torch eager",
                )
                settings[name] = rows
                print(f"\n{name}, batch {args.batch_size}")
                print_comparison(rows)
                for contestant, row in rows.items():
                    if "gflop" in row:
                        held = row["argument_bytes"] / 1e6
                        print(
                            f"  {contestant:22}{row['gflop']:9.1f} GFLOP, {held:.0f} MB arguments"
                        )
    packages = ["jax"] if args.compile_only else ["jax", "torch"]
    write_json({"machine": conditions(args, *packages), "settings": settings}, args.json)


if __name__ == "__main__":
    main()
