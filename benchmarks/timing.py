"""Times callables against each other, by turns in one process: what all benchmarks share.

A comparison is `add_timing_arguments(parser)`; `prepare(args)` before PyTorch is imported;
`compare({"torch": torch_contestant(...), "ours": jax_contestant(...)}, ..., reference="torch")`;
and `print_comparison`.
"""

import argparse
import dataclasses
import importlib.util
import os
import pathlib
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from report import machine

from jaxrecipes.runs.runtime import keep_freed_memory


@dataclasses.dataclass(frozen=True)
class Contestant:
    """Something to be timed.

    Attributes:
      call: does some steps and waits for their results.
      steps: how many.
      facts: what else is to be reported of it.
    """

    call: Callable[[], Any]
    steps: int = 1
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Wall time of one call, which must wait for its own results."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def median(samples: Sequence[float]) -> float:
    """The median, as a plain float."""
    return float(statistics.median(samples))


def take_turns(
    contestants: Mapping[str, Callable[[], Any]],
    rounds: int,
    measure: Callable[[Callable[[], Any]], Any] = seconds,
) -> dict[str, list[Any]]:
    """`measure(contestant)`, by default its wall time, in `rounds` turns of each contestant.

    They alternate, so that a machine that gets slower or faster does so for all of them, and every
    other round in reverse, so that none always follows the same one.
    """
    samples: dict[str, list[Any]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name in list(contestants)[:: 1 if number % 2 == 0 else -1]:
            samples[name].append(measure(contestants[name]))
    return samples


def compare(
    contestants: Mapping[str, Contestant], *, rounds: int, steps: int, reference: str
) -> dict[str, dict[str, Any]]:
    """Times the contestants by turns of `steps` steps.

    Returns for each contestant its facts and, per step: `ms`, the median wall time over the turns,
    `best_ms`, `cpu_ms` (the least user and system time of all threads), `page_faults` (the least),
    and `ratio` and `cpu_ratio`, those of the reference over its own: above 1 it is the faster one.
    """

    def turn_of(contestant: Contestant) -> Callable[[], None]:
        def turn() -> None:
            for _ in range(max(1, steps // contestant.steps)):
                contestant.call()

        return turn

    for contestant in contestants.values():
        contestant.call()
        contestant.call()
    turns = {name: turn_of(contestant) for name, contestant in contestants.items()}
    samples = take_turns(turns, rounds, cost)
    rows: dict[str, dict[str, Any]] = {}
    for name, contestant in contestants.items():
        count = contestant.steps * max(1, steps // contestant.steps)
        wall, cpu, faults = zip(*samples[name], strict=True)
        rows[name] = {
            "ms": 1e3 * median(wall) / count,
            "best_ms": 1e3 * min(wall) / count,
            "cpu_ms": 1e3 * min(cpu) / count,
            "page_faults": min(faults) // count,
            **contestant.facts,
        }
    for row in rows.values():
        row["ratio"] = rows[reference]["ms"] / row["ms"]
        row["cpu_ratio"] = rows[reference]["cpu_ms"] / row["cpu_ms"]
    return rows


def cost(function: Callable[[], Any]) -> tuple[float, float, int]:
    """(wall seconds, user and system seconds of all threads, page faults) of a call."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    wall = seconds(function)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, after.ru_minflt - before.ru_minflt


def print_comparison(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """One line per contestant of `compare`."""
    for name, row in rows.items():
        memory = f"{row['temp_bytes'] / 1e6:6.0f} MB temp" if "temp_bytes" in row else ""
        print(
            f"  {name:22}{row['ms']:9.2f} ms (best {row['best_ms']:.2f}, CPU {row['cpu_ms']:.2f}, "
            f"{row['page_faults']} faults)  ratio {row['ratio']:.2f} (CPU {row['cpu_ratio']:.2f}) "
            f"{memory}",
            flush=True,
        )


def jax_contestant(
    step: Callable[[Any, Any], tuple[Any, Any]], state: Any, batches: Any, *, steps_per_call: int
) -> Contestant:
    """Our side: `step(state, batch) -> (state, metrics)`, compiled, its state donated.

    Args:
      step: pure function of pytrees.
      state: where it starts; copied, so that several contestants can start there.
      batches: leaves `[K, ...]` with K at least `steps_per_call`; every call takes the same ones.
      steps_per_call: 1, or the length of a scan.
    """
    if steps_per_call == 1:
        call, data = step, jax.tree.map(lambda x: x[0], batches)
    else:

        def call(state: Any, data: Any) -> tuple[Any, Any]:
            return jax.lax.scan(step, state, data)

        data = jax.tree.map(lambda x: x[:steps_per_call], batches)
    start = time.perf_counter()
    program = jax.jit(call, donate_argnums=0).lower(state, data).compile()
    compile_seconds = time.perf_counter() - start
    data = jax.device_put(data)
    states = [jax.tree.map(jax.numpy.copy, state)]

    def run() -> None:
        states[0], metrics = program(states[0], data)
        jax.block_until_ready((states[0], metrics))

    facts = {
        "temp_bytes": program.memory_analysis().temp_size_in_bytes,
        "compile_seconds": round(compile_seconds, 1),
    }
    return Contestant(run, steps_per_call, facts)


def torch_contestant(loss_of: Callable[[], Any], optimizer: Any) -> Contestant:
    """PyTorch's side: a step that minimises the scalar tensor of `loss_of()`."""

    def call() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of()
        loss.backward()
        optimizer.step()
        loss.item()

    return Contestant(call)


def add_timing_arguments(
    parser: argparse.ArgumentParser, *, rounds: int, steps: int | None = None
) -> None:
    """Adds --rounds, --tuned-allocator, --passive-waiting and --json; --steps if it has a value."""
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each side")
    if steps is not None:
        parser.add_argument("--steps", type=int, default=steps, help="steps in a turn")
    parser.add_argument("--tuned-allocator", action="store_true", help="mallopt for both sides")
    parser.add_argument(
        "--passive-waiting",
        action="store_true",
        help="idle threads of PyTorch sleep: for CPU times, and where others need the cores",
    )
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file")


def prepare(args: argparse.Namespace) -> None:
    """Does what the arguments ask for; call it before PyTorch is imported, in each process."""
    if args.passive_waiting:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if args.tuned_allocator and not keep_freed_memory():
        sys.exit("--tuned-allocator needs glibc")


def require_torch() -> None:
    """Leaves the program, and says how to install PyTorch, where there is none."""
    if importlib.util.find_spec("torch") is None:
        sys.exit("this benchmark compares with PyTorch: pip install 'jaxrecipes[torch]'")


def torch_device() -> str:
    """Where both sides run, "cuda" or "cpu"; sets how exact PyTorch's matmuls are there."""
    require_torch()
    import torch

    gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    torch.set_float32_matmul_precision("high" if gpu else "highest")
    return "cuda" if gpu else "cpu"


def conditions(args: argparse.Namespace, *packages: str) -> dict[str, Any]:
    """`machine(*packages)`, the allocator and how PyTorch's threads wait."""
    wait_policy = os.environ.get("OMP_WAIT_POLICY", "default")
    return machine(*packages) | {
        "allocator": "mallopt: freed memory kept" if args.tuned_allocator else "default",
        "omp_wait_policy": "PASSIVE" if args.passive_waiting else wait_policy,
    }
