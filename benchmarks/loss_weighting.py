#!/usr/bin/env python3
"""Learned loss weights against those set by hand: universal_face's seven terms over several seeds.

    python benchmarks/loss_weighting.py --out loss_weighting.json

Trains the default preset, whose weights are those of the source document, with each way to weigh
the terms, and prints the mean and the spread of the best validation cosine.
"""

import argparse
import json
import pathlib
import tempfile

import numpy as np

import jaxrecipes

KINDS = ("fixed", "uncertainty", "gradnorm")


def best_cosine(kind: str, seed: int, epochs: int, preset: str) -> float:
    with tempfile.TemporaryDirectory() as workdir:
        fields = {"seed": seed, "epochs": epochs, "loss_weighting.kind": kind}
        finished = jaxrecipes.fit(preset, workdir, fields=fields)
    assert finished is not None
    best = finished.summary["best"]
    return best.get("cosine_similarity_ema", best.get("cosine_similarity"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="universal_face")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=pathlib.Path, help="also write a JSON file")
    args = parser.parse_args()
    found = {
        kind: [best_cosine(kind, seed, args.epochs, args.preset) for seed in args.seeds]
        for kind in KINDS
    }
    for kind, cosines in found.items():
        spread = f"{np.mean(cosines):.4f} +- {np.std(cosines, ddof=1):.4f}"
        print(f"{kind:12} {spread}   {' '.join(f'{x:.4f}' for x in cosines)}")
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
