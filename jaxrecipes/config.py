"""Loading configs from Python files, presets and flags, and storing them as JSON.

The dataclasses themselves live beside what they configure (`train/config.py`, the recipes' files).
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import inspect
import io
import itertools
import json
import pathlib
import re
import sys
import traceback
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cattrs
import tyro

from jaxrecipes.errors import cause, nearest, shortened, unknown_name
from jaxrecipes.fields import FieldError, check_fields, is_hparam, located, plain
from jaxrecipes.flags import REGISTRY
from jaxrecipes.paths import user_path

FILE_MODULES = "jaxrecipes_file_"
"""Prefix of the names of modules that were imported from a single file; see `import_file`."""

_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


def _as_stored(value: Any, hint: Any) -> Any:
    """Turns JSON lists into tuples, string keys into the declared type, and whole numbers into
    floats where a float is declared, all of which JSON cannot express. Nothing else is converted,
    because the fields check it.
    """
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(value)
    if typing.get_origin(hint) is dict and isinstance(value, dict):
        whole = plain(typing.get_args(hint)[0]) is int
        return {int(key): item for key, item in value.items()} if whole else dict(value)
    if (hint is float or is_hparam(hint)) and type(value) is int and abs(value) < 2**53:
        return float(value)
    return value


for _kind in (str, int, bool, float):
    _CONVERTER.register_structure_hook(_kind, _as_stored)
_CONVERTER.register_structure_hook_func(
    lambda hint: typing.get_origin(hint) in (tuple, dict, typing.Literal) or is_hparam(hint),
    _as_stored,
)


def load_config(spec: str, overrides: Sequence[str] = ()) -> Any:
    """The config that `--config SPEC` and the flags after it name.

    Args:
      spec: `FILE.py` or `FILE.py:PRESET`; the file defines `get_config(preset="default")`.
      overrides: flags such as `["--optim.learning_rate", "2e-4"]`, typed by the dataclass' fields.
        `--help` prints every field with its description and exits; a wrong flag exits with status
        2.

    Raises:
      ValueError: the file does not exist or raises an error, there is no `get_config` or no such
        preset, a field is misspelt, or a value has the wrong type.
    """
    path, _, preset = spec.partition(":")
    return config_of(import_file(user_path(path)), preset or "default", overrides, spec=spec)


def config_of(
    module: types.ModuleType, preset: str, overrides: Sequence[str] = (), *, spec: str
) -> Any:
    """A module's preset, changed by flags; see `load_config`.

    A module without `get_config` has a single preset, `default`: its `Config()`.
    """
    path, get_config = module.__file__, getattr(module, "get_config", None)
    if not callable(get_config if hasattr(module, "get_config") else getattr(module, "Config", 0)):
        raise ValueError(
            f"{path} defines neither get_config(preset='default') nor a recipe (Config, load_data "
            "and make_recipe)"
        )
    if get_config is None and preset != "default":
        raise unknown_name("preset", preset, ["default"])
    try:
        with told_of_user_code("get_config" if get_config else "Config()", str(path)):
            config = get_config(preset) if get_config else module.Config()
    except ValueError as error:
        if isinstance(error.__cause__, TypeError):
            raise _clear_type_error(error.__cause__, module, error) from error.__cause__
        if isinstance(error.__cause__, KeyError) and error.__cause__.args == (preset,):
            raise ValueError(f"{error}; there is no such preset") from error.__cause__
        raise
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise ValueError(
            f"get_config of {path} returned {shortened(repr(config), 80)}; "
            "expected a recipe's config, such as OcecRunConfig"
        )
    check_fields(config)
    return with_overrides(config, list(overrides), spec)


def load_function(spec: str, name: str) -> Callable[..., Any] | None:
    """The function `name` in the file that `--config SPEC` names; None if it has none."""
    path, _, _ = spec.partition(":")
    return None if path.endswith(".json") else getattr(import_file(user_path(path)), name, None)


@contextlib.contextmanager
def told_of_user_code(what: str, file: str) -> Iterator[None]:
    """Turns whatever a user's code in `file` raises into a ValueError that names the line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, SyntaxError):
            line, said = error.lineno, f"SyntaxError: {error.msg}"
        else:
            lines = [at for frame, at in traceback.walk_tb(error.__traceback__) if _in(frame, file)]
            line, said = lines[-1] if lines else None, cause(error)
            if not isinstance(error, ValueError | OSError | KeyError):
                name = type(error).__name__
                said = said if said.startswith(name) else f"{name}: {said}"
        where = file if line is None else f"{file}, line {line}"
        raise ValueError(f"{where}: {what}: {said}") from error


