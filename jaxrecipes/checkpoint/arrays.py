"""A pytree of arrays to Orbax's files and back.

A step's folder is what Orbax's own `CheckpointManager` would write for one tree: nested dicts of
arrays in the item `default`. Containers of every kind (optimizer states, dataclasses) become dicts
by the names of their fields, so their classes are not needed to read them.

Orbax takes about a millisecond per array, whatever its size. So the caller of `save` waits only
until the arrays are copied to the host, and `Saving.result` writes them, in another thread.
"""

import errno
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
import tensorstore
from jax.experimental import multihost_utils

from jaxrecipes import host_logging
from jaxrecipes.checkpoint.leaves import Record, by_path, check_same, empty_nodes, is_key, nested

with host_logging.left_alone():
    import orbax.checkpoint as ocp
    from orbax.checkpoint import v1

_ITEM = "default"  # where Orbax's CheckpointManager looks for the one tree of a step
_BYTES_PER_ARRAY, _BYTES_OF_FILES = (
    2048,
    131_072,
)  # for the tree's structure, stored twice; for 20 files
_TREE = "_METADATA"  # the file in which Orbax keeps a tree's structure
# Otherwise a program that ends without waiting hangs: the folder is never made, and Orbax keeps
# waiting.
_DIRECTORIES_AT_ONCE = ocp.options.AsyncOptions(create_directories_asynchronously=False)


class Saving(Protocol):
    """A save in progress. Its arrays are copied, so the originals may change."""

    def result(self) -> None:
        """Writes what is still to be written, or waits for it."""


def save(folder: Path, tree: Any) -> tuple[Saving, list[Record]]:
    """Starts writing `tree` to the new folder `folder`; called by every process.

    When it returns, the tree is copied, and its buffers may be donated, overwritten or deleted.
    Empty arrays appear only in the records, because Orbax does not store them.

    Raises:
      ValueError: a leaf is not an array, two leaves have the same path, or all leaves are empty.
    """
    leaves = by_path(tree)
    records = [Record.of(path, leaf) for path, leaf in leaves.items()]
    stored = {
        path: jax.random.key_data(leaf) if is_key(leaf.dtype) else leaf
        for path, leaf in leaves.items()
        if leaf.size
    }
    if not stored:
        raise ValueError("nothing to save: the tree has no leaf with an element")
    whole = {path: leaf for path, leaf in stored.items() if _is_whole(leaf)}
    copies = stored | dict(zip(whole, _on_host(whole.values()), strict=True))
    ready = nested(copies | empty_nodes(tree))
    # With several processes Orbax is called here, where all of them arrive in the same order.
    saving = _OnHost if jax.process_count() == 1 else _OnDevices
    return saving(folder, ready), records


def load(folder: Path, records: list[Record], abstract_tree: Any, *, partial: bool) -> Any:
    """Reads the leaves of `abstract_tree`, each with the abstract leaf's sharding.

    Args:
      folder: what `save` wrote.
      records: what `save` returned.
      abstract_tree: arrays or ShapeDtypeStructs. A numpy leaf comes back as numpy, a leaf without
        a sharding as an uncommitted array of the default device.
      partial: ignore what the abstract tree does not name, instead of raising.

    Raises:
      CheckpointMismatch: the trees differ; nothing is read.
    """
    wanted = by_path(abstract_tree)
    saved = {record.path: record for record in records}
    check_same(wanted, saved, partial=partial)
    asked = {path: stored_as(saved[path], leaf) for path, leaf in wanted.items() if leaf.size}
    context = v1.Context()
    context.pytree.loading.partial_load = True
    with host_logging.left_alone(), context:
        found = by_path(v1.load(folder, nested(asked), checkpointable_name=_ITEM)) if asked else {}
    return as_wanted(found, saved, abstract_tree)


def as_wanted(stored: Mapping[str, Any], saved: Mapping[str, Record], abstract_tree: Any) -> Any:
    """The stored arrays in the abstract tree's structure, with its dtypes and shardings.

    Args:
      stored: path -> array, for PRNG keys the uint32 words; empty arrays may be missing.
      saved: path -> the record of the leaf.
      abstract_tree: see `load`.
    """

    def typed(path: str, leaf: Any) -> Any:
        record = saved[path]
        data = stored.get(path)
        if data is None:
            data = np.zeros(record.stored_shape, record.stored_dtype)
        if isinstance(leaf, np.ndarray | np.generic):
            return np.asarray(data)
        if isinstance(data, np.ndarray):
            sharding, host = _sharding(leaf), data
            if sharding is None:
                data = jax.numpy.array(host)
            else:
                data = jax.make_array_from_callback(host.shape, sharding, lambda at: host[at])
        return jax.random.wrap_key_data(data, impl=record.key_impl) if record.key_impl else data

    leaves = [typed(path, leaf) for path, leaf in by_path(abstract_tree).items()]
    return jax.tree.unflatten(jax.tree.structure(abstract_tree), leaves)


