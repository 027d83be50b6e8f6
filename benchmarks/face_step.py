"""Times the train steps of the two face recipes against PyTorch, interleaved in one process.

    python benchmarks/face_step.py --torch-compile --json result.json

A step is what a run does with one batch: dropout, forward, loss, backward, clip by the global norm,
AdamW and the metrics, skipped where it is not finite. Ours is the compiled program of a run, whose
data stay on the device and which gathers a batch by its rows, one step and several steps in a call.
PyTorch does the original's step, eagerly and with --torch-compile with its network compiled, on
batches that are already gathered. Both start from the same weights and are checked to compute the
same outputs. Ratios are PyTorch's median over ours: above 1 we are faster.

With a GPU both sides run on it, in float32 (TF32 products on both sides) and bfloat16.
"""

import argparse
import dataclasses
import functools
import itertools
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
    prepare,
    print_comparison,
    torch_device,
)

from jaxrecipes.data.indexed_rows import IndexedRows
from jaxrecipes.recipes.face3d import original as face3d
from jaxrecipes.recipes.face3d.config import Face3DRunConfig
from jaxrecipes.recipes.face3d.network import Face3DConfig
from jaxrecipes.recipes.face3d.recipe import make_recipe as face3d_recipe
from jaxrecipes.recipes.universal_face import original as universal_face
from jaxrecipes.recipes.universal_face.config import UniversalFaceRunConfig
from jaxrecipes.recipes.universal_face.recipe import make_recipe as universal_face_recipe
from jaxrecipes.sharding import make_mesh
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.programs import DEFAULT_STEPS_PER_CALL as STEPS_PER_CALL
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.run_data import RunData, make_run_data
from jaxrecipes.train.step import current_hparams

PAIRS, PEOPLE, WIDTH = 4096, 128, 512
FACE3D_MODELS = {
    "face3d": Face3DConfig(),
    "face3d_pose": Face3DConfig(use_pose_attention=True),
    "face3d_keypoints": Face3DConfig(use_spatial_attention=True, use_pose_attention=True),
    "face3d_encoder_decoder": Face3DConfig(model_type="encoder_decoder"),
    "face3d_warping": Face3DConfig(model_type="angle_warping"),
}
SETTINGS: dict[str, RunConfig] = {"universal_face": UniversalFaceRunConfig()} | {
    name: Face3DRunConfig(model=model) for name, model in FACE3D_MODELS.items()
}


def made_up_pairs() -> dict[str, Any]:
    """Random embeddings: side views that share frontal ones, as a run has them in memory."""
    rng = np.random.default_rng(0)

    def embeddings(count: int) -> np.ndarray:
        x = rng.normal(size=(count, WIDTH))
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    person = rng.integers(0, PEOPLE, PAIRS).astype(np.int32)
    return {
        "src": embeddings(PAIRS),
        "tgt": IndexedRows(embeddings(PEOPLE), person),
        "pose": rng.normal(scale=20.0, size=(PAIRS, 3)).astype(np.float32),
        "person": person,
        "keypoints_3d": rng.normal(size=(PAIRS, 5, 3)).astype(np.float32),
    }