def field_paths(config: Any, path: str = "") -> Iterator[str]:
    """The dotted name of every field of a config."""
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{path}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from field_paths(value, f"{name}.")
        else:
            yield name


def with_fields(config: Any, values: Mapping[str, Any] | None) -> Any:
    """The config with some values replaced, by dotted name. All are set at once, so that its checks
    see the final combination.

    Raises:
      ValueError: there is no such field (the nearest is named), or it does not allow the value.
    """
    known = list(field_paths(config))
    for name in values or {}:
        if name not in known:
            raise unknown_name("field", name, known)
    try:
        return replaced(config, values or {})
    except FieldError as error:
        raise located(error, type(config)) from None


def replaced(config: Any, values: Mapping[str, Any]) -> Any:
    """Like `with_fields`, but raises plain FieldErrors."""
    inner: dict[str, dict[str, Any]] = {}
    changes: dict[str, Any] = {}
    for path, value in values.items():
        head, dot, rest = path.partition(".")
        if dot:
            inner.setdefault(head, {})[rest] = value
        else:
            changes[head] = value
    changes |= {head: replaced(getattr(config, head), rest) for head, rest in inner.items()}
    return dataclasses.replace(config, **changes) if changes else config


def to_dict(config: Any) -> dict[str, Any]:
    """The config as nested dicts, as JSON would return them (tuples become lists)."""
    return json.loads(json.dumps(_CONVERTER.unstructure(config)))


def from_dict(config_type: type, values: Mapping[str, Any]) -> Any:
    """The config that `to_dict` turned into `values`, in this version or an earlier one.

    A config type that has changed reads what earlier versions stored in `upgraded(values)`.

    Raises:
      ValueError: fields that this version of the library does not know, or values of a wrong type.
    """
    upgraded = getattr(config_type, "upgraded", dict)
    try:
        config: Any = _CONVERTER.structure(upgraded(values), config_type)
        check_fields(config)
    except cattrs.BaseValidationError as error:
        wrong_fields, others = error.split(FieldError)
        problems = [str(located(e, config_type)) for e in _single(wrong_fields)]
        problems += cattrs.transform_error(others) if others else []
        raise ValueError(
            f"the stored config does not fit {config_type.__name__}: {'; '.join(problems)}"
        ) from error
    return config


def _single(error: BaseException | None) -> Iterator[Any]:
    """The single errors in nested exception groups."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _single(inner)
    elif error is not None:
        yield error


def diff(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> list[str]:
    """One line `a.b: OLD -> NEW` for each field whose values differ between two config dicts."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, after, name = old.get(key), new.get(key), f"{path}{key}"
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += diff(before, after, f"{name}.")
        elif before != after:
            lines.append(f"{name}: {before!r} -> {after!r}")
    return lines


def import_file(path: pathlib.Path) -> types.ModuleType:
    """The Python file as a module, imported again only if it has changed.

    Raises:
      ValueError: it does not exist, or raises an error.
    """
    if path.suffix != ".py" or not path.is_file():
        known = [str(p) for p in sorted(path.parent.glob("*.py"))] if path.parent.is_dir() else []
        if path.suffix != ".py" or not known:
            raise ValueError(
                f"config {str(path)!r} is not a file; expected FILE.py or FILE.py:PRESET"
            )
        raise unknown_name("config file", str(path), known)
    digest = hashlib.sha256(str(path.resolve()).encode() + path.read_bytes()).hexdigest()[:16]
    name = f"{FILE_MODULES}{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a .py file always has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look up types
    try:
        with told_of_user_code("does not run", str(path)):
            spec.loader.exec_module(module)
    except ValueError:
        del sys.modules[name]
        raise
    return module


