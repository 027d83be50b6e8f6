"""What the benchmarks report with: memory, the machine, a table and a JSON file."""

import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Mapping
from typing import Any

import jax


def memory_bytes(field: str) -> int | None:
    """A field of this process' memory such as VmHWM (peak) or VmRSS; None off Linux."""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return None
    values = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return 1024 * int(values[field].split()[0])


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
