#!/usr/bin/env python3
"""All that is worth knowing of the five recipes on a GPU, in one run of a quarter of an hour.

    python benchmarks/gpu.py --devices h200:1 --json gpu.json

For each recipe and precision: the loss of the first step beside a CPU's, the time of a step beside
the bounds that `jaxrecipes plan` gives for the device, and its peak memory beside the planned one.
Then the step benchmarks beside PyTorch, eager and compiled, where PyTorch is installed; each in a
process of its own, whose failure or timeout is recorded and ends nothing. Without --devices there
are no bounds. On a CPU, with --tiny, it only shows that it works.
"""

import argparse
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np
from default_run import RECIPES, prepared
from report import machine, write_json
from timing import median, seconds

from jaxrecipes.plan.devices import machine_of
from jaxrecipes.plan.figures import bounds_of
from jaxrecipes.plan.hlo import read_module
from jaxrecipes.plan.kernels import work_of
from jaxrecipes.sharding import make_mesh
from jaxrecipes.train.programs import Programs

PRECISIONS = ("float32", "bfloat16")
LOSS_TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-2}  # relative; GPUs multiply float32 in TF32
MEMORY_TOLERANCE = 0.1
# What a GPU is rented for; the defaults are laptop-sized.
LARGE = {
    "ocec": "--data.batch_size 4096 --data.embedded_train 8192",
    "universal_face": "--data.batch_size 32",
    "face3d": "--data.batch_size 256",
    "clip_iqa": "--clip.size vit_l_14 --clip.from_scratch True --data.batch_size 64",
    "hand_pose": "--backbone.size vit_l_14 --backbone.from_scratch True --data.batch_size 32",
}
COMPARED = {
    "ocec": "ocec_step.py",
    "faces": "face_step.py --precision float32 bfloat16",
    "clip_iqa": "clip_step.py --size vit_l_14 --batch-size 64",
    "hand_pose": "hand_step.py --size vit_l_14 --batch-size 32 --precision float32 bfloat16",
}
HERE = pathlib.Path(__file__).resolve().parent


def first_loss(name: str, flags: list[str], device: jax.Device) -> float:
    """Of the first step from the first weights."""
    with jax.default_device(device):
        _, _, _, call = program(name, flags, device)
        return float(call(0)["loss"])


def program(name: str, flags: list[str], device: jax.Device) -> tuple[Any, Any, Any, Any]:
    """(programs, state, arguments, call): `call(i)` trains the i-th step and gives its log."""
    config, recipe, data = prepared(name, [*flags, "--loop.steps_per_call", "1"])
    programs = Programs(recipe, data, steps_per_call=1, mesh=make_mesh(1, devices=[device]))
    state = programs.initial_state(recipe, jax.random.key(0))
    carry = [state, programs.train.zeros(programs.sum_shapes)]

    def arguments(step: int) -> tuple[Any, ...]:
        items = data.train.training_items(step, 1)
        return carry[0], carry[1], data.train.source, items, np.int32(1)

    def call(step: int) -> Any:
        carry[0], carry[1], log = programs.train(*arguments(step))
        return jax.block_until_ready(log)

    return programs, config, arguments, call


def figures(name: str, flags: list[str], steps: int, devices: str | None) -> dict[str, Any]:
    """What one recipe's step does here, beside what was planned."""
    device = jax.devices()[0]
    programs, config, arguments, call = program(name, flags, device)
    started = time.perf_counter()
    compiled = programs.train.compiled(*arguments(0))
    compile_seconds = time.perf_counter() - started
    memory: Any = compiled.memory_analysis()
    planned = (
        memory.argument_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
    )
    loss = float(call(0)["loss"])
    call(1)
    times = [seconds(call, step) for step in range(2, 2 + steps)]
    found: dict[str, Any] = {
        "batch_size": config.data.batch_size,
        "loss": loss,
        "compile_seconds": compile_seconds,
        "ms": 1e3 * median(times),
        "best_ms": 1e3 * min(times),
        "planned_bytes": planned,
    }
    measured = (device.memory_stats() or {}).get("peak_bytes_in_use")
    if measured is not None:
        found["peak_bytes"] = measured
        found["memory_as_planned"] = abs(measured / planned - 1) <= MEMORY_TOLERANCE
    if devices is not None:
        bounds = bounds_of(work_of(read_module(compiled.as_text() or "")), machine_of(devices))
        if bounds is not None:
            found["bound_ms"] = [1e3 * bounds.overlapping, 1e3 * bounds.in_turn]
            found["bound_by"], found["mfu_at_most"] = bounds.by, bounds.mfu
            found["mfu"] = bounds.mfu * bounds.overlapping / median(times)
    if device.platform != "cpu":
        cpu = first_loss(name, flags, jax.devices("cpu")[0])
        found["loss_on_cpu"] = cpu
        found["loss_as_on_cpu"] = abs(loss - cpu) <= LOSS_TOLERANCE[config.precision] * abs(cpu)
    return found


def in_own_process(arguments: list[str], timeout_s: float) -> dict[str, Any]:
    """The JSON that a script writes, or why it wrote none."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "figures.json"
        command = [sys.executable, HERE / arguments[0], *arguments[1:], "--json", file]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return {"error": f"it took more than {timeout_s:g} s"}
        if done.returncode:
            return {"error": (done.stderr.strip() or done.stdout.strip())[-500:]}
        return json.loads(file.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", help="what this is, as `jaxrecipes plan` names it: h200:1")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--steps", type=int, default=20, help="that are timed")
    parser.add_argument("--tiny", action="store_true", help="the recipes' default sizes")
    parser.add_argument("--timeout", type=float, default=180, help="seconds, of each part")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    if args.one:
        (name,), (precision,) = args.recipes, args.precision
        flags = ([] if args.tiny else LARGE[name].split()) + ["--precision", precision]
        write_json(figures(name, flags, args.steps, args.devices), args.json)
        return
    # Each in its own process: the peak of one recipe's memory is not that of all before it.
    report: dict[str, Any] = {"machine": machine("jax"), "recipes": {}, "beside_torch": {}}
    shared = ["--steps", str(args.steps), *(["--tiny"] if args.tiny else [])]
    shared += ["--devices", args.devices] if args.devices else []
    for name in args.recipes:
        for precision in args.precision:
            part = ["gpu.py", "--one", "--recipes", name, "--precision", precision, *shared]
            found = in_own_process(part, args.timeout)
            report["recipes"][f"{name} {precision}"] = found
            print(f"{name} {precision}: {json.dumps(found)}", flush=True)
            write_json(report, args.json)
    if importlib.util.find_spec("torch") is not None and not args.no_torch:
        for name, arguments in COMPARED.items():
            part = [*arguments.split(), "--torch-compile", "--rounds", "3"]
            report["beside_torch"][name] = in_own_process(part, args.timeout)
            print(f"{name} beside torch: {json.dumps(report['beside_torch'][name])}", flush=True)
            write_json(report, args.json)


if __name__ == "__main__":
    main()