def with_overrides(config: Any, overrides: Sequence[str], spec: str) -> Any:
    """The config changed by flags such as `["--optim.learning_rate", "2e-4"]`; `spec` is its name
    in the help.
    """
    known = list(field_paths(config))
    switched_off = [re.sub(r"(\w+)$", r"no_\1", name) for name in known]
    for flag in overrides:
        name = flag.removeprefix("--").partition("=")[0].replace("-", "_")
        if flag.startswith("--") and name not in ("help", *known, *switched_off):
            near = nearest(name, known) or known[0]
            raise ValueError(
                f"unknown field {shortened(flag, 80)!r}; did you mean '--{near}'? "
                f"`--config {spec} --help` shows every field"
            )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                type(config),
                default=config,
                args=_switched(config, overrides),
                prog=f"--config {spec}",
                use_underscores=True,
                registry=REGISTRY,
            )
    except SystemExit as end:
        if not end.code:  # --help
            raise
        found: BaseException | None = end
        while found is not None and not isinstance(found, FieldError):
            found = found.__context__
        if found is not None:
            raise located(found, type(config)) from None
        raise ValueError(shortened(_message_of_box(said.getvalue()), 600)) from None


_SWITCH = {"True": True, "true": True, "False": False, "false": False}


def _switched(config: Any, overrides: Sequence[str]) -> list[str]:
    """The flags, in which `--ema.enabled False` and `--ema.enabled=False` are in the form that tyro
    takes: `--ema.no_enabled`.
    """
    switches = {
        name
        for name in field_paths(config)
        if isinstance(functools.reduce(getattr, name.split("."), config), bool)
    }
    words = list(overrides)
    taken: list[str] = []
    while words:
        flag, equals, value = words.pop(0).partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not (flag.startswith("--") and name in switches):
            taken.append(flag + equals + value)
            continue
        if not equals and words and words[0] in _SWITCH:
            value = words.pop(0)
        if value not in ("", *_SWITCH):
            raise ValueError(f"{flag} is {shortened(value, 80)!r}; expected True or False")
        taken.append(flag if _SWITCH.get(value, True) else re.sub(r"(\w+)$", r"no_\1", f"--{name}"))
    return taken


def _message_of_box(box: str) -> str:
    """The message inside tyro's box, which has a title, a rule, the message, a rule and advice."""
    lines = [line.strip(" \u2500\u2502\u256d\u256e\u2570\u256f-") for line in box.splitlines()]
    title, *rest = lines or [""]
    parts = [" ".join(part) for there, part in itertools.groupby(rest, bool) if there]
    return parts[0] if parts else title


def _in(frame: types.FrameType, file: str) -> bool:
    return frame.f_code.co_filename == file


def _clear_type_error(
    error: TypeError, module: types.ModuleType, otherwise: ValueError
) -> Exception:
    """The error for a TypeError in `get_config` that comes from a misspelt field."""
    misspelt = _misspelt_field(error, module)
    return otherwise if misspelt is error else misspelt


def _misspelt_field(error: TypeError, module: types.ModuleType) -> Exception:
    """The error for `SomeConfig(lr=...)` in a config file, with the nearest field of that
    dataclass.
    """
    match = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if match is None:
        return error
    class_name, field = match.groups()
    for value in vars(module).values():
        for _, found in (
            inspect.getmembers(value, inspect.isclass)
            if inspect.ismodule(value)
            else [(None, value)]
        ):
            if getattr(found, "__name__", None) == class_name and dataclasses.is_dataclass(found):
                return unknown_name(
                    f"field of {class_name}", field, [f.name for f in dataclasses.fields(found)]
                )
    return ValueError(str(error))
