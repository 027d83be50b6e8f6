"""How a config's fields are read from the command line, and shown in its help."""

import dataclasses
import functools
import operator
import typing
from typing import Annotated, Any

from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructTypeInfo,
)

from jaxrecipes.data.sizes import parse_image_size, parse_token_grid
from jaxrecipes.fields import bounds_of, bounds_text, plain, type_hints

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
    """A dataclass as tyro reads it, but that the bounds of numbers are in their place in the help:
    `--optim.b1 0<=FLOAT<1`.
    """
    if not dataclasses.is_dataclass(info.type) or _bounds_in_help in info.markers:
        return None
    plain = dataclasses.replace(info, markers=(*info.markers, _bounds_in_help))
    spec = ConstructorRegistry.get_struct_spec(plain)
    if not isinstance(spec, StructConstructorSpec):
        return None
    hints = type_hints(info.type)
    fields = [dataclasses.replace(f, type=_with_metavar(hints[f.name])) for f in spec.fields]
    return dataclasses.replace(spec, fields=tuple(fields))


def _with_metavar(hint: Any) -> Any:
    """The type, with a name for each number in it that has bounds."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        spec: Any = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(args[0], set()))
        name = bounds_text(bounds_of(hint), args[0].__name__.upper()).replace(" ", "")
        return Annotated[args[0], dataclasses.replace(spec, metavar=name)] if name else hint
    if not args or origin is typing.Literal:
        return hint
    inner = tuple(_with_metavar(arg) for arg in args)
    return origin[inner] if origin in (tuple, dict) else functools.reduce(operator.or_, inner)
