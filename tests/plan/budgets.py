"""What the step of each preset is made of, as a record that is reviewed like code.

    python tests/plan/budgets.py [PRESET ...]            compare with the record (all: minutes)
    python tests/plan/budgets.py [PRESET ...] --renew    write it anew; look at its diff

A step is lowered from shapes alone, for CPUs and for accelerators: no device, no data and no
weights are needed. The counts catch a silent factor of two before any timing does: a product
computed twice, a float32 product in a bfloat16 network, a branch that a GPU's host waits for.
"""

import argparse
import collections
import contextlib
import json
import pathlib
import re
import sys
from collections.abc import Iterator
from unittest import mock

from jax._src.cudnn import fused_attention_stablehlo

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where there is no pytest
from lowered_text import waits

from jaxrecipes.config import with_fields
from jaxrecipes.plan.subject import lowered_step, make_subject
from jaxrecipes.runs.recipe_config import recipe_and_config
from jaxrecipes.sharding import make_mesh
from jaxrecipes.train import apply_fn, programs

RECORD = pathlib.Path(__file__).with_name("budgets.json")
DEFAULTS = ("ocec", "universal_face", "face3d", "clip_iqa", "hand_pose")
LARGEST = (
    "ocec:seed",
    "universal_face:seed",
    "face3d:recommended",
    "clip_iqa:scenario_large",
    "hand_pose:stage1",
)
PLATFORMS = ("cpu", "cuda", "tpu")
EXAMPLES = 5000
# How far a figure may move without a word: compilers count elementwise work differently.
TOLERANCE = {"gflop": 0.02, "gb": 0.05}
_COUNTED = {
    "convolutions": r"stablehlo\.convolution\(",
    "gathers": r'"?stablehlo\.gather"?\(',
    "scatters": r'"?stablehlo\.scatter"?\(',
    "sorts": r'"?stablehlo\.sort"?\(',
}
_PRODUCT = re.compile(r"stablehlo\.dot_general .*?: \(tensor<(?:\d+x)*(\w+)>")


def budget(preset: str, platform: str, precision: str = "bfloat16") -> dict:
    """FLOPs, bytes and operations of a preset's step.

    Args:
      preset: NAME or NAME:PRESET.
      platform: "cpu", in float32, or "cuda" or "tpu", in `precision`.
      precision: of accelerators.
    """
    module, config = recipe_and_config(preset)
    if platform != "cpu":
        config = with_fields(config, {"precision": precision})
    subject = make_subject(module, config, examples=EXAMPLES)
    with as_if_on(platform):
        lowered = lowered_step(subject, make_mesh(1), 1e12)
    text = lowered.as_text()
    found: dict = {name: len(re.findall(form, text)) for name, form in _COUNTED.items()}
    found["waits for data"] = len(waits(text))
    found["products"] = dict(sorted(collections.Counter(_PRODUCT.findall(text)).items()))
    if platform == "cpu":
        cost = lowered.cost_analysis()
        found |= {"gflop": cost["flops"] / 1e9, "gb": cost["bytes accessed"] / 1e9}
        found |= {name: float(f"{found[name]:.4g}") for name in ("gflop", "gb")}
    return found


@contextlib.contextmanager
def as_if_on(platform: str) -> Iterator[None]:
    """Programs for a mesh of CPUs are made and lowered as if its devices were of the platform."""
    if platform == "cpu":
        yield
        return

    def lower(self, *args):
        return self._run.trace(*args).lower(lowering_platforms=(platform,))

    form = "cudnn" if platform == "cuda" else "recomputed"
    with (
        mock.patch.object(programs, "on_cpu", return_value=False),
        mock.patch.object(apply_fn, "_attention_form", return_value=form),
        mock.patch.object(fused_attention_stablehlo, "check_cudnn_version", return_value=91000),
        mock.patch.object(programs.TrainProgram, "lower", lower),
    ):
        yield


def differences(record: dict, found: dict) -> list[str]:
    """What is not as recorded, in words."""
    lines = []
    for name in sorted(record.keys() | found.keys()):
        before, now = record.get(name), found.get(name)
        if name in TOLERANCE and before and now and abs(now / before - 1) <= TOLERANCE[name]:
            continue
        if before != now:
            lines.append(f"{name}: {before} -> {now}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("presets", nargs="*", default=[*DEFAULTS, *LARGEST])
    parser.add_argument("--renew", action="store_true")
    args = parser.parse_args()
    record, changed = json.loads(RECORD.read_text()) if RECORD.exists() else {}, False
    for name in (f"{p} {platform}" for p in args.presets for platform in PLATFORMS):
        found = budget(*name.split(" "))
        lines = differences(record.get(name, {}), found)
        print(f"{name}: {'; '.join(lines) or 'as recorded'}", flush=True)
        changed |= bool(lines)
        record[name] = found
    if args.renew:
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
    sys.exit(changed and not args.renew)


if __name__ == "__main__":
    main()
