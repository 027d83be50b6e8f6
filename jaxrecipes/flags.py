"""How the fields of a config are read from the command line and shown in the help."""

import dataclasses
import functools
import operator
import types
import typing
from typing import Annotated, Any

from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructTypeInfo,
)

from jaxrecipes.bounds import bounds_of, bounds_text
from jaxrecipes.data.sizes_from_text import parse_image_size, parse_token_grid
from jaxrecipes.fields import is_hparam, plain, type_hints

REGISTRY = ConstructorRegistry()


@REGISTRY.primitive_rule
def _pair_of_ints(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[tuple[int, int]] | None:
    """Sizes and grids are written as `24x40` or `24 40`, and a square as `48`."""
    kinds = tuple(plain(kind) for kind in typing.get_args(info.type))
    if info.type_origin is not tuple or kinds != (int, int):
        return None

    def read(args: list[str]) -> tuple[int, int]:
        return parse_image_size(args[0]) if len(args) == 1 else parse_token_grid(" ".join(args))

    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="INTxINT",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [f"{value[0]}x{value[1]}"],
    )


@REGISTRY.struct_rule
def _bounds_in_help(info: StructTypeInfo) -> StructConstructorSpec | None:
    """A dataclass as tyro reads it, with the bounds of numbers shown in the help: `--optim.b1
    0<=FLOAT<1`.
    """
    if not dataclasses.is_dataclass(info.type) or _bounds_in_help in info.markers:
        return None
    plain = dataclasses.replace(info, markers=(*info.markers, _bounds_in_help))
    spec = ConstructorRegistry.get_struct_spec(plain)
    if not isinstance(spec, StructConstructorSpec):
        return None
    hints = type_hints(info.type)
    fields = [
        dataclasses.replace(
            f, type=_with_metavar(hints[f.name]), helptext=_with_hparam_note(f, hints)
        )
        for f in spec.fields
    ]
    return dataclasses.replace(spec, fields=tuple(fields))


def _with_hparam_note(field: Any, hints: dict[str, Any]) -> Any:
    """The help of a field, with a note if it is a hyperparameter."""
    if not is_hparam(hints[field.name]):
        return field.helptext

    def text() -> str:
        own = field.helptext() if callable(field.helptext) else field.helptext
        return f"{own or ''} Changes without a compile."

    return text


def _with_metavar(hint: Any) -> Any:
    """The type, with a metavar for each number that has bounds, and a parser for what tyro cannot
    read.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if is_hparam(hint):
        return Annotated[Any, _hparam_spec(hint)]
    if origin is dict:
        return Annotated[hint, _dict_spec(*args)]
    if origin is Annotated:
        spec: Any = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(args[0], set()))
        name = _metavar(hint)
        return Annotated[args[0], dataclasses.replace(spec, metavar=name)] if name else hint
    if not args or origin is typing.Literal:
        return hint
    inner = tuple(_with_metavar(arg) for arg in args)
    return origin[inner] if origin is tuple else functools.reduce(operator.or_, inner)


def _metavar(hint: Any) -> str:
    """`0<=FLOAT<1`; empty without bounds."""
    return bounds_text(bounds_of(hint), plain(hint).__name__.upper()).replace(" ", "")


def _hparam_spec(hint: Any) -> PrimitiveConstructorSpec[Any]:
    """Parses a number, None if the field allows it, or the text of a schedule."""
    options = typing.get_args(hint)
    may_be_none = types.NoneType in options
    names = [_metavar(options[0]) or "FLOAT", *(["None"] if may_be_none else []), "SCHEDULE"]

    def read(args: list[str]) -> float | str | None:
        if may_be_none and args[0] == "None":
            return None
        try:
            return float(args[0])
        except ValueError:
            return args[0]

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="|".join(names),
        instance_from_str=read,
        is_instance=lambda value: value is None or isinstance(value, float | int | str),
        str_from_instance=lambda value: [str(value)],
    )


def _dict_spec(key: Any, value: Any) -> PrimitiveConstructorSpec[dict[Any, Any]]:
    """Parses alternating keys and values, which replace the config's: `"^head/" 10 "^stem/"
    0.1`.
    """
    kinds = plain(key), plain(value)
    names = [_metavar(hint) or plain(hint).__name__.upper() for hint in (key, value)]

    def read(args: list[str]) -> dict[Any, Any]:
        if len(args) % 2:
            raise ValueError(f"expected pairs of {' and '.join(names)}, got {' '.join(args)!r}")
        items = [kinds[i % 2](text) for i, text in enumerate(args)]
        return dict(zip(items[::2], items[1::2], strict=True))

    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"[{' '.join(names)} ...]",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [str(x) for item in value.items() for x in item],
    )
