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
import itertools
import pathlib
import tempfile

import jax
import numpy as np
from jax import numpy as jnp
from pil_data import pil_loader, write_crops
from report import machine, print_table, write_json
from timing import median, seconds, take_turns

from jaxrecipes.data.augment.images import AugmentOps, augment_images, normalize
from jaxrecipes.data.decode import decode_images
from jaxrecipes.data.order import BatchOrder
from jaxrecipes.recipes.ocec.labelled_images import read_labelled_images

# name: mean crop (height, width), training size (height, width), batch size
SETTINGS = {
    "flagship": ((35, 59), (32, 64), 256),
    "small": ((19, 43), (24, 40), 64),
}
HPARAMS = {"flip_prob": 0.5, "distort_prob": 0.5, "clahe_prob": 0.01}


def make_our_epoch(images: np.ndarray, batch: int):
    source = jax.device_put(images)
    hparams = {name: jnp.float32(value) for name, value in HPARAMS.items()}

    @jax.jit
    def make_batch(source, indices, step):
        key = jax.random.fold_in(jax.random.key(0), step)
        gathered = jnp.take(source, indices, axis=0, mode="clip")
        return normalize(augment_images(key, gathered, hparams, ops=AugmentOps()))

    order = BatchOrder(len(images), batch, 0)
    epochs = itertools.count()

    def epoch() -> None:
        first = next(epochs) * order.steps_per_epoch
        for step in range(first, first + order.steps_per_epoch):
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
    contestants = {"ours": make_our_epoch(images, batch)}

    if importlib.util.find_spec("torch") is not None:
        encoded = [image for chunk in data.iter_encoded() for image in chunk if image is not None]
        loader = pil_loader(encoded, size, batch)

        def their_epoch() -> None:
            for _ in loader:
                pass

        contestants["pil"] = their_epoch
    else:
        print("torch is not installed: pip install 'jaxrecipes[torch]'; timing our side alone")
    samples = take_turns(contestants, args.rounds)
    epoch = median(samples["ours"])
    amortised = epoch + decode / args.epochs
    result = {
        "images": args.images,
        "epoch_s": epoch,
        "epoch_with_decode_s": epoch + decode,
        f"epoch_amortised_over_{args.epochs}_s": amortised,
        "decode_s": decode,
        "cached_decode_s": again,
        "decode_images_per_s": args.images / decode,
        "augment_images_per_s": args.images / epoch,
    }
    if "pil" in samples:
        pil = median(samples["pil"])
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
        results = {name: run(name, args, pathlib.Path(folder)) for name in args.settings}
    print_table(results)
    write_json({"machine": machine("jax", "pillow"), "settings": results}, args.json)


if __name__ == "__main__":
    main()
