"""Times the data path alone: PNG crops in parquet to augmented float32 batches.

    python benchmarks/data_path.py --images 20000 --rounds 3 --json result.json

Ours decodes once (the first epoch pays, or all of them together) and then gathers and augments
inside jit. The original's way, per image and epoch, in two DataLoader workers: PIL decode, resize,
flip, photometric distortion with PIL's own operations, to a float32 tensor. CLAHE, on for one image
in a hundred, is in our figure and not in the original's. Both run in turn in one process; figures
are medians over rounds, and ratios are the original's time over ours.
"""

import argparse
import importlib.util
import io
import json
import os
import pathlib
import random
import statistics
import tempfile
import time

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jax import numpy as jnp
from PIL import Image, ImageEnhance

from jaxrecipes.data.augment import AugmentOps, augment_images, normalize
from jaxrecipes.data.decode import decode_images
from jaxrecipes.data.labelled_images import read_labelled_images
from jaxrecipes.data.order import BatchOrder

# name: mean crop (height, width), training size (height, width), batch size
SETTINGS = {
    "flagship": ((35, 59), (32, 64), 256),
    "small": ((19, 43), (24, 40), 64),
}
HPARAMS = {"flip_prob": 0.5, "distort_prob": 0.5, "clahe_prob": 0.01}


def write_crops(file: pathlib.Path, count: int, mean_size: tuple[int, int]) -> None:
    """Smooth shapes with sensor noise, sizes spread around the mean, as PNG in one parquet."""
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(count):
        height, width = (max(9, round(side * rng.uniform(0.6, 1.4))) for side in mean_size)
        coarse = rng.integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        noisy = np.asarray(smooth, np.int16) + rng.integers(-8, 9, (height, width, 3))
        stream = io.BytesIO()
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(stream, "PNG")
        encoded.append(stream.getvalue())
    table = {
        "split": ["train"] * count,
        "class_id": [i % 2 for i in range(count)],
        "image_path": [f"{i}.png" for i in range(count)],
        "image_bytes": encoded,
    }
    pq.write_table(pa.table(table), file, row_group_size=4096)


class PilEpoch:
    """A map-style data set that does what the original's does for each image."""

    def __init__(self, encoded: list[bytes], size: tuple[int, int]):
        self.encoded, self.size = encoded, size

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int):
        import torch

        height, width = self.size
        with Image.open(io.BytesIO(self.encoded[index])) as opened:
            image = opened.convert("RGB")
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = pil_distort(image)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return pixels.float().div(255), index % 2


def pil_distort(image: Image.Image) -> Image.Image:
    """RandomPhotometricDistort(p=0.5) of torchvision with the PIL operations behind it."""
    contrast = random.uniform(0.5, 1.5) if random.random() < 0.5 else None
    contrast_first = random.random() < 0.5
    if random.random() < 0.5:
        image = ImageEnhance.Brightness(image).enhance(random.uniform(0.875, 1.125))
    if contrast is not None and contrast_first:
        image = ImageEnhance.Contrast(image).enhance(contrast)
    if random.random() < 0.5:
        image = ImageEnhance.Color(image).enhance(random.uniform(0.5, 1.5))
    if random.random() < 0.5:
        hue, saturation, value = image.convert("HSV").split()
        shift = np.uint8(int(random.uniform(-0.05, 0.05) * 255) % 256)
        hue = Image.fromarray(np.asarray(hue) + shift)
        image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    if contrast is not None and not contrast_first:
        image = ImageEnhance.Contrast(image).enhance(contrast)
    if random.random() < 0.5:
        bands = image.split()
        image = Image.merge("RGB", [bands[k] for k in random.sample(range(3), 3)])
    return image


def seconds(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def make_our_epoch(images: np.ndarray, batch: int):
    source = jax.device_put(images)
    hparams = {name: jnp.float32(value) for name, value in HPARAMS.items()}

    @jax.jit
    def make_batch(source, indices, step):
        key = jax.random.fold_in(jax.random.key(0), step)
        gathered = jnp.take(source, indices, axis=0, mode="clip")
        return normalize(augment_images(key, gathered, hparams, ops=AugmentOps()))

    def epoch(number: int) -> None:
        order = BatchOrder(len(images), batch, 0)
        for step in range(number * order.steps_per_epoch, (number + 1) * order.steps_per_epoch):
            make_batch(source, order.indices(step), step).block_until_ready()

    make_batch(source, np.zeros(batch, np.int32), 0).block_until_ready()
    return epoch


def run(name: str, args: argparse.Namespace, folder: pathlib.Path) -> dict:
    mean_size, size, batch = SETTINGS[name]
    write_crops(folder / f"{name}.parquet", args.images, mean_size)
    data = read_labelled_images(folder / f"{name}.parquet")
    cache = folder / f"{name}_cache"
    decode = seconds(lambda: decode_images(data, size, cache_dir=cache))
    again = seconds(lambda: decode_images(data, size, cache_dir=cache))
    images = decode_images(data, size, cache_dir=cache).images
    our_epoch = make_our_epoch(images, batch)

    ours, theirs = [], []
    if importlib.util.find_spec("torch") is not None:
        from torch.utils.data import DataLoader

        encoded = [image for chunk in data.iter_encoded() for image in chunk if image is not None]
        loader: DataLoader = DataLoader(
            PilEpoch(encoded, size),  # type: ignore[arg-type]
            batch_size=batch,
            shuffle=True,
            num_workers=2,
            persistent_workers=True,
            multiprocessing_context="spawn",
        )
        next(iter(loader))  # the workers are up from here on

        def their_epoch() -> None:
            for _ in loader:
                pass

        for number in range(args.rounds):
            ours.append(seconds(our_epoch, number))
            theirs.append(seconds(their_epoch))
    else:
        print("torch is not installed: pip install 'jaxrecipes[torch]'; timing our side alone")
        ours = [seconds(our_epoch, number) for number in range(args.rounds)]
    epoch = statistics.median(ours)
    amortised = epoch + decode / args.epochs
    result = {
        "setting": name,
        "images": args.images,
        "epoch_s": epoch,
        "epoch_with_decode_s": epoch + decode,
        f"epoch_amortised_over_{args.epochs}_s": amortised,
        "decode_s": decode,
        "cached_decode_s": again,
        "decode_images_per_s": args.images / decode,
        "augment_images_per_s": args.images / epoch,
    }
    if theirs:
        pil = statistics.median(theirs)
        result |= {
            "pil_epoch_s": pil,
            "pil_images_per_s": args.images / pil,
            "ratio_decoded": pil / epoch,
            "ratio_amortised": pil / amortised,
            "ratio_first_epoch": pil / (epoch + decode),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=100, help="decoding is shared among these")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = [run(name, args, pathlib.Path(folder)) for name in args.settings]
    names = list(dict.fromkeys(name for result in results for name in result))
    for field in names:
        cells = (result.get(field, "") for result in results)
        print(
            f"{field:32}", *(f"{v:>12.3g}" if isinstance(v, float) else f"{v:>12}" for v in cells)
        )
    report = {"cores": os.cpu_count(), "device": jax.devices()[0].device_kind, "results": results}
    print(json.dumps(report))
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
