"""Runs the scripts as a user does, on a tiny configuration, and reads what they leave."""

import json
import pathlib
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from PIL import Image
from run_here import ROOT
from tensorboardX.proto.event_pb2 import Event

from jaxrecipes.recipes.ocec.eyes.draw import draw_eyes
from jaxrecipes.runs.trained import open_trained

SIZE = (16, 16)
# 4 epochs of 8 steps; checkpoints after steps 3, 6, 8, 9, 12, 15, 16 ...
_TINY = """
  --config configs/ocec.py --epochs 4 --model.base_channels 8 --model.num_blocks 1
  --augment.distort_prob 0 --augment.clahe_prob 0 --data.image_size 16 16
  --data.embedded_train 256 --data.embedded_val 64 --data.batch_size 32
  --loop.checkpoint_every_steps 3 --loop.log_every_steps 4
"""
TINY = _TINY.split()


def command(script: str, *arguments: Any) -> list[str]:
    return [sys.executable, f"scripts/{script}.py", *map(str, arguments)]


def run(script: str, *arguments: Any) -> subprocess.CompletedProcess:
    """Runs a script to its end, in a process of its own."""
    return subprocess.run(
        command(script, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=250
    )


def start(script: str, *arguments: Any) -> subprocess.Popen:
    return subprocess.Popen(
        command(script, *arguments),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    """Returns as soon as the condition holds, while the process is still at work."""
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, f"it ended too early: {process.communicate()[1]}"
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.002)


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def read_json(path: pathlib.Path) -> Any:
    return json.loads(path.read_text())


def metrics_by_epoch(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The history without the times that it took."""
    times = ("seconds", "examples_per_second")
    entries = read_json(workdir / "history.json")
    return [{key: e[key] for key in e if key not in times} for e in entries]


def assert_same_end(workdir: pathlib.Path, other: pathlib.Path) -> None:
    """The last checkpoints and the histories of two runs are equal, bit for bit."""
    left, right = (open_trained(folder, step="latest") for folder in (workdir, other))
    assert left.step == right.step
    states = [jax.tree_util.tree_leaves_with_path(trained.state) for trained in (left, right)]
    for (path, a), (_, b) in zip(*states, strict=True):
        a, b = (jax.random.key_data(x) if _is_key(x) else x for x in (a, b))
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))
    assert metrics_by_epoch(workdir) == metrics_by_epoch(other)


def _is_key(leaf: jax.Array) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def write_pngs(folder: pathlib.Path, count: int, *, seed: int = 7) -> list[pathlib.Path]:
    """Procedural eyes as `open/NNN.png` and `closed/NNN.png`, in the order of their numbers."""
    images, labels = draw_eyes(seed, np.arange(count), height=SIZE[0], width=SIZE[1])
    paths = []
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / ("open" if label else "closed") / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        paths.append(path)
    return paths


def scalar_steps(logdir: pathlib.Path) -> dict[str, list[int]]:
    """TensorBoard's scalars: tag -> the steps that it was written at."""
    steps: dict[str, list[int]] = {}
    for file in sorted(logdir.glob("events.out.tfevents.*")):
        data, at = file.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event()
            event.ParseFromString(data[at + 12 : at + 12 + length])
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    steps.setdefault(value.tag, []).append(event.step)
            at += length + 16
    return steps
