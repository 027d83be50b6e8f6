"""What the benchmarks share: timing by turns, memory, the allocator, a table and a JSON file."""

import ctypes
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Wall time of one call, which must wait for its own results."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def take_turns(contestants: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of `rounds` calls of each contestant.

    They alternate, so that a machine that gets slower or faster does so for all of them, and every
    other round in reverse, so that none always follows the same one.
    """
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name in list(contestants)[:: 1 if number % 2 == 0 else -1]:
            samples[name].append(seconds(contestants[name]))
    return samples


def median(samples: Sequence[float]) -> float:
    """The median, as a plain float."""
    return float(statistics.median(samples))


def memory_bytes(field: str) -> int | None:
    """A field of this process' memory such as VmHWM (peak) or VmRSS; None off Linux."""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return None
    values = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return 1024 * int(values[field].split()[0])


def keep_freed_memory() -> None:
    """Has glibc keep freed memory rather than give it back to the kernel, for all contestants."""
    m_trim_threshold, m_mmap_max, m_arena_max = -1, -4, -8
    libc = ctypes.CDLL(None)
    for parameter, value in ((m_arena_max, 1), (m_mmap_max, 0), (m_trim_threshold, -1)):
        if not libc.mallopt(parameter, value):
            raise OSError(f"mallopt({parameter}, {value}) failed")


def machine(*packages: str) -> dict[str, Any]:
    """Where the figures were taken: device, cores, load, Python, and the versions of packages."""
    return {
        "device": jax.devices()[0].device_kind,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def print_table(columns: Mapping[str, Mapping[str, Any]]) -> None:
    """One column per setting, one line per figure."""
    fields = list(dict.fromkeys(field for column in columns.values() for field in column))
    width = 2 + max(map(len, fields))
    print(f"{'':{width}}", *(f"{name:>14}" for name in columns))
    for field in fields:
        cells = (column.get(field, "") for column in columns.values())
        print(f"{field:{width}}", *(f"{_shown(cell):>14}" for cell in cells), flush=True)


def write_json(report: Mapping[str, Any], path: pathlib.Path | None) -> None:
    """Writes the report to `path`, if there is one."""
    if path is not None:
        path.write_text(json.dumps(report, indent=2) + "\n")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
