"""A pytree of arrays to Orbax and back.

Orbax takes about a millisecond per array, whatever its size; a training state has hundreds of small
ones. So all small arrays that this process holds whole travel as one vector of bytes, and only the
large and the distributed ones are arrays of their own (0.05 s instead of 0.5 s for 400 leaves).
Leaves are stored by path, not by container, so optimizer states, dataclasses and other custom nodes
need no support from Orbax, and a part of a tree is read by naming just that part.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np
from orbax.checkpoint import v1

from jaxrecipes.checkpoint.errors import CheckpointMismatch

Saving: TypeAlias = v1.AsyncResponse[None]

_PACK = "pack"
_PACK_BELOW_BYTES = 1 << 20
_SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Record:
    """Where a leaf is stored and what it is.

    Attributes:
      path: keys joined by "/", such as "params/Dense_0/kernel".
      dtype: name of the dtype; "key<fry>" and the like for typed PRNG keys.
      shape: the leaf's shape.
      key_impl: name of the PRNG implementation, None for all but typed keys.
      key_shape: shape of one key's uint32 words, () for all but typed keys.
      offset: first byte in the pack; None for an array of its own, called `name`.
      name: key of the array in Orbax's tree.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    key_impl: str | None
    key_shape: tuple[int, ...]
    offset: int | None
    name: str

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Record":
        """Undoes `vars` and JSON, which knows no tuples."""
        tuples = {name: tuple(fields[name]) for name in ("shape", "key_shape")}
        return cls(**{**fields, **tuples})

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return (*self.shape, *self.key_shape)

    @property
    def stored_dtype(self) -> np.dtype:
        return np.dtype(np.uint32 if self.key_impl else self.dtype)


def save(path: Path, tree: Any) -> tuple[Saving, list[Record]]:
    """Starts writing `tree` to the new folder `path`; every process calls it.

    When it returns, the tree is copied: its buffers may be donated, overwritten or deleted.

    Raises:
      ValueError: a leaf is not an array, two leaves have one path, or the tree has no leaf.
    """
    leaves = _by_path(tree)
    if not leaves:
        raise ValueError("nothing to save: the tree has no leaf")
    records: list[Record] = []
    small: list[Any] = []
    arrays: dict[str, Any] = {}
    offset = 0
    for index, (leaf_path, leaf) in enumerate(leaves.items()):
        shape, dtype = np.shape(leaf), str(leaf.dtype)
        key_impl: str | None = None
        if _is_key(leaf.dtype):
            key_impl, leaf = str(jax.random.key_impl(leaf)), jax.random.key_data(leaf)
        local = isinstance(leaf, np.ndarray | np.generic) or leaf.is_fully_addressable
        packed = leaf.nbytes <= _PACK_BELOW_BYTES and (local or leaf.is_fully_replicated)
        if packed:
            small.append(leaf)
        elif isinstance(leaf, jax.Array) and not (local and jax.process_count() > 1):
            arrays[str(index)] = leaf
        else:
            arrays[str(index)] = np.array(leaf)
        key_shape = leaf.shape[len(shape) :]
        at = offset if packed else None
        records.append(Record(leaf_path, dtype, shape, key_impl, key_shape, at, str(index)))
        offset += leaf.nbytes if packed else 0
    if offset:
        pack = b"".join(leaf.tobytes() for leaf in jax.device_get(small))
        arrays[_PACK] = np.frombuffer(pack, np.uint8)
    if not arrays:  # only empty arrays
        arrays[_PACK] = np.zeros(1, np.uint8)
    # Else a program that ends without waiting hangs: the folder is never made, and Orbax waits on.
    context = v1.Context()
    context.asynchronous.create_directories_asynchronously = False
    with context:
        return v1.save_async(path, arrays), records


