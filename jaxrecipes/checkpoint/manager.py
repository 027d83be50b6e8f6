"""Saves, keeps and restores the checkpoints of a run: see `CheckpointManager`."""

import dataclasses
import itertools
import json
import logging
import math
import operator
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxrecipes.checkpoint import arrays, folder, retention, version_0_1
from jaxrecipes.checkpoint.arrays import agreed, agreed_text
from jaxrecipes.checkpoint.leaves import (
    CheckpointCorrupt,
    CheckpointWriteError,
    Record,
    write_error,
)

_logger = logging.getLogger("jaxrecipes.checkpoint")
_save_numbers = itertools.count(1)
_NOTHING, _ALL_CORRUPT = -1, -2
_GO, _SKIP, _FAIL = range(3)
_STRAGGLERS_S = (
    0.2  # because Orbax raises the first error while its other writes may recreate the folder
)


def _not_from_orbax_thread(record: logging.LogRecord) -> bool:
    """A log filter against the tracebacks of errors that Orbax also raises to us."""
    return "_SignalingThread.run() raised an exception" not in str(record.msg)


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint in memory: `tree` has the structure and the shardings that were asked for."""

    step: int
    tree: Any
    metadata: dict[str, Any]


class CheckpointManager:
    """The checkpoints of one run, in one directory that all processes share.

    Saving is asynchronous and atomic: a process killed at any moment leaves all earlier checkpoints
    intact and none half written. Restoring first verifies every byte, and falls back to an earlier
    checkpoint if the newest is damaged. With several processes (`jax.distributed`) all of them call
    the same methods in the same order.

    Use it as a context manager, or call `close`: a program that ends otherwise loses a save that is
    still being written (and nothing else).

    A manager that only reads (to evaluate, to export) writes nothing: leftovers of a killed process
    are removed by `sweep`, or by the first `save`.

    Args:
      directory: made by the first `save`; relative paths are made absolute now.
      keep_latest: how many of the highest steps are kept, 1 or more. Restoring can only fall back
        with 2 or more.
      keep_best: how many of the best scores are kept in addition, 0 or more. Checkpoints without a
        finite score count as worse than all others.
      mode: "max" if a higher score is better, "min" if a lower one is.

    Raises:
      ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        keep_latest: int = 2,
        keep_best: int = 1,
        mode: retention.Mode = "max",
    ) -> None:
        if keep_latest < 1:
            raise ValueError(f"keep_latest is {keep_latest}; expected 1 or more")
        if keep_best < 0:
            raise ValueError(f"keep_best is {keep_best}; expected 0 or more")
        if mode not in ("max", "min"):
            raise ValueError(f'mode is {mode!r}; expected "max" or "min"')
        self.directory = Path(directory).expanduser().resolve()
        self.keep_latest = keep_latest
        self.keep_best = keep_best
        self.mode: retention.Mode = mode
        self._swept = False
        self._pending: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")

    # --- saving

    def save(
        self,
        step: int,
        tree: Any,
        *,
        metadata: Mapping[str, Any] | None = None,
        score: float | None = None,
        replace: bool = False,
    ) -> bool:
        """Starts a save, after waiting for the previous one; the caller may then change the arrays.

        Args:
          step: the number of updates that led to `tree`, 0 or more.
          tree: a pytree of jax or numpy arrays, typed PRNG keys included.
          metadata: anything that JSON can hold, such as the config.
          score: what `keep_best` compares.
          replace: if the step is saved already, replace it atomically.

        Returns:
          False, having done nothing, if the step is saved already and `replace` is off.

        Raises:
          CheckpointWriteError: this save or the previous one failed (full disk, no permission).
          ValueError: the step is negative, or the tree holds something that is not an array.
          TypeError: the metadata is not JSON.
        """
        step = operator.index(step)
        if step < 0:
            raise ValueError(f"step is {step}; expected 0 or more")
        score = None if score is None or not math.isfinite(score) else float(score)
        metadata = json.loads(json.dumps(dict(metadata or {})))
        self.wait()
        logging.getLogger("absl").addFilter(_not_from_orbax_thread)  # adds it once
        name = agreed_text(f"{folder.owner()}.{next(_save_numbers)}")
        temporary = folder.preparing(self.directory, step, name)
        if not self._begin(step, temporary, replace=replace):
            return False
        try:
            response, records = arrays.save(temporary / str(step), tree)
        except OSError as error:
            raise self._failed(step, temporary, error) from error
        except BaseException:
            self._discard(temporary)
            raise
        content = {"step": step, "score": score, "metadata": metadata}
        self._pending = self._thread.submit(self._finish, temporary, content, response, records)
        return True

    def wait(self) -> None:
        """Blocks until the last save is committed, and raises its error, if any."""
        if self._pending is None:
            return
        error = self._pending.exception()
        self._pending = None
        if jax.process_count() > 1:
            if error is not None:  # at once, because the others may take long to notice
                _logger.error("%s", error)
            failed = multihost_utils.process_allgather(np.asarray(error is not None))
            if error is None and np.any(failed):
                raise CheckpointWriteError(
                    f"process {int(np.argmax(failed))} could not save its part of the checkpoint; "
                    "its own log says why"
                )
        if error is not None:
            raise error

    def close(self) -> None:
        """Waits for the last save and ends the thread; the manager saves no more."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def __enter__(self) -> "CheckpointManager":
        return self

    def __exit__(self, error_type: Any, *_: Any) -> None:
        if error_type is None:
            self.close()
            return
        self._thread.shutdown()  # not `close`, because the other processes may not arrive here
        if self._pending is not None and (error := self._pending.exception()) is not None:
            _logger.error("%s", error)

    def sweep(self) -> None:
        """Removes half-written and half-deleted folders of killed processes.

        Raises:
          OSError: it cannot be removed.
        """
        if jax.process_index() == 0:
            folder.sweep(self.directory)
        self._swept = True

    # --- looking

    @property
    def all_steps(self) -> list[int]:
        """The steps that are saved, ascending."""
        return list(folder.committed(self.directory))

    @property
    def latest_step(self) -> int | None:
        """The highest saved step; None if there is none."""
        return max(self.all_steps, default=None)

    @property
    def best_step(self) -> int | None:
        """The step with the best score, the earliest in a tie; None if none has a score."""
        return next(iter(retention.ranked(folder.committed(self.directory), self.mode)), None)

    def metadata(self, step: int) -> dict[str, Any]:
        """The metadata saved with `step`, without reading its arrays.

        Raises:
          ValueError: there is no such step.
          CheckpointCorrupt: the manifest is damaged.
        """
        return self._read(step, folder.read_manifest)["metadata"]

    def shapes(self, step: int) -> dict[str, jax.ShapeDtypeStruct]:
        """The shapes and dtypes of what `step` holds, by path, without reading it; PRNG keys are
        left out.

        Raises:
          ValueError: there is no such step.
          CheckpointCorrupt: the manifest is damaged.
        """
        return {
            record.path: jax.ShapeDtypeStruct(record.shape, record.dtype)
            for record in _records(self._read(step, folder.read_manifest))
            if record.key_impl is None
        }

    def newest_intact(self) -> int | None:
        """The highest step of which every byte is intact; None if nothing was ever saved.

        Damaged checkpoints above it are renamed to `STEP.corrupt`, each with a warning that says
        what is wrong.

        Raises:
          CheckpointCorrupt: there are checkpoints, but all are damaged. Then nothing is renamed, so
            that a second attempt does not silently begin anew.
        """
        self.wait()
        found, reasons = self._find_intact() if jax.process_index() == 0 else (_NOTHING, [])
        found = agreed(found)
        if found == _ALL_CORRUPT:
            detail = "; ".join(reasons) or "process 0 says what is wrong"
            raise CheckpointCorrupt(
                f"every checkpoint in {self.directory} is damaged ({detail}). Restore a backup, "
                "or remove the folder to begin anew"
            )
        return None if found == _NOTHING else found

    # --- restoring

    def restore(
        self, abstract_tree: Any, *, step: int | None = None, partial: bool = False
    ) -> Restored | None:
        """Reads a checkpoint after verifying every byte of it.

        Args:
          abstract_tree: the tree to restore, of arrays or `jax.ShapeDtypeStruct`s. The result has
            its structure and shardings, which may be for a different number of devices than when it
            was saved. A leaf without a sharding goes, uncommitted, to the default device; a numpy
            leaf comes back as numpy.
          step: None for the newest intact one (see `newest_intact`).
          partial: the abstract tree may be a part of what was saved; only that part is read. A part
            has the same path as in the whole: `{"params": ...}` restores the field `params` of a
            state.

        Returns:
          None if `step` is None and nothing was ever saved.

        Raises:
          CheckpointMismatch: the checkpoint has other keys, shapes or dtypes.
          CheckpointCorrupt: the requested step is damaged, or all are.
          ValueError: there is no such step.
        """
        if step is None:
            step = self.newest_intact()
            if step is None:
                return None
            manifest = self._read(step, folder.read_manifest)
        else:
            self.wait()
            manifest = self._read(step, folder.verify)
        path = folder.committed(self.directory)[step]
        if manifest["format"] == version_0_1.FORMAT:
            tree = version_0_1.load(path, manifest, abstract_tree, partial=partial)
        else:
            tree = arrays.load(path, _records(manifest), abstract_tree, partial=partial)
        return Restored(step, tree, manifest["metadata"])

    # --- inside

    def _begin(self, step: int, temporary: Path, *, replace: bool) -> bool:
        """Process 0 prepares the step's folder; all processes learn whether to go on."""
        verdict, problem = _GO, OSError("process 0 could not make the folder")
        if jax.process_index() == 0:
            try:
                if step in folder.committed(self.directory) and not replace:
                    verdict = _SKIP
                else:
                    self.directory.mkdir(parents=True, exist_ok=True)
                    if not self._swept:
                        self.sweep()
                    temporary.mkdir()
            except OSError as error:
                verdict, problem = _FAIL, error
        verdict = agreed(verdict)
        if verdict == _FAIL:
            raise self._failed(step, temporary, problem) from problem
        return verdict == _GO

    def _discard(self, temporary: Path) -> None:
        if jax.process_index() == 0:
            shutil.rmtree(temporary, ignore_errors=True)
            time.sleep(_STRAGGLERS_S)
            shutil.rmtree(temporary, ignore_errors=True)

    def _finish(
        self,
        temporary: Path,
        content: dict[str, Any],
        response: arrays.Saving,
        records: list[Record],
    ) -> None:
        """Runs in the thread: waits for Orbax, seals and commits the checkpoint, and deletes those
        that need not be kept.
        """
        step = content["step"]
        try:
            response.result()
            if jax.process_index() == 0:
                prepared = temporary / str(step)
                folder.seal(prepared, {**content, "leaves": [vars(record) for record in records]})
                folder.commit(prepared, self.directory / str(step))
        except Exception as error:
            raise self._failed(step, temporary, error) from error
        if jax.process_index() == 0:
            try:
                temporary.rmdir()
                retention.prune(self.directory, self.keep_latest, self.keep_best, self.mode)
            except OSError as error:
                _logger.warning("could not delete an old checkpoint: %s", error)

    def _find_intact(self) -> tuple[int, list[str]]:
        damaged: list[tuple[int, Path, str]] = []
        for step, path in reversed(folder.committed(self.directory).items()):
            try:
                folder.verify(path)
            except CheckpointCorrupt as error:
                if path.exists():  # otherwise a training process has just deleted it
                    damaged.append((step, path, str(error)))
                continue
            for bad, bad_path, reason in damaged:
                self._set_aside(bad, bad_path, reason, used=step)
            return step, []
        reasons = [f"step {step}: {reason}" for step, _, reason in damaged]
        return (_ALL_CORRUPT if damaged else _NOTHING), reasons

    def _set_aside(self, step: int, path: Path, reason: str, *, used: int) -> None:
        try:
            outcome = f"It is now called {folder.set_aside(path).name}."
        except OSError as error:
            outcome = f"It could not be renamed ({error.strerror})."
        _logger.warning(
            "the checkpoint of step %d in %s is damaged: %s. Going back to step %d. %s",
            *(step, self.directory, reason, used, outcome),
        )

    def _read(self, step: int, reader: Any) -> dict[str, Any]:
        saved = folder.committed(self.directory)
        if step not in saved:
            there = ", ".join(map(str, saved)) or "none"
            raise ValueError(f"no checkpoint of step {step} in {self.directory}; there: {there}")
        try:
            return reader(saved[step])
        except CheckpointCorrupt as error:
            raise CheckpointCorrupt(
                f"the checkpoint of step {step} in {self.directory} is damaged: {error}"
            ) from None

    def _failed(self, step: int, temporary: Path, error: Exception) -> CheckpointWriteError:
        """Removes what was written of the step, and returns the error to raise."""
        described = write_error(step, self.directory, error)
        self._discard(temporary)
        return described


def _records(manifest: Mapping[str, Any]) -> list[Record]:
    if manifest["format"] == version_0_1.FORMAT:
        return version_0_1.records(manifest)
    return [Record.from_json(fields) for fields in manifest["leaves"]]
