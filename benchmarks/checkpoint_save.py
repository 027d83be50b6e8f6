"""What saving a checkpoint costs: the loop, which waits for the copy, and the thread that writes.

Times `CheckpointManager.save` and the writing after it, for states of different numbers of arrays,
and with `--formats` the forms in which Orbax can store the same tree.
"""

import argparse
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from report import machine, write_json

from jaxrecipes.checkpoint import CheckpointManager

FORMATS = {
    "ocdbt": {"use_ocdbt": True, "use_zarr3": False},
    "ocdbt, zarr3": {"use_ocdbt": True, "use_zarr3": True},
    "a file an array": {"use_ocdbt": False, "use_zarr3": False},
    "a file an array, zarr3": {"use_ocdbt": False, "use_zarr3": True},
}
COLUMNS = ("loop_ms", "loop_cpu_ms", "writer_ms", "cpu_ms", "files", "megabytes")


def state(leaves: int, megabytes: float) -> dict[str, Any]:
    """Arrays of one size in the shape of a training state."""
    size = max(1, int(megabytes * 1e6 / 4 / leaves))
    draw = np.random.default_rng(0)
    tree: dict[str, Any] = {}
    for i in range(leaves):
        part = ("params", "ema_params", "mu", "nu")[i % 4]
        layer = tree.setdefault(part, {}).setdefault(f"layer_{i // 8:03d}", {})
        layer["kernel" if i % 8 < 4 else "bias"] = jnp.asarray(draw.normal(size=size), jnp.float32)
    return tree


def by_manager(tree: Any, rounds: int) -> dict[str, Any]:
    """Milliseconds of `save`, also of its thread's CPU, and from its return to the commit; CPU
    milliseconds of all threads.
    """
    loop, loop_cpu, writer, cpu = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        with CheckpointManager(folder, keep_latest=1) as checkpoints:
            for step in range(rounds + 1):
                jax.block_until_ready(tree)
                start, cpu_start = time.perf_counter(), time.process_time()
                thread_start = time.thread_time()
                checkpoints.save(step, tree)
                saved = time.perf_counter()
                loop_cpu.append(time.thread_time() - thread_start)
                checkpoints.wait()
                loop.append(saved - start)
                writer.append(time.perf_counter() - saved)
                cpu.append(time.process_time() - cpu_start)
        size = size_of(pathlib.Path(folder))
    # The first one also imports and warms up.
    times = {"loop_ms": loop, "loop_cpu_ms": loop_cpu, "writer_ms": writer, "cpu_ms": cpu}
    return {name: 1e3 * float(np.median(values[1:])) for name, values in times.items()} | size


def by_format(tree: Any, rounds: int, options: dict[str, bool]) -> dict[str, Any]:
    """Milliseconds that Orbax takes to write the tree from the host."""
    host = jax.tree.map(np.array, tree)
    walls, cpu = [], []
    with tempfile.TemporaryDirectory() as parent:
        folder = pathlib.Path(parent) / "step"
        for _ in range(rounds + 1):
            shutil.rmtree(folder, ignore_errors=True)
            start, cpu_start = time.perf_counter(), time.process_time()
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**options)) as checkpointer:
                checkpointer.save(folder, args=ocp.args.PyTreeSave(host))
            walls.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
        size = size_of(folder)
    return {
        "writer_ms": 1e3 * float(np.median(walls[1:])),
        "cpu_ms": 1e3 * float(np.median(cpu[1:])),
    } | size


def size_of(folder: pathlib.Path) -> dict[str, Any]:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return {"files": len(sizes), "megabytes": sum(sizes) / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leaves", type=int, nargs="+", default=[200, 400, 1400])
    parser.add_argument("--megabytes", type=float, default=20.0, help="size of each state")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--formats", action="store_true", help="also Orbax's forms of storage")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()

    rows = []

    def row(leaves: int, what: str, measure: Callable[[], dict[str, Any]]) -> None:
        found = measure()
        rows.append({"leaves": leaves, "what": what} | found)
        cells = [f"{found[name]:12.4g}" if name in found else " " * 12 for name in COLUMNS]
        print(f"{leaves:6d}  {what:36s}{''.join(cells)}", flush=True)

    print(f"leaves  {'':36s}{''.join(f'{name:>12s}' for name in COLUMNS)}")
    for leaves in args.leaves:
        tree = state(leaves, args.megabytes)
        row(leaves, "CheckpointManager", lambda tree=tree: by_manager(tree, args.rounds))
        for name, options in FORMATS.items() if args.formats else ():
            for compressed in (False, True):
                full = options | {"use_compression": compressed}
                title = f"Orbax, {name}{', compressed' if compressed else ''}"
                row(leaves, title, lambda t=tree, o=full: by_format(t, args.rounds, o))
    write_json({"machine": machine("orbax-checkpoint"), "rows": rows}, args.json)


if __name__ == "__main__":
    main()
