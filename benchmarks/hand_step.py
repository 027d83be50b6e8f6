"""Times the train step of hand_pose against PyTorch, interleaved in one process.

    python benchmarks/hand_step.py --modes finetuned frozen --json result.json

A step is what a run does with one batch of crops in memory: normalise, dropout, forward, the hand's
joints, loss, backward, clip by the global norm, AdamW, and on our side the metrics. PyTorch does
the original's step, eagerly and with --torch-compile with its network compiled. Both start from the
same random weights and are checked to compute the same loss. "jax, from images" also cuts out and
augments the crops, which the original leaves to its data loader and kornia. Ratios are PyTorch's
median over ours: above 1 we are faster.

With a GPU both sides run on it. --compile-only runs neither: it tells what the compiler says of our
step, its floating-point operations and its temporary memory.
"""

import argparse
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from report import write_json
from timing import (
    Contestant,
    add_timing_arguments,
    compare,
    conditions,
    jax_contestant,
    prepare,
    print_comparison,
    torch_device,
)

from jaxrecipes.losses import composite_loss
from jaxrecipes.recipes.hand_pose import original as hand_pose
from jaxrecipes.recipes.hand_pose.config import (
    BackboneSource,
    DropoutConfig,
    HandDataConfig,
    HandRunConfig,
)
from jaxrecipes.recipes.hand_pose.hands.draw import synthetic_hands
from jaxrecipes.recipes.hand_pose.recipe import make_recipe
from jaxrecipes.train import create_state, current_hparams, make_train_step
from jaxrecipes.train.recipe import DataInfo

MODES = {"finetuned": 1e-5, "frozen": None}  # learning rate of the backbone
IMAGE_SIZE = 256
TERMS = ("theta", "shape", "trans", "rel", "img")
Batch = dict[str, np.ndarray]


class Ours:
    """The recipe's step, its first state, and hands: whole images and their crops."""

    def __init__(self, config: HandRunConfig):
        self.config, size = config, config.data.batch_size
        self.recipe = make_recipe(config, DataInfo(steps_per_epoch=100))
        self.on_crops = dataclasses.replace(self.recipe, augment=lambda key, batch, hparams: batch)
        drawn = synthetic_hands(size, seed=0, image_size=IMAGE_SIZE)
        self.images: Batch = {name: array[np.arange(size)] for name, array in drawn.items()}
        self.crops: Batch = jax.device_get(jax.jit(self.recipe.preprocess)(self.images))

    @functools.cached_property
    def state(self) -> Any:
        """Random weights, none of which is 0, so that the comparison sees all of them."""
        state = jax.jit(functools.partial(create_state, self.recipe))(jax.random.key(0))
        params = state.params
        embedder = dict(params["persp_info_embedder"])
        kernel = embedder["zero_linear"]["kernel"]
        drawn = 0.02 * jax.random.normal(jax.random.key(1), kernel.shape)
        embedder["zero_linear"] = {"kernel": drawn}
        return state.replace(params={**params, "persp_info_embedder": embedder})

    def contestant(self, steps_per_call: int, *, from_images: bool = False) -> Contestant:
        """As many steps, all on the same hands."""
        recipe = self.recipe if from_images else self.on_crops
        batch = self.images if from_images else self.crops
        batches = jax.tree.map(lambda a: np.repeat(a[None], steps_per_call, 0), batch)
        step = make_train_step(recipe)
        return jax_contestant(step, self.state, batches, steps_per_call=steps_per_call)

    def compiled(self) -> dict[str, Any]:
        """What the compiler says of one step; nothing runs."""
        state = jax.eval_shape(functools.partial(create_state, self.recipe), jax.random.key(0))
        step = jax.jit(make_train_step(self.on_crops), donate_argnums=0)
        program = step.lower(state, self.crops).compile()
        return {
            "gflop": (program.cost_analysis() or {}).get("flops", float("nan")) / 1e9,
            "temp_bytes": program.memory_analysis().temp_size_in_bytes,
        }

    def loss(self) -> float:
        """Of the first weights, without dropout."""

        @jax.jit
        def compute(state: Any, batch: Any) -> jax.Array:
            hparams, recipe = current_hparams(self.recipe, state), self.recipe
            outputs, _ = recipe.apply_fn(
                state.params,
                state.batch_stats,
                recipe.inputs(batch),
                hparams=hparams,
                train=False,
                key=state.key,
            )
            return composite_loss(recipe.loss_terms(outputs, batch, hparams), hparams)[0]

        return float(compute(self.state, self.crops))


