"""Time and memory of each recipe's default step, with freed memory kept and without.

    python benchmarks/kept_memory.py --rounds 3 --json result.json

Each turn is a process of its own, since the allocator is set once in a process's life; turns
alternate. `ms` is wall time, `cpu_ms` user and system time of all threads: the figure to trust on a
machine that others use, too. `peak MB` is the largest resident size of the process.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
from typing import Any

from report import machine, memory_bytes, print_table, write_json
from timing import cost

SIDES = ("kept", "default")


def child(name: str, calls: int, *, keep: bool, flags: list[str]) -> None:
    """Prints the figures of one process as JSON."""
    from default_run import contestant, prepared

    from jaxrecipes.runs.runtime import keep_freed_memory

    if keep and not keep_freed_memory():
        sys.exit("this needs glibc")
    side = contestant(*prepared(name, flags))
    side.call()
    side.call()
    samples = [cost(side.call) for _ in range(calls)]
    wall, cpu, faults = (statistics.median(column) for column in zip(*samples, strict=True))
    found = {
        "ms": 1e3 * wall / side.steps,
        "cpu_ms": 1e3 * cpu / side.steps,
        "page_faults": faults / side.steps,
        "peak MB": (memory_bytes("VmHWM") or 0) / 1e6,
    }
    print(json.dumps(found))


def figures(name: str, rounds: int, calls: int, flags: list[str]) -> dict[str, dict[str, Any]]:
    """The medians over rounds of both sides."""
    samples: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for number in range(rounds):
        for side in SIDES[:: 1 if number % 2 == 0 else -1]:
            command = [sys.executable, __file__, "--child", side, "--recipes", name]
            done = subprocess.run(
                [*command, "--calls", str(calls), *flags],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                sys.exit(done.stderr)
            samples[side].append(json.loads(done.stdout.splitlines()[-1]))
    return {
        f"{name} {side}": {
            field: statistics.median(sample[field] for sample in found) for field in found[0]
        }
        for side, found in samples.items()
    }


def main() -> None:
    from default_run import RECIPES

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side")
    parser.add_argument("--calls", type=int, default=4, help="timed calls in a process")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    args, flags = parser.parse_known_args()
    if args.child:
        child(args.recipes[0], args.calls, keep=args.child == "kept", flags=flags)
        return
    columns: dict[str, dict[str, Any]] = {}
    for name in args.recipes:
        found = figures(name, args.rounds, args.calls, flags)
        print_table(found)
        columns |= found
    write_json({"machine": machine("jax"), "recipes": columns}, args.json)


if __name__ == "__main__":
    main()
