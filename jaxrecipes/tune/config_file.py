"""A config as a Python file that `--config` takes."""

import dataclasses
import json
import pathlib
import sys
from typing import Any

from jaxrecipes.config import FILE_MODULES
from jaxrecipes.files import write_bytes


def write_config_file(config: Any, path: pathlib.Path, *, about: str) -> None:
    """Writes a file whose `get_config` returns `config`; fields at their defaults are left out.

    Args:
      config: a recipe's config.
      path: to write.
      about: what the file says of itself, one line.
    """
    types: set[type] = set()
    body = _source(config, types, indent=1)
    modules: dict[str, list[str]] = {}
    for found in types:
        modules.setdefault(found.__module__, []).append(found.__name__)
    imports, recipe = [], []
    for module, names in sorted(modules.items()):
        if module.startswith(FILE_MODULES):  # a recipe that is one file, a copy of which is beside
            imports += ["import pathlib", "", "from jaxrecipes.config import import_file"]
            file = pathlib.Path(str(sys.modules[module].__file__)).name
            recipe = ["", f"recipe = import_file(pathlib.Path(__file__).with_name({file!r}))"]
            recipe += [f"{name} = recipe.{name}" for name in sorted(names)]
        else:
            imports.append(f"from {module} import {', '.join(sorted(names))}")
    lines = [
        f'"""{about}"""',
        "",
        *imports,
        *recipe,
        "",
        "",
        f'def get_config(preset: str = "default") -> {type(config).__name__}:',
        '    """The config; it has one preset, the default."""',
        '    if preset != "default":',
        "        raise ValueError(f\"unknown preset {preset!r}; there is only 'default'\")",
        f"    return {body}",
    ]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def _source(value: Any, types: set[type], *, indent: int) -> str:
    """The expression that makes `value`, whose continuation lines start at `indent`."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return json.dumps(value) if isinstance(value, str) else repr(value)
    types.add(type(value))
    fields = [
        f"{field.name}={_source(getattr(value, field.name), types, indent=indent + 1)}"
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != _default(field)
    ]
    one_line = f"{type(value).__name__}({', '.join(fields)})"
    if len(one_line) < 80 - 4 * indent and "\n" not in one_line:
        return one_line
    inner, outer = "    " * (indent + 1), "    " * indent
    lines = "".join(f"{inner}{field},\n" for field in fields)
    return f"{type(value).__name__}(\n{lines}{outer})"


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