def torch_side(ours: Ours, *, device: str) -> tuple[Any, Callable, dict[str, Any]]:
    """(model, step, batch) of PyTorch with our first weights, checked to give our loss."""
    import torch
    from torch_hand_pose import Hand, TorchHandPose, hand_loss, make_step

    def tensor(array: np.ndarray) -> Any:
        return torch.from_numpy(np.array(array)).to(device)

    config = ours.config
    model = TorchHandPose(config.network, dropout=config.dropout.rate).to(device)
    weights = hand_pose.to_torch(jax.device_get(ours.state.params), {}, config.network)
    model.load_state_dict({name: tensor(array) for name, array in weights.items()})
    batch = {
        name: tensor(array[:, 0])
        for name, array in ours.crops.items()
        if array.ndim > 1 and array.shape[1] == 1
    }
    batch["patch"] = batch["patch"].permute(0, 3, 1, 2).contiguous()
    names = {"rel": "joint_rel", "img": "joint_img"}
    loss = functools.partial(
        hand_loss,
        model=model,
        hand=Hand().to(device),
        weights={names.get(t, t): getattr(config.loss, f"lambda_{t}") for t in TERMS},
        sigma=config.loss.heatmap_sigma,
        eps=config.loss.norm_eps,
    )
    inputs = [batch[name] for name in ("patch", "patch_bbox", "focal", "princpt")]
    with torch.no_grad():
        theirs = loss(model.eval()(*inputs), batch).item()
    limit = 1e-4 if (device, config.precision) == ("cpu", "float32") else 2e-2
    np.testing.assert_allclose(ours.loss(), theirs, rtol=limit)
    model.train()
    step = make_step(
        model,
        learning_rate=config.optim.learning_rate,
        backbone_learning_rate=config.backbone.learning_rate,
        weight_decay=config.optim.weight_decay,
        clip_norm=config.optim.clip_norm,
        loss=loss,
        autocast=functools.partial(
            torch.autocast, device, torch.bfloat16, enabled=config.precision == "bfloat16"
        ),
    )
    return model, step, batch


def contestants_of(
    config: HandRunConfig, *, device: str, steps_per_call: int, torch_compile: bool, images: bool
) -> dict[str, Contestant]:
    """Both sides of one mode, by name."""
    import torch

    ours = Ours(config)
    model, step, batch = torch_side(ours, device=device)

    def call(forward: Callable) -> None:
        step(forward, batch).item()

    contestants = {"torch eager": Contestant(functools.partial(call, model))}
    if torch_compile:
        # The weights are the same objects: one trains on from the other's, which costs no time.
        contestants["torch.compile"] = Contestant(functools.partial(call, torch.compile(model)))
    for steps in dict.fromkeys((1, steps_per_call)):
        contestants[f"jax, {steps} step{'s' * (steps > 1)} a call"] = ours.contestant(steps)
    if images:
        contestants["jax, from images"] = ours.contestant(1, from_images=True)
    return contestants


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--size", default="vit_s_14", help="of DINOv2, as backbone.size")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps-per-call", type=int, default=8)
    parser.add_argument(
        "--precision", nargs="+", choices=["float32", "bfloat16"], default=["float32"]
    )
    parser.add_argument("--remat", action="store_true", help="ours: remat")
    parser.add_argument("--from-images", action="store_true", help="also with preprocessing")
    parser.add_argument("--torch-compile", action="store_true", help="also torch.compile")
    parser.add_argument("--compile-only", action="store_true", help="operations and bytes alone")
    add_timing_arguments(parser, rounds=7, steps=8)
    args = parser.parse_args()
    prepare(args)
    device = "cpu" if args.compile_only else torch_device()
    settings = {}
    for precision in args.precision:
        for mode in args.modes:
            config = HandRunConfig(
                backbone=BackboneSource(size=args.size, learning_rate=MODES[mode]),
                remat=args.remat,
                data=HandDataConfig(batch_size=args.batch_size),
                dropout=DropoutConfig(warmup_steps=0),
                optim=dataclasses.replace(HandRunConfig().optim, schedule="constant"),
                precision=precision,
            )
            name = f"{args.size}, {mode}, {precision}"
            if args.compile_only:
                facts = Ours(config).compiled()
                settings[name] = {"jax": facts}
                print(
                    f"{name}, batch {args.batch_size}: {facts['gflop']:.1f} GFLOP, "
                    f"{facts['temp_bytes'] / 1e6:.0f} MB temporary",
                    flush=True,
                )
                continue
            rows = compare(
                contestants_of(
                    config,
                    device=device,
                    steps_per_call=args.steps_per_call,
                    torch_compile=args.torch_compile,
                    images=args.from_images,
                ),
                rounds=args.rounds,
                steps=args.steps,
                reference="torch eager",
            )
            settings[name] = rows
            print(f"\n{name}, batch {args.batch_size}")
            print_comparison(rows)
    packages = ["jax"] if args.compile_only else ["jax", "torch"]
    write_json({"machine": conditions(args, *packages), "settings": settings}, args.json)


if __name__ == "__main__":
    main()
