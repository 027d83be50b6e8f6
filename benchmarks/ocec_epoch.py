"""Times whole epochs of OCEC training on PNG crops against the original's way in PyTorch.

    python benchmarks/ocec_epoch.py --rounds 3 --json result.json
    python benchmarks/ocec_epoch.py --images 2000 --settings small    # a quick look

Ours is what scripts/train.py runs: every image is decoded once, the uint8 pixels stay on the
device, and the compiled step gathers, augments (flip, distortion, CLAHE), trains with AdamW, keeps
averaged weights and adds up metrics, several steps in a call. PyTorch does what the original does:
two DataLoader workers decode and transform every image anew with PIL, and an eager channels_last
step trains with AdamW, without averages and metrics. Dropout is on at both.

Each setting runs in its own process. There the two sides take turns by whole epochs; an epoch's
time is the median over rounds and ratios are PyTorch's time over ours. Decoding and compilation
happen once; `ratio_run` shares them among --epochs epochs. Nothing is extrapolated in `*_epoch_s`;
with fewer --images the epoch is shorter, and decoding is as much shorter, but compilation is not.
"""

import argparse
import concurrent.futures
import dataclasses
import itertools
import multiprocessing
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from pil_data import pil_loader, write_crops
from report import memory_bytes, print_table, write_json
from timing import (
    add_timing_arguments,
    conditions,
    median,
    prepare,
    require_torch,
    seconds,
    take_turns,
)

from jaxrecipes.recipes.ocec.config import EyeDataConfig, OcecRunConfig
from jaxrecipes.recipes.ocec.data import load_data
from jaxrecipes.recipes.ocec.labelled_images import read_labelled_images
from jaxrecipes.recipes.ocec.network import OcecConfig
from jaxrecipes.recipes.ocec.recipe import make_recipe
from jaxrecipes.sharding import make_mesh
from jaxrecipes.train.config import LoopConfig, OptimConfig
from jaxrecipes.train.programs import DEFAULT_STEPS_PER_CALL as STEPS_PER_CALL
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.run_data import make_run_data


@dataclasses.dataclass(frozen=True)
class Setting:
    """One network at one image size (height, width) and batch; crops have sizes around a mean."""

    model: OcecConfig
    crop_size: tuple[int, int]
    image_size: tuple[int, int]
    batch: int


SETTINGS = {
    "flagship": Setting(
        OcecConfig(base_channels=64, num_blocks=8, dropout=0.3), (35, 59), (32, 64), 256
    ),
    "small": Setting(
        OcecConfig(base_channels=16, num_blocks=4, dropout=0.2), (19, 43), (24, 40), 64
    ),
}
OPTIM = OptimConfig(learning_rate=1e-4, weight_decay=1e-4)


class Ours:
    """Epochs as the library's loop runs them; `facts` says what was spent before the first."""

    def __init__(self, setting: Setting, parquet: pathlib.Path, steps_per_call: int):
        config = OcecRunConfig(
            model=setting.model,
            optim=OPTIM,
            data=EyeDataConfig(
                path=str(parquet),
                image_size=setting.image_size,
                batch_size=setting.batch,
                cache_dir=str(parquet.with_suffix("")),
            ),
            loop=LoopConfig(steps_per_call=steps_per_call),
        )
        start = time.perf_counter()
        splits = load_data(config)
        decode_s = time.perf_counter() - start

        start = time.perf_counter()
        mesh = make_mesh(1)
        self._data = make_run_data({"train": splits["train"].arrays}, config, mesh)
        recipe = make_recipe(
            config, DataInfo(steps_per_epoch=self._data.steps_per_epoch, train=splits["train"])
        )
        key = jax.random.key(0)
        programs = Programs(recipe, self._data, steps_per_call=steps_per_call, mesh=mesh)
        self._program = program = programs.train
        sums = program.zeros(programs.sum_shapes)
        self._state, self._sums = programs.initial_state(recipe, key), sums
        self._steps_per_call = steps_per_call
        self._epochs = itertools.count()
        self._train(0, 1)
        compile_s = time.perf_counter() - start

        source, count = self._data.train.source, np.int32(1)
        items = self._data.train.training_items(0, 1)
        compiled = program.compiled(self._state, self._sums, source, items, count)
        self.facts = {
            "images": len(splits["train"]),
            "steps_per_epoch": self._data.steps_per_epoch,
            "decode_s": decode_s,
            "compile_s": compile_s,
            "temp_mb": compiled.memory_analysis().temp_size_in_bytes / 1e6,
        }

    def epoch(self) -> None:
        """Trains one epoch and waits for it."""
        per_epoch = self._data.steps_per_epoch
        first = next(self._epochs) * per_epoch
        self._train(first, first + per_epoch)

    def _train(self, step: int, end: int) -> None:
        while step < end:
            count = min(self._steps_per_call, end - step)
            items = self._data.train.training_items(step, count)
            self._state, self._sums, log = self._program(
                self._state, self._sums, self._data.train.source, items, np.int32(count)
            )
            step += count
        jax.block_until_ready((self._state, log))


