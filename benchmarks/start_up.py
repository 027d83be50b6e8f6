"""Times scripts/train.py from its start to the end of its first step, cold and warm.

    python benchmarks/start_up.py --rounds 3 --json result.json
    python benchmarks/start_up.py --rounds 1 -- --data.embedded_train 512 --data.embedded_val 64

Each start is a new process that trains the default config on embedded data for one call of the
compiled program and validates once. A cold start has an empty compilation cache, the warm one that
follows has what the cold one put there. What comes after `--` goes to scripts/train.py, for another
config or less data. Figures are medians over rounds, in seconds; the ratio is cold over warm.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from report import machine, memory_bytes, print_table, write_json
from timing import median

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The parts of `first_step_s`: what jax reports while the run goes on.
EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace_s",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower_s",
    "/jax/core/compile/backend_compile_duration": "compile_or_load_s",
}


def start_once(workdir: pathlib.Path, cache: pathlib.Path, extra: list[str]) -> dict[str, Any]:
    """One run in a process of its own."""
    arguments = ["--workdir", str(workdir), "--loop.compilation_cache", str(cache), *extra]
    child = [sys.executable, __file__, "--child", str(time.time())]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(
        [*child, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        sys.exit(f"the run failed:\n{done.stderr}")
    return json.loads((workdir / "start_up.json").read_text())


def run_child(started: float, arguments: list[str]) -> None:
    """Runs scripts/train.py in this process, and notes when it gets where."""
    sys.path.insert(0, str(ROOT / "scripts"))
    figures: dict[str, Any] = {}
    import jax
    import train

    from jaxrecipes.runs import train as recipe_run
    from jaxrecipes.train import programs

    figures["imports_s"] = time.time() - started
    totals = dict.fromkeys([*EVENTS.values(), "programs"], 0.0)

    def on_event(event: str, duration_secs: float, **_: str | int) -> None:
        if event in EVENTS and "first_step_s" not in figures:
            totals[EVENTS[event]] += duration_secs
            totals["programs"] += event.endswith("backend_compile_duration")

    jax.monitoring.register_event_duration_secs_listener(on_event)

    class Program(programs.TrainProgram):
        """Waits for the first call and takes the time."""

        def __call__(self, *args: Any) -> Any:
            result = super().__call__(*args)
            if "first_step_s" not in figures:
                jax.block_until_ready(result)
                figures["first_step_s"] = time.time() - started
                figures.update(totals)
                figures["peak_memory_mb"] = (memory_bytes("VmHWM") or 0) / 1e6
            return result

    make_run_data = recipe_run.recipe_data

    def data_is_there(*args: Any, **kwargs: Any) -> Any:
        figures["data_s"] = time.time() - started - figures["imports_s"]
        return make_run_data(*args, **kwargs)

    vars(programs)["TrainProgram"] = Program
    vars(recipe_run)["recipe_data"] = data_is_there
    steps = ["--steps", "1"]
    if "--config" not in arguments:
        steps += ["--config", str(ROOT / "configs" / "ocec.py")]
    sys.argv = ["train.py", *steps, *arguments]
    train.main()
    workdir = pathlib.Path(arguments[arguments.index("--workdir") + 1])
    summary = json.loads((workdir / "summary.json").read_text())
    figures["whole_run_s"] = time.time() - started
    for name, count in summary["compilations"].items():
        figures[f"{name}_compilations"] = count
    (workdir / "start_up.json").write_text(json.dumps(figures))


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        run_child(float(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="pairs of a cold and a warm start")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file")
    parser.add_argument("extra", nargs="*", help="arguments of scripts/train.py, after --")
    args = parser.parse_args()
    samples: dict[str, list[dict[str, Any]]] = {"cold": [], "warm": []}
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name, starts in samples.items():
                run_folder, cache = pathlib.Path(folder) / name, pathlib.Path(folder) / "cache"
                starts.append(start_once(run_folder, cache, args.extra))
    columns: dict[str, dict[str, Any]] = {
        name: {field: median([start[field] for start in starts]) for field in starts[0]}
        for name, starts in samples.items()
    }
    columns["cold/warm"] = {
        field: value / columns["warm"][field]
        for field, value in columns["cold"].items()
        if field.endswith("_s")
    }
    print_table(columns)
    report = {"machine": machine("jax", "jaxlib"), "medians": columns, "samples": samples}
    write_json(report, args.json)


if __name__ == "__main__":
    main()