class _OnHost:
    """A save of arrays of which this process has complete copies on the host."""

    def __init__(self, folder: Path, tree: Any):
        self._folder, self._tree = folder, tree

    def result(self) -> None:
        _check_room(self._folder, jax.tree.leaves(self._tree))
        with host_logging.left_alone(), ocp.Checkpointer(_handler()) as checkpointer:
            checkpointer.save(self._folder, args=_arguments(self._tree))
        _show_in_step_folder(self._folder)


def _check_room(folder: Path, arrays: list[np.ndarray]) -> None:
    """Raises an OSError if the disk is too full for the arrays and Orbax's own files. This is
    checked before Orbax starts, because if Orbax fails, its pending writes print errors to standard
    error.
    """
    needed = sum(array.nbytes + _BYTES_PER_ARRAY for array in arrays) + _BYTES_OF_FILES
    if shutil.disk_usage(folder.parent).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


class _OnDevices:
    """A save with arrays of which no process has all parts: Orbax copies and writes each process's
    part.
    """

    def __init__(self, folder: Path, tree: Any):
        self._folder = folder
        with host_logging.left_alone():
            self._checkpointer = ocp.AsyncCheckpointer(
                _handler(), async_options=_DIRECTORIES_AT_ONCE
            )
            self._checkpointer.save(folder, args=_arguments(tree))

    def result(self) -> None:
        with host_logging.left_alone():
            self._checkpointer.close()
        if jax.process_index() == 0:
            _show_in_step_folder(self._folder)


def _handler() -> ocp.CheckpointHandler:
    # Uncompressed, because weights hardly compress: a fifth less CPU time for a twelfth more bytes.
    pytree = ocp.PyTreeCheckpointHandler(use_compression=False)
    options = ocp.CompositeOptions(async_options=_DIRECTORIES_AT_ONCE)
    return ocp.CompositeCheckpointHandler(composite_options=options, **{_ITEM: pytree})


def _arguments(tree: Any) -> ocp.args.CheckpointArgs:
    return ocp.args.Composite(**{_ITEM: ocp.args.PyTreeSave(tree)})


def _show_in_step_folder(folder: Path) -> None:
    """Lets Orbax's checkpointers restore the tree from the step's folder as well as from the
    item's.

    The step's folder gets its own index of the item's data, like the one that Orbax makes over the
    data of several processes, so no array is stored twice.
    """
    item = folder / _ITEM
    # Arrays of several processes have the type jax.Array, for which Orbax would require the very
    # devices that they were saved from. The stored data is the same.
    tree = (item / _TREE).read_text(encoding="utf-8").replace('"jax.Array"', '"np.ndarray"')
    for place in (item, folder):
        (place / _TREE).write_text(tree, encoding="utf-8")
    (
        folder / "orbax.checkpoint"
    ).touch()  # by which Orbax's v1 distinguishes items from an array's data
    context = tensorstore.Context()

    def index(path: Path, data: str) -> tensorstore.KvStore:
        prefixes = {f"{kind}_data_prefix": data for kind in ("value", "btree_node")}
        spec = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{path}/"}, **prefixes}
        return tensorstore.KvStore.open(spec, context=context).result()

    transaction = tensorstore.Transaction(atomic=True)
    above = index(folder, f"{_ITEM}/d/").with_transaction(transaction)
    index(item, "d/").experimental_copy_range_to(above).result()
    transaction.commit_sync()


def _is_whole(leaf: Any) -> bool:
    """Whether this process holds all of the array."""
    return (
        isinstance(leaf, np.ndarray | np.generic)
        or leaf.is_fully_addressable
        or leaf.is_fully_replicated
    )


def _on_host(leaves: Iterable[Any]) -> list[np.ndarray]:
    """Private copies on the host, all transferred at once."""
    # If the device's memory is the host's, a fetched array may share that memory.
    return [np.array(leaf) for leaf in jax.device_get(list(leaves))]


def _sharding(leaf: Any) -> jax.sharding.Sharding | None:
    if isinstance(leaf, jax.Array) and not leaf.committed:
        return None
    return leaf.sharding


def stored_as(record: Record, leaf: Any) -> Any:
    """The restore arguments for Orbax; numpy if no particular device was asked for."""
    is_numpy = isinstance(leaf, np.ndarray | np.generic)
    sharding = None if is_numpy else _sharding(leaf)
    if sharding is None:
        return np.empty(record.stored_shape, record.stored_dtype)
    return jax.ShapeDtypeStruct(record.stored_shape, record.stored_dtype, sharding=sharding)


def agreed(value: int) -> int:
    """Process 0's value."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.asarray(value, np.int32)))


def agreed_text(text: str) -> str:
    """Process 0's text, of at most 512 bytes in UTF-8."""
    if jax.process_count() == 1:
        return text
    encoded = text.encode()
    letters = np.zeros(512, np.uint8)
    letters[: len(encoded)] = list(encoded)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(letters))).rstrip(b"\0").decode()
