"""Reads pickles without running anything that they name, and at a cost bounded by their size.

Python's own unpickler calls what a file names and trusts the lengths in it: 25 bytes can make it
allocate gigabytes. Here a pickle is only data: every call in it becomes an inert `Record`, an
unexpected name is refused, and lengths are checked against what is there.
"""

import dataclasses
import io
import pickle
import reprlib
from collections.abc import Callable
from typing import Any

from jaxrecipes.errors import cause

MOST_OPERATIONS = 1_000_000
"""Steps of a pickle; one with the moments of a thousand parameters takes 150,000."""

MOST_DEPTH = 60
"""Containers within containers, where a pickle's content is walked through."""

_MOST_INTEGER_BITS = 128  # states of random generators are that long

_PLAIN = (type(None), bool, int, float, str, bytes)
_DECODED = (  # the operations that Python's own unpickler in Python does as they are
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "GLOBAL", "STACK_GLOBAL"),
    *("GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINPERSID"),
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
    *("LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES"),
    *("BINBYTES8", "SHORT_BINBYTES", "UNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "EMPTY_DICT"),
)


class UnsafeCheckpointError(ValueError):
    """The file names something that is not plain data; nothing in it was run."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A class or function that a pickle names, such as "torch._utils._rebuild_tensor_v2"."""

    text: str


@dataclasses.dataclass(slots=True, eq=False)
class Record:
    """What a pickle would have made by calling a class or function.

    Attributes:
      name: of what it would have called.
      args: of the call.
      state: that it would have set afterwards.
      pairs: keys and values that it would have set; None if none.
      members: values that it would have appended; None if none.
    """

    name: str
    args: tuple[Any, ...]
    state: Any = None
    pairs: dict[Any, Any] | None = None
    members: list[Any] | None = None


STORAGE = "a stored object"
"""The name of the `Record` of what lies outside of the pickle; its one argument says where."""


def unpickle(data: bytes, allowed: Callable[[str], bool], *, need: str) -> Any:
    """The object in a pickle: plain data, a `Name` or a `Record` for everything else.

    Args:
      data: the pickle; texts of Python 2 are read as latin-1.
      allowed: whether it may contain a name such as "collections.OrderedDict".
      need: who could need names, for the message: "no MANO file needs".

    Raises:
      UnsafeCheckpointError: it names something else.
      ValueError: it is damaged, or too long.
    """
    try:
        return _Unpickler(data, allowed, need).load()
    except UnsafeCheckpointError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(f"damaged: {cause(error)}") from error


class Walk:
    """Bounds a walk through a result of `unpickle`, in which lists may contain each other."""

    def __init__(self, most: int):
        self._left = most

    def enter(self, value: Any, depth: int) -> None:
        """Counts one value.

        Raises:
          ValueError: there were too many, it is nested too deeply, or it is an enormous integer.
        """
        self._left -= 1
        if self._left < 0:
            raise ValueError("it unfolds to far more values than it has bytes")
        if depth > MOST_DEPTH:
            raise ValueError(f"more than {MOST_DEPTH} containers within each other")
        if isinstance(value, int) and value.bit_length() > _MOST_INTEGER_BITS:
            raise ValueError(f"a whole number of {value.bit_length()} bits")


class _Unpickler(pickle._Unpickler):  # the one in Python: that in C allocates what a file declares
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, data: bytes, allowed: Callable[[str], bool], need: str):
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._allowed, self._need = allowed, need
        self.dispatch = _Operations()  # type: ignore[misc]

    def find_class(self, module: str, name: str) -> Any:
        text = f"{module.replace('__builtin__', 'builtins')}.{name}"
        if not self._allowed(text):
            raise UnsafeCheckpointError(
                f"refused: the file names {module}.{name}, which {self._need}, and loading it "
                "would run code; nothing of the file was run"
            )
        return Name(text)

    def persistent_load(self, pid: Any) -> Any:
        return Record(STORAGE, (pid,))

    def reduce(self) -> None:
        args = self.stack.pop()
        called = self.stack.pop()
        if not isinstance(called, Name) or not isinstance(args, tuple):
            raise ValueError(f"a call of {reprlib.repr(called)}")
        if called.text in ("copy_reg._reconstructor", "copyreg._reconstructor"):
            called, args = args[0], ()  # how old protocols say NEWOBJ
        self.append(Record(called.text, args))

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, Record):
            raise ValueError(f"a state for {type(target).__name__}")
        target.state = state

    def add(self, items: list[Any]) -> None:
        target: Any = self.stack[-1]
        if isinstance(target, Record):
            target.members = target = target.members or []
        if not isinstance(target, list):
            raise ValueError(f"values appended to {type(target).__name__}")
        target.extend(items)

    def append_one(self) -> None:
        self.add([self.stack.pop()])

    def append_many(self) -> None:
        self.add(self.pop_mark())

    def set_pairs(self, items: list[Any]) -> None:
        target: Any = self.stack[-1]
        if isinstance(target, Record):
            target.pairs = target = target.pairs or {}
        if not isinstance(target, dict):
            raise ValueError(f"keys and values for {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[checked_key(key)] = value

    def set_one(self) -> None:
        value = self.stack.pop()
        self.set_pairs([self.stack.pop(), value])

    def set_many(self) -> None:
        self.set_pairs(self.pop_mark())

    def make_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.set_pairs(items)

    def empty_set(self) -> None:
        self.append(Record("builtins.set", ()))

    def frozen_set(self) -> None:
        self.append(Record("builtins.frozenset", (self.pop_mark(),)))


def checked_key(key: Any) -> Any:
    """A key of a dict, which must be a plain value or a tuple of plain values.

    Nested tuples can take exponential time to hash, or exhaust the stack.
    """
    for part in key if isinstance(key, tuple) else (key,):
        if not isinstance(part, _PLAIN) or (isinstance(part, int) and part.bit_length() > 64):
            raise ValueError(f"a key of kind {type(part).__name__}")
    return key


class _Operations(dict[int, Any]):
    """The operations of a pickle, which it counts."""

    def __init__(self) -> None:
        own = pickle._Unpickler.dispatch
        super().__init__({getattr(pickle, n)[0]: own[getattr(pickle, n)[0]] for n in _DECODED})
        self.update(_CHANGED)
        self._left = MOST_OPERATIONS

    def __getitem__(self, code: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"it takes more than {MOST_OPERATIONS:,} steps")
        if code not in self:
            raise ValueError(f"unknown operation {bytes([code])!r}")
        return super().__getitem__(code)


_CHANGED: dict[int, Callable[[_Unpickler], None]] = {
    pickle.REDUCE[0]: _Unpickler.reduce,
    pickle.NEWOBJ[0]: _Unpickler.reduce,
    pickle.BUILD[0]: _Unpickler.build,
    pickle.APPEND[0]: _Unpickler.append_one,
    pickle.APPENDS[0]: _Unpickler.append_many,
    pickle.ADDITEMS[0]: _Unpickler.append_many,
    pickle.SETITEM[0]: _Unpickler.set_one,
    pickle.SETITEMS[0]: _Unpickler.set_many,
    pickle.DICT[0]: _Unpickler.make_dict,
    pickle.BYTEARRAY8[0]: _Unpickler.load_binbytes8,  # type: ignore[attr-defined]
    pickle.EMPTY_SET[0]: _Unpickler.empty_set,
    pickle.FROZENSET[0]: _Unpickler.frozen_set,
}