def make_torch_epoch(setting: Setting, parquet: pathlib.Path) -> Callable[[], None]:
    """The original's epoch, with its workers up and its first step done."""
    import torch
    from torch_ocec import TorchOcec

    data = read_labelled_images(parquet)
    encoded = [image for chunk in data.iter_encoded() for image in chunk if image is not None]
    loader = pil_loader(encoded, setting.image_size, setting.batch)
    model: torch.nn.Module = TorchOcec(setting.model).train()
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        model.parameters(), OPTIM.learning_rate, weight_decay=OPTIM.weight_decay
    )
    loss_fn = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(1.0))

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        images = images.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        loss_fn(model(images), labels.float()).backward()
        optimizer.step()

    def epoch() -> None:
        for images, labels in loader:
            step(images, labels)

    step(torch.rand(setting.batch, 3, *setting.image_size), torch.ones(setting.batch))
    return epoch


def run(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The figures of one setting, to be called in a process of its own."""
    prepare(args)
    setting = SETTINGS[name]
    with tempfile.TemporaryDirectory() as folder:
        parquet = pathlib.Path(folder) / f"{name}.parquet"
        write_crops(parquet, args.images, setting.crop_size)
        ours = Ours(setting, parquet, args.steps_per_call)
        first = seconds(ours.epoch)  # before PyTorch is loaded: the peak is ours alone
        peak = memory_bytes("VmHWM")
        samples = take_turns(
            {"torch": make_torch_epoch(setting, parquet), "ours": ours.epoch}, args.rounds
        )
    ours_s, torch_s = median(samples["ours"]), median(samples["torch"])
    once = ours.facts["decode_s"] + ours.facts["compile_s"]
    return ours.facts | {
        "peak_memory_mb": None if peak is None else peak / 1e6,
        "epoch_s": ours_s,
        "epoch_alone_s": first,
        "torch_epoch_s": torch_s,
        "images_per_s": ours.facts["images"] / ours_s,
        "torch_images_per_s": ours.facts["images"] / torch_s,
        "ratio_epoch": torch_s / ours_s,
        "ratio_epoch_and_decode": torch_s / (ours.facts["decode_s"] + ours_s),
        "ratio_run": args.epochs * torch_s / (once + args.epochs * ours_s),
        "samples": samples,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument(
        "--epochs", type=int, default=50, help="decoding and compilation are shared among these"
    )
    parser.add_argument("--steps-per-call", type=int, default=STEPS_PER_CALL)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    add_timing_arguments(parser, rounds=3)
    args = parser.parse_args()
    require_torch()

    results = {}
    for name in args.settings:
        with concurrent.futures.ProcessPoolExecutor(
            max_workers=1, mp_context=multiprocessing.get_context("spawn")
        ) as process:
            results[name] = process.submit(run, name, args).result()
    columns = {
        name: {field: value for field, value in result.items() if field != "samples"}
        for name, result in results.items()
    }
    print_table(columns)
    report = {
        "machine": conditions(args, "jax", "torch", "pillow"),
        "steps_per_call": args.steps_per_call,
        "epochs_of_ratio_run": args.epochs,
        "settings": results,
    }
    write_json(report, args.json)


if __name__ == "__main__":
    main()
