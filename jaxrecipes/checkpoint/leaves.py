"""The leaves of a tree by path: what a checkpoint records about each, comparing two trees, and what
goes wrong with either.
"""

import dataclasses
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np


class CheckpointMismatch(ValueError):
    """The checkpoint is intact but belongs to another tree: other keys, shapes or dtypes."""


class CheckpointCorrupt(RuntimeError):
    """The bytes on disk are not those that were saved."""


class CheckpointWriteError(OSError):
    """A checkpoint could not be written; those saved before are untouched."""


def write_error(step: int, directory: Path, cause: Exception) -> CheckpointWriteError:
    """The error that says why the checkpoint of `step` was not written, and what to do."""
    code = cause.errno if isinstance(cause, OSError) else None
    if match := re.search(r"os_error_code='(\d+)'", str(cause)):  # how TensorStore reports errno
        code = int(match[1])
    reason = os.strerror(code) if code else f"{type(cause).__name__}: {str(cause)[:300]}"
    try:
        room = f"{shutil.disk_usage(directory).free / 1e6:.1f} MB are free"
    except OSError:
        room = "there is no such folder"
    error = CheckpointWriteError(
        f"could not save the checkpoint of step {step} in {directory}: {reason} ({room}). The "
        "checkpoints saved before are intact. Free some space, or choose a writable folder, "
        "and run the same command again"
    )
    error.errno = code
    return error


_SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Record:
    """The description of a leaf in the manifest.

    Attributes:
      path: keys joined by "/", such as "params/Dense_0/kernel".
      dtype: name of the dtype; "key<fry>" and the like for typed PRNG keys.
      shape: the leaf's shape.
      key_impl: name of the PRNG implementation, None for all but typed keys.
      key_shape: shape of one key's uint32 words, () for all but typed keys.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    key_impl: str | None
    key_shape: tuple[int, ...]

    @classmethod
    def of(cls, path: str, leaf: Any) -> "Record":
        key_impl: str | None = None
        key_shape: tuple[int, ...] = ()
        if is_key(leaf.dtype):
            key_impl = str(jax.random.key_impl(leaf))
            key_shape = jax.random.key_data(leaf).shape[np.ndim(leaf) :]
        return cls(path, str(leaf.dtype), tuple(np.shape(leaf)), key_impl, key_shape)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Record":
        """Undoes `vars` and JSON, which has no tuples; ignores unknown keys."""
        known = {field.name: fields[field.name] for field in dataclasses.fields(cls)}
        return cls(**known | {name: tuple(fields[name]) for name in ("shape", "key_shape")})

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return (*self.shape, *self.key_shape)

    @property
    def stored_dtype(self) -> np.dtype:
        return np.dtype(np.uint32 if self.key_impl else self.dtype)


def is_key(dtype: Any) -> bool:
    return jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def by_path(tree: Any) -> dict[str, Any]:
    """Path -> leaf, in the order of `jax.tree.leaves`.

    Raises:
      ValueError: a leaf is not an array, or two leaves would get the same name.
    """
    leaves: dict[str, Any] = {}
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        path = _path(keys)
        if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
            raise ValueError(
                f"leaf {path!r} is {leaf!r}; a checkpoint holds arrays only, so wrap it with "
                "jnp.asarray or put it in the metadata"
            )
        if path in leaves:
            raise ValueError(f"two leaves have the path {path!r}; rename one of them")
        leaves[path] = leaf
    return leaves


def empty_nodes(tree: Any) -> dict[str, Any]:
    """Path -> None or {} for nodes without children, which the leaves do not show."""
    paths = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_empty)[0]
    return {_path(keys): None if node is None else {} for keys, node in paths if _is_empty(node)}


def nested(by_path: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts with the parts of the paths as keys.

    Raises:
      ValueError: one path is the beginning of another, or Orbax, which joins keys by ".", would
        store two leaves under the same name.
    """
    tree: dict[str, Any] = {}
    names: dict[str, str] = {}
    for path, leaf in by_path.items():
        other = names.setdefault(path.replace("/", "."), path)
        node, (*parents, last) = tree, path.split("/")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                break
        if other != path or not isinstance(node, dict) or last in node:
            raise ValueError(f"the leaf {path!r} would hide another one; rename one of them")
        node[last] = leaf
    return tree


def check_same(wanted: Mapping[str, Any], saved: Mapping[str, Record], *, partial: bool) -> None:
    """Raises a CheckpointMismatch that names what differs between two trees by path.

    Args:
      wanted: arrays or `ShapeDtypeStruct`s.
      saved: what the checkpoint holds.
      partial: the checkpoint may hold more.
    """
    missing = [path for path in wanted if path not in saved]
    unexpected = [] if partial else [path for path in saved if path not in wanted]
    differing = []
    for path, leaf in wanted.items():
        if path in saved:
            have = saved[path].dtype, saved[path].shape
            want = _dtype_name(leaf), tuple(leaf.shape)
            if have != want:
                differing.append(f"{path}: {_spec(have)} in the checkpoint, {_spec(want)} wanted")
    lines: list[str] = []
    for title, items in (
        ("wanted but not in the checkpoint", missing),
        ("in the checkpoint but not wanted", unexpected),
        ("different", differing),
    ):
        lines += _listed(title, items)
    if lines:
        raise CheckpointMismatch(
            "the checkpoint does not fit: it was saved by another recipe or with another "
            "configuration. Use the configuration that it was saved with, or another folder.\n"
            + "\n".join(lines)
        )


def _listed(title: str, items: list[str]) -> Iterable[str]:
    if not items:
        return []
    more = [f"... and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else []
    return [f"{title} ({len(items)}):", *("  " + item for item in items[:_SHOWN] + more)]


def _path(keys: Any) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def _is_empty(node: Any) -> bool:
    if node is None:
        return True
    children_and_data = jax.tree_util.default_registry.flatten_one_level(node)
    return children_and_data is not None and not list(children_and_data[0])


def _spec(dtype_and_shape: tuple[str, tuple[int, ...]]) -> str:
    dtype, shape = dtype_and_shape
    return f"{dtype}[{','.join(map(str, shape))}]"


def _dtype_name(leaf: Any) -> str:
    """The dtype of a leaf; if it will be restored as a jax.Array, the one that JAX would give
    it.
    """
    if is_key(leaf.dtype) or isinstance(leaf, np.ndarray | np.generic):
        return str(leaf.dtype)
    return str(jax.dtypes.canonicalize_dtype(leaf.dtype))
