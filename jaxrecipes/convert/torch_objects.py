"""The contents of PyTorch's pickles as plain data and numpy arrays.

What `torch.load(weights_only=True)` accepts is accepted. What has no counterpart in numpy, such as
sparse and quantised tensors, becomes an `Unread`, so that the rest of the file can still be used.
"""

import dataclasses
import math
import re
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes  # noqa: F401 makes bfloat16 and the 8-bit floats known to numpy
import numpy as np

from jaxrecipes.convert.pickled_arrays import NUMPY_NAMES, encoded, numpy_array
from jaxrecipes.convert.pickles import STORAGE, Name, Record, Walk, checked_key

_DTYPE = re.compile(
    r"bool|u?int(8|16|32|64)|b?float16|float(32|64)|complex(64|128)"
    r"|float8_e(4m3fn|4m3fnuz|5m2|5m2fnuz|8m0fnu)"
)
"""The dtypes that numpy has, with `ml_dtypes`."""

_STORAGES = {
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
_UTILS = "torch._utils._rebuild_"
_DICTS = ("collections.OrderedDict", "collections.Counter", "collections.defaultdict")
_INNER = tuple(  # what wraps another value, which comes first
    _UTILS + name
    for name in (
        "parameter",
        "parameter_with_state",
        "device_tensor_from_numpy",
        "device_tensor_from_cpu_tensor",
    )
)
_KINDS = {
    "qtensor": "a quantised tensor",
    "sparse_tensor": "a sparse tensor",
    "meta_tensor_no_storage": "a tensor without values (of the device meta)",
    "nested_tensor": "a nested tensor",
    "wrapper_subclass": "a tensor of a class that wraps others",
}
_SUBCLASS = "torch._tensor._rebuild_from_type_v2"

_NAMES = frozenset(
    {_UTILS + name for name in ("tensor", "tensor_v2", "tensor_v3", *_KINDS)}
    | {f"builtins.{name}" for name in ("set", "frozenset", "bytearray", "complex", "dict", "list")}
    | {"torch.Size", "torch.device", "torch.Tensor", "torch.serialization._get_layout"}
    | {"torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "builtins.int"}
    | {_SUBCLASS, *_INNER, *_DICTS, *NUMPY_NAMES}
)
_INERT = re.compile(  # storages, dtypes and schemes of quantisation
    r"torch\.((cuda\.|storage\.)?[A-Z]\w*Storage|bool|q?u?int\d\w*|b?float\d\w*"
    r"|complex\d+|bits\w+|per_(tensor|channel)_\w+)"
)

_NATIVE = "<" if sys.byteorder == "little" else ">"
_SPARE_BYTES = 64 * 2**20
_UNFOLDS = 4
"""How much more than its file holds the content may take: tensors may be views of one storage."""


@dataclasses.dataclass(frozen=True)
class Unread:
    """Stands for something that is not read; `kind` says what, such as "a sparse tensor"."""

    kind: str


def torch_name(name: str) -> bool:
    """Whether a file may use a name."""
    return name in _NAMES or _INERT.fullmatch(name) is not None


class TorchObjects:
    """Converts a result of `unpickle` to plain data and arrays.

    Args:
      read_storage: the bytes of a storage by its key.
      order: of their bytes, "<" or ">".
      pickle_bytes: the length of the pickle.
      file_bytes: the length of the file.
    """

    def __init__(
        self,
        read_storage: Callable[[str], bytes],
        *,
        order: str,
        pickle_bytes: int,
        file_bytes: int,
    ):
        self._read_storage, self._order = read_storage, order
        self._walk = Walk(_UNFOLDS * pickle_bytes + 10_000)
        self._bytes_left = _UNFOLDS * file_bytes + _SPARE_BYTES
        self._storages: dict[str, bytes] = {}
        self._arrays: dict[int, Any] = {}  # by the record's id: tied tensors stay one

    def plain(self, value: Any, depth: int = 0) -> Any:
        """Nested dicts, lists, tuples and sets of numbers, texts, arrays and `Unread`.

        Raises:
          ValueError: it is inconsistent, or would take too much memory.
        """
        self._walk.enter(value, depth)
        match value:
            case dict():
                return {key: self.plain(item, depth + 1) for key, item in value.items()}
            case list():
                return [self.plain(item, depth + 1) for item in value]
            case tuple():
                return tuple(self.plain(item, depth + 1) for item in value)
            case Name():
                return value.text
            case Record():
                return self._made(value, depth)
        return value

    def _made(self, record: Record, depth: int) -> Any:
        """The value of a record; subclasses know further kinds."""
        name, args = record.name, record.args
        if name in _DICTS:
            return self._dict(record, depth)
        if name in _INNER:
            return self.plain(args[0], depth + 1)
        if name == _SUBCLASS:
            return self.plain(Record(args[0].text, args[2]), depth + 1)
        if name.startswith(_UTILS):
            if id(record) not in self._arrays:
                self._arrays[id(record)] = self._tensor(record, depth)
            return self._arrays[id(record)]
        if name in ("builtins.set", "builtins.frozenset"):
            members = [*(args[0] if args else ()), *(record.members or ())]
            return {self.plain(member, depth + 1) for member in members}
        if name == "torch.Size":
            return tuple(self.plain(args[0], depth + 1)) if args else ()
        if name == "torch.device":
            return ":".join(str(self.plain(part, depth + 1)) for part in args)
        if name in ("_codecs.encode", "builtins.bytearray"):
            return self._bytes(record)
        if name == "builtins.complex":
            return complex(*map(float, args))
        if name == "numpy.dtype":
            return self.plain(args[0], depth + 1)
        array = numpy_array(record)
        if array is None:
            return Unread(name)
        self._spend(array.nbytes)
        return array if array.ndim else array.item()

    def _dict(self, record: Record, depth: int) -> dict[Any, Any]:
        given = record.args[0] if record.args and not isinstance(record.args[0], Name) else {}
        if not isinstance(given, dict):  # pairs, of which old pickles make one
            given = {checked_key(key): item for key, item in given}
        return self.plain({**given, **(record.pairs or {})}, depth + 1)

    def _bytes(self, record: Record) -> bytes:
        inner = record.args[0] if record.args else b""
        if record.name == "_codecs.encode":
            inner = encoded(record)
        elif isinstance(inner, Record):
            inner = encoded(inner)
        if not isinstance(inner, bytes):
            raise ValueError(f"bytes made of {type(inner).__name__}")
        self._spend(len(inner))
        return inner

    def _spend(self, count: int) -> None:
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise ValueError("its arrays unfold to far more than the file holds")

    def _tensor(self, record: Record, depth: int) -> Any:
        kind, args = record.name.removeprefix(_UTILS), record.args
        if kind not in ("tensor", "tensor_v2", "tensor_v3"):
            return Unread(_KINDS.get(kind, f"a tensor of kind {kind}"))
        stored, offset, size, stride = (self.plain_part(part, depth) for part in args[:4])
        later = [self.plain(part, depth + 1) for part in args[6:]]
        dtype = str(later.pop(0)).removeprefix("torch.") if kind == "tensor_v3" else None
        storage = self._storage(stored, dtype)
        if isinstance(storage, Unread):
            return storage
        array = _view(storage, offset, size, stride)
        self._spend(array.nbytes)
        flags = later[0] if later and isinstance(later[0], dict) else {}
        if flags.get("conj"):
            array = np.conj(array)
        return -array if flags.get("neg") else array

    def plain_part(self, part: Any, depth: int) -> Any:
        """`plain`, without what lies outside the pickle."""
        outside = isinstance(part, Record) and part.name == STORAGE
        return part.args[0] if outside else self.plain(part, depth + 1)

    def _storage(self, identifier: Any, dtype: str | None) -> np.ndarray | Unread:
        """The values of a storage, in its own dtype if it names one, or else in `dtype`."""
        tag, kind, key, _, count = identifier
        known = isinstance(kind, Name) and isinstance(key, str) and isinstance(count, int)
        if tag != "storage" or not known:
            raise ValueError("an unknown kind of storage")
        own = _STORAGES.get(kind.text.split(".")[-1])
        name = dtype or own
        if own is None or name is None or not _DTYPE.fullmatch(name):
            return Unread(f"a tensor of {dtype or kind.text}")
        if key not in self._storages:
            self._storages[key] = self._read_storage(key)
        data, resolved = self._storages[key], np.dtype(name)
        held = len(data) // np.dtype(own).itemsize
        if held < count:
            raise ValueError(f"storage {key} holds {held} values, {count} are declared")
        array = np.frombuffer(data, resolved, len(data) // resolved.itemsize)
        if self._order != _NATIVE and resolved.itemsize > 1:
            self._spend(len(data))
            array = array.byteswap()
        return array


def _view(storage: np.ndarray, offset: Any, size: Any, stride: Any) -> np.ndarray:
    """A view of a storage, after checking that it lies inside."""
    numbers = (offset, *size, *stride)
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in numbers)
    if len(size) != len(stride) or not whole or min(numbers) < 0:
        raise ValueError(f"bad tensor: offset {offset}, size {size}, stride {stride}")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count and last >= storage.size:
        raise ValueError(f"a tensor of size {size} ends beyond its storage of {storage.size}")
    if not count:
        return np.zeros(size, storage.dtype)
    strides = tuple(step * storage.itemsize for step in stride)
    return np.ndarray(size, storage.dtype, storage, offset * storage.itemsize, strides)
