"""The original's data path for comparison: PIL decodes and transforms each image in each epoch.

Apart from the benchmarks that use it, so that its worker processes import no JAX.
"""

import io
import pathlib
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageEnhance


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


def pil_loader(encoded: list[bytes], size: tuple[int, int], batch: int):
    """A shuffling DataLoader over `PilEpoch` with two workers, which are up when this returns."""
    from torch.utils.data import DataLoader

    loader: DataLoader = DataLoader(
        PilEpoch(encoded, size),  # type: ignore[arg-type]
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )
    next(iter(loader))
    return loader


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
