"""Strict JSON files, written completely or not at all."""

import json
import math
import pathlib
from typing import Any

from jaxrecipes.errors import cause
from jaxrecipes.files import write_bytes


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes strict JSON: NaN and infinities become null."""
    write_bytes(path, (json.dumps(_strict(value), indent=2) + "\n").encode())


def read_json(path: pathlib.Path) -> Any:
    """Reads a JSON file.

    Raises:
      ValueError: the file is not JSON, or nested too deeply.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not valid JSON ({cause(error)}); restore it or start in a new folder"
        ) from error


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