def load(path: Path, records: list[Record], abstract_tree: Any, *, partial: bool) -> Any:
    """Reads the leaves of `abstract_tree`, each with the abstract leaf's sharding.

    Args:
      path: what `save` wrote.
      records: what `save` returned.
      abstract_tree: arrays or ShapeDtypeStructs. A numpy leaf comes back as numpy, a leaf without
        a sharding as an uncommitted array of the default device.
      partial: leave out what the abstract tree does not name, instead of objecting to it.

    Raises:
      CheckpointMismatch: the trees differ; nothing is read.
    """
    wanted = _by_path(abstract_tree)
    saved = {record.path: record for record in records}
    _check_same(wanted, saved, partial=partial)

    own = {saved[p].name: _abstract(saved[p], leaf) for p, leaf in wanted.items() if _own(saved[p])}
    end = max((r.offset + _nbytes(r) for r in records if r.offset is not None), default=0)
    if any(not _own(saved[p]) for p in wanted) and end:
        own[_PACK] = np.empty(end, np.uint8)
    context = v1.Context()
    context.pytree.loading.partial_load = True
    with context:
        arrays = v1.load(path, own) if own else {}
    pack = arrays.get(_PACK, np.zeros(0, np.uint8))

    def restore(record: Record, leaf: Any) -> Any:
        if _own(record):
            data = arrays[record.name]
        else:
            start = record.offset or 0
            raw = pack[start : start + _nbytes(record)].copy()
            data = raw.view(record.stored_dtype).reshape(record.stored_shape)
        if isinstance(leaf, np.ndarray | np.generic):
            return np.asarray(data)
        if isinstance(data, np.ndarray):
            sharding = _sharding(leaf)
            if sharding is None:
                data = jax.numpy.array(data)
            else:
                host = data
                data = jax.make_array_from_callback(host.shape, sharding, lambda at: host[at])
        return jax.random.wrap_key_data(data, impl=record.key_impl) if record.key_impl else data

    leaves = [restore(saved[path], leaf) for path, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(abstract_tree), leaves)


def _by_path(tree: Any) -> dict[str, Any]:
    """Path -> leaf, in the order of `jax.tree.leaves`."""
    leaves: dict[str, Any] = {}
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
            raise ValueError(
                f"leaf {path!r} is {leaf!r}; a checkpoint holds arrays only, so wrap it with "
                "jnp.asarray or put it in the metadata"
            )
        if path in leaves:
            raise ValueError(f"two leaves have the path {path!r}; rename one of them")
        leaves[path] = leaf
    return leaves


def _check_same(wanted: dict[str, Any], saved: dict[str, Record], *, partial: bool) -> None:
    missing = [path for path in wanted if path not in saved]
    unexpected = [] if partial else [path for path in saved if path not in wanted]
    differing = []
    for path, leaf in wanted.items():
        if path in saved:
            have = saved[path].dtype, saved[path].shape
            want = _dtype_name(leaf), tuple(leaf.shape)
            if have != want:
                differing.append(f"{path}: {_spec(have)} in the checkpoint, {_spec(want)} wanted")
    lines = []
    for title, items in (
        ("wanted but not in the checkpoint", missing),
        ("in the checkpoint but not wanted", unexpected),
        ("different", differing),
    ):
        if items:
            more = [f"... and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else []
            lines += [f"{title} ({len(items)}):", *("  " + i for i in items[:_SHOWN] + more)]
    if lines:
        raise CheckpointMismatch(
            "the checkpoint does not fit: it was saved by another recipe or with another "
            "configuration. Use the configuration that it was saved with, or another folder.\n"
            + "\n".join(lines)
        )


def _spec(dtype_and_shape: tuple[str, tuple[int, ...]]) -> str:
    dtype, shape = dtype_and_shape
    return f"{dtype}[{','.join(map(str, shape))}]"


def _dtype_name(leaf: Any) -> str:
    """A leaf that will come back as a jax.Array has the dtype that JAX would give it."""
    if _is_key(leaf.dtype) or isinstance(leaf, np.ndarray | np.generic):
        return str(leaf.dtype)
    return str(jax.dtypes.canonicalize_dtype(leaf.dtype))


def _is_key(dtype: Any) -> bool:
    return jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def _own(record: Record) -> bool:
    return record.offset is None


def _nbytes(record: Record) -> int:
    return math.prod(record.stored_shape) * record.stored_dtype.itemsize


def _sharding(leaf: Any) -> jax.sharding.Sharding | None:
    if isinstance(leaf, jax.Array) and not leaf.committed:
        return None
    return leaf.sharding


def _abstract(record: Record, leaf: Any) -> Any:
    """What Orbax is asked for; numpy where the array is wanted on no particular device."""
    is_numpy = isinstance(leaf, np.ndarray | np.generic)
    sharding = None if is_numpy else _sharding(leaf)
    if sharding is None:
        return np.empty(record.stored_shape, record.stored_dtype)
    return jax.ShapeDtypeStruct(record.stored_shape, record.stored_dtype, sharding=sharding)