class Ours:
    """A run of one config: its data, its programs and its state."""

    def __init__(self, config: RunConfig, steps_per_call: int):
        self.mesh = make_mesh(1)
        loop = dataclasses.replace(config.loop, steps_per_call=steps_per_call)
        config = dataclasses.replace(config, loop=loop)
        self.data: RunData = make_run_data({"train": made_up_pairs()}, config, self.mesh)
        make_recipe: Callable = (
            universal_face_recipe if isinstance(config, UniversalFaceRunConfig) else face3d_recipe
        )
        recipe = make_recipe(config, DataInfo(steps_per_epoch=self.data.steps_per_epoch))
        programs = Programs(recipe, self.data, steps_per_call=steps_per_call, mesh=self.mesh)
        self.recipe, self.program, self.steps_per_call = recipe, programs.train, steps_per_call
        self.state = programs.initial_state(recipe, jax.random.key(0))
        self.sums = self.program.zeros(programs.sum_shapes)

    def contestant(self) -> Contestant:
        """As many steps as go into a call, on other rows each time."""
        source, count = self.data.train.source, np.int32(self.steps_per_call)
        steps = itertools.count(0, self.steps_per_call)

        def call() -> None:
            items = self.data.train.training_items(next(steps), self.steps_per_call)
            self.state, self.sums, log = self.program(self.state, self.sums, source, items, count)
            jax.block_until_ready((self.state, log))

        items = self.data.train.training_items(0, self.steps_per_call)
        compiled = self.program.compiled(self.state, self.sums, source, items, count)
        return Contestant(
            call,
            self.steps_per_call,
            {"temp_bytes": compiled.memory_analysis().temp_size_in_bytes},
        )

    def outputs(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        """What the network estimates the frontal embeddings to be, with its first weights."""

        @jax.jit
        def apply(state, inputs):
            return self.recipe.apply_fn(
                state.params,
                state.batch_stats,
                inputs,
                hparams=current_hparams(self.recipe, state),
                train=False,
                key=state.key,
            )[0]

        out = apply(self.state, self.recipe.inputs(batch))
        return np.asarray(out["projected"] if isinstance(out, dict) else out)


def torch_side(
    config: Any, ours: Ours, *, device: str, precision: str
) -> tuple[Any, Callable, list[dict[str, Any]]]:
    """(model, step, batches) of PyTorch with our first weights, checked to give our outputs."""
    import torch

    def tensors(arrays: dict[str, Any]) -> dict[str, Any]:
        return {name: torch.from_numpy(np.array(x)).to(device) for name, x in arrays.items()}

    options = {
        "learning_rate": config.optim.learning_rate,
        "weight_decay": config.optim.weight_decay,
        "autocast": functools.partial(
            torch.autocast, device, torch.bfloat16, enabled=precision == "bfloat16"
        ),
    }
    params, batch_stats = jax.device_get((ours.state.params, ours.state.batch_stats))
    host_batches = [ours.data.train_batch(step) for step in range(ours.steps_per_call)]
    batches = [tensors(batch) for batch in host_batches]
    src, pose = batches[0]["src"], batches[0]["pose"]
    with torch.no_grad():
        if isinstance(config, UniversalFaceRunConfig):
            from torch_universal_face import make_step as make_universal_face_step

            model: Any
            model, criterion, step = make_universal_face_step(**options)
            weights = universal_face.to_torch(params, batch_stats, config.model)
            criterion.to(device).load_state_dict(tensors(universal_face.loss_to_torch(params)))
            model.to(device).load_state_dict(tensors(weights))
            theirs = criterion.id_to_feat_proj(model.eval()(src, pose)["id_features"])
        else:
            from torch_face3d import make_network
            from torch_face3d import make_step as make_face3d_step

            if not config.model.keypoints:
                for batch in batches:
                    del batch["keypoints_3d"]
            model = make_network(config.model).to(device)
            model.load_state_dict(tensors(face3d.to_torch(params, batch_stats, config.model)))
            step = make_face3d_step(model, **options)
            keypoints = [x for name, x in batches[0].items() if name == "keypoints_3d"]
            theirs = model.eval()(src, pose, *keypoints)
    exact = device == "cpu" and precision == "float32"
    limit = 2e-5 if exact else 2e-2
    np.testing.assert_allclose(ours.outputs(host_batches[0]), theirs.cpu(), atol=limit)
    model.train()
    return model, step, batches


def torch_contestant(forward: Callable, step: Callable, batches: list[dict]) -> Contestant:
    """One step on each of the batches, one after the other."""

    def call() -> None:
        for batch in batches:
            loss = step(forward, batch)
        loss.item()

    return Contestant(call, len(batches))


def contestants_of(
    config: RunConfig, *, device: str, steps_per_call: int, torch_compile: bool
) -> dict[str, Contestant]:
    """Both sides of one setting, by name."""
    import torch

    ours = {steps: Ours(config, steps) for steps in dict.fromkeys((1, steps_per_call))}
    side = ours[steps_per_call]
    model, step, batches = torch_side(config, side, device=device, precision=config.precision)
    contestants = {"torch eager": torch_contestant(model, step, batches)}
    if torch_compile:
        # Their weights are the same objects: they train on from each other's, which costs no time.
        contestants["torch.compile"] = torch_contestant(torch.compile(model), step, batches)
    for steps, run in ours.items():
        contestants[f"jax, {steps} step{'s' * (steps > 1)} a call"] = run.contestant()
    return contestants


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--settings", nargs="+", choices=SETTINGS, default=["universal_face", "face3d"]
    )
    parser.add_argument("--torch-compile", action="store_true", help="also torch.compile")
    parser.add_argument("--steps-per-call", type=int, default=STEPS_PER_CALL)
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=["float32", "bfloat16"],
        help="what the networks compute in; by default float32, and on a GPU both",
    )
    add_timing_arguments(parser, rounds=7, steps=16)
    args = parser.parse_args()
    prepare(args)
    device = torch_device()
    settings = {}
    for name in args.settings:
        for precision in args.precision or (
            ["float32", "bfloat16"] if device == "cuda" else ["float32"]
        ):
            config = dataclasses.replace(SETTINGS[name], precision=precision)
            rows = compare(
                contestants_of(
                    config,
                    device=device,
                    steps_per_call=args.steps_per_call,
                    torch_compile=args.torch_compile,
                ),
                rounds=args.rounds,
                steps=args.steps,
                reference="torch eager",
            )
            for row in rows.values():
                row["pairs_per_s"] = 1e3 * config.data.batch_size / row["ms"]
            settings[f"{name}, {precision}"] = rows
            print(f"\n{name}, {precision}, batch {config.data.batch_size}")
            print_comparison(rows)
            for contestant, row in rows.items():
                print(f"  {contestant:22}{row['pairs_per_s']:9.0f} pairs/s")
    write_json({"machine": conditions(args, "jax", "torch"), "settings": settings}, args.json)


if __name__ == "__main__":
    main()
