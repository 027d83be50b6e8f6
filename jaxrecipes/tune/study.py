"""The search's record: an Optuna study that several processes share, any of which may be killed."""

import contextlib
import dataclasses
import itertools
import pathlib
import re
import shutil
import sqlite3
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from jaxrecipes.config import diff
from jaxrecipes.data.fingerprint import Fingerprint, as_json, differences
from jaxrecipes.errors import cause, telling
from jaxrecipes.files import write_bytes
from jaxrecipes.tune import Pruner, Sampler
from jaxrecipes.tune.optuna_parts import (
    as_optuna,
    from_stored,
    make_pruner,
    make_sampler,
    open_storage,
    to_stored,
)
from jaxrecipes.tune.space import Space

_MAX_ATTEMPTS = 3
# What Optuna raises for a URL, a driver that is not installed, and a file that is no journal.
_NO_STORAGE = (ValueError, LookupError, TypeError, ImportError, RuntimeError)


@dataclasses.dataclass(frozen=True)
class Claimed:
    """A trial that this process runs.

    Attributes:
      trial: Optuna's.
      folder: where it runs.
      values: what it tries.
      lock: tells the other processes that this one is alive.
      reported: epochs whose metric was on record when the trial was claimed.
    """

    trial: Trial
    folder: pathlib.Path
    values: dict[str, Any]
    lock: FileLock
    reported: frozenset[int] = frozenset()


class Study:
    """Hands out trials, each to one process, and takes their results.

    All processes of a search share `workdir`. A trial whose process died (its lock is free) is
    adopted by the next process that looks, and goes on from its checkpoint; at the third death it
    is recorded as failed. The n-th draw depends on the results so far and on the seed, not on how
    often the search was interrupted.

    Args:
      workdir: the search's folder; trials run in `trials/NNNN` there.
      storage: URL of a database (`sqlite:///FILE`), or the path of a journal file; None: the SQLite
        file `study.db` in `workdir`.
      name: of the recipe.
      config: the base config as JSON-able data.
      space: what is searched.
      base: the base config; where the space holds its values it is the first trial.
      mode: whether the metric should fall or rise.
      sampler: how values are drawn.
      pruner: which trials are stopped early.
      seed: of the draws.

    Raises:
      ValueError: the folder holds a search with another config, or a storage that cannot be used;
        the methods raise it too when the storage fails.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        *,
        storage: str | None,
        name: str,
        config: Mapping[str, Any],
        space: Space,
        base: Any,
        mode: Literal["min", "max"],
        sampler: Sampler = "tpe",
        pruner: Pruner = "median",
        seed: int = 0,
    ):
        self.workdir, self._space, self._sampler, self._seed = workdir, space, sampler, seed
        self.pruner = pruner
        self._lock = FileLock(workdir / ".lock")
        # Without the user and password of a URL.
        self._stored_in = re.sub("://[^/]*@", "://", storage or str(workdir / "study.db"))
        self.distributions = {n: as_optuna(d) for n, d in space.parameters.items()}
        with self._held():
            id_file = workdir / "study_id"
            if not id_file.exists():
                write_bytes(id_file, f"{name}-{uuid.uuid4().hex[:8]}\n".encode())
            study_id = id_file.read_text(errors="replace").strip()
            with telling(f"the search's storage {self._stored_in} cannot be used", *_NO_STORAGE):
                self.study = optuna.create_study(
                    storage=open_storage(storage, workdir),
                    study_name=study_id,
                    load_if_exists=True,
                    direction="minimize" if mode == "min" else "maximize",
                    pruner=make_pruner(pruner),
                )
            stored = self.study.user_attrs.get("config")
            if stored is None:
                start = space.start(base)
                self.study.enqueue_trial({n: to_stored(v) for n, v in start.items()})
                self.study.set_user_attr("config", dict(config))
            elif changes := diff(stored, config):
                raise ValueError(
                    f"the search in {workdir} was started with another config:\n  "
                    + "\n  ".join(changes)
                    + "\nIts trials could not be compared; choose another --workdir"
                )

    def adopt(self, most: int) -> list[Claimed]:
        """Up to so many trials whose process died or stopped, to go on with, in order."""
        with self._held():
            self.study.sampler = make_sampler("random", 0)  # it is asked for nothing
            adopted: list[Claimed] = []
            for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
                if len(adopted) == most:
                    break
                claimed = self._claimed(
                    Trial(self.study, trial._trial_id), frozenset(trial.intermediate_values)
                )
                if claimed is not None and self._goes_on(claimed):
                    adopted.append(claimed)
            return adopted

    def draw(self, most: int, num_trials: int, *, start: int = 0) -> list[Claimed]:
        """Up to so many new trials of a search of `num_trials`, under one lock; fewer, or none,
        when all are handed out.

        Args:
          most: how many are wanted.
          num_trials: of the whole search.
          start: the round in which they begin, which is kept with them.
        """
        drawn: list[Claimed] = []
        with self._held():
            while len(drawn) < most:
                trials = self.study.get_trials(deepcopy=False)
                waiting = any(t.state == TrialState.WAITING for t in trials)
                count = len(counted(trials))
                if count >= num_trials and not waiting:
                    break
                if self._sampler == "grid" and not waiting and not self._enqueue(count):
                    break
                seed = zlib.crc32(f"{self._seed}/{count}".encode())
                self.study.sampler = make_sampler(self._sampler, seed)
                with telling(
                    f"the search in {self.workdir} had other ranges of --search", ValueError
                ):
                    trial = self.study.ask(self.distributions)
                trial.set_user_attr("start", start)
                claimed = self._claimed(trial)
                assert claimed is not None  # nobody else knows of it
                drawn.append(claimed)
        return drawn

    def _enqueue(self, count: int) -> bool:
        """Puts the next point of the grid in the queue; False when there is none left."""
        point = next(itertools.islice(self._space.grid(), count - 1, None), None)
        if point is not None:
            self.study.enqueue_trial({name: to_stored(value) for name, value in point.items()})
        return point is not None

    def _claimed(self, trial: Trial, reported: frozenset[int] = frozenset()) -> Claimed | None:
        """The trial with its lock; None while another process, or this one, holds that."""
        folder = self.folder(trial)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        with contextlib.suppress(Timeout):
            lock.acquire(blocking=False)
            return Claimed(trial, folder, self.values(trial.params), lock, reported)
        return None

    def _goes_on(self, claimed: Claimed) -> bool:
        """Whether a trial that was left is tried again; otherwise it is recorded as failed."""
        trial = claimed.trial
        attempt = trial.user_attrs.get("attempt", 1)
        if not trial.user_attrs.get("stopped", False):
            attempt += 1
        if trial.params.keys() == self.distributions.keys() and attempt <= _MAX_ATTEMPTS:
            trial.set_user_attr("attempt", attempt)
            trial.set_user_attr("stopped", False)
            return True
        self.study.tell(trial, state=TrialState.FAIL)
        claimed.lock.release()
        return False

    def check_data(self, fingerprint: Fingerprint) -> None:
        """Raises a ValueError unless the data is what the search was started on."""
        with self._held():
            stored = self.study.user_attrs.get("data")
            if stored is None:
                self.study.set_user_attr("data", as_json(fingerprint))
            elif changes := differences(stored, fingerprint):
                raise ValueError(
                    f"the data is not what the search in {self.workdir} was started on; "
                    f"{', '.join(changes)}. Its trials could not be compared: bring that back, or "
                    "choose another --workdir"
                )

    def finish(self, claimed: Claimed, value: float, *, ended: int = 0) -> None:
        """Records the metric of a trial that ran to its end, in the round `ended`."""
        self._tell(claimed, TrialState.COMPLETE, value, ended=ended)

    def prune(self, claimed: Claimed, *, ended: int = 0) -> None:
        """Records that a trial was stopped because others were better at its stage."""
        self._tell(claimed, TrialState.PRUNED, ended=ended)

    def fail(self, claimed: Claimed, reason: str, *, ended: int | None = None) -> None:
        """Records that a trial failed, and why."""
        claimed.trial.set_user_attr("reason", reason)
        self._tell(claimed, TrialState.FAIL, ended=ended)

    def hand_back(self, claimed: Claimed) -> None:
        """Gives a trial back that is to go on later, here or in another process."""
        with self._held():
            claimed.trial.set_user_attr("stopped", True)
        claimed.lock.release()

    def cohort(self, start: int, epoch: int) -> dict[int, float]:
        """The metric after an epoch of each trial that began in a round, by number."""
        return {
            trial.number: trial.intermediate_values[epoch]
            for trial in self.study.get_trials(deepcopy=False)
            if trial.user_attrs.get("start") == start and epoch in trial.intermediate_values
        }

    def ended_in(self, round_number: int) -> bool:
        """Whether a trial ended in a round."""
        trials = self.study.get_trials(deepcopy=False)
        return any(trial.user_attrs.get("ended") == round_number for trial in trials)

    def last_round(self) -> int:
        """The last round in which a trial ended; -1 before the first."""
        trials = self.study.get_trials(deepcopy=False)
        return max((trial.user_attrs.get("ended", -1) for trial in trials), default=-1)

    def keep_best_checkpoints(self) -> None:
        """The checkpoints of the best trial stay; those of others that are done go."""
        trials = self.study.get_trials(deepcopy=False)
        done = [trial for trial in counted(trials) if trial.state.is_finished()]
        complete = any(trial.state == TrialState.COMPLETE for trial in done)
        best = self.study.best_trial.number if complete else None
        for trial in done:
            if trial.number != best:
                for folder in self.folder(trial).glob("**/checkpoints"):
                    shutil.rmtree(folder, ignore_errors=True)

    def folder(self, trial: Trial | FrozenTrial) -> pathlib.Path:
        """Where a trial runs; one that is tried again keeps its first folder."""
        return self.workdir / "trials" / f"{trial.user_attrs.get('first', trial.number):04d}"

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The config's values of Optuna's parameters."""
        return {name: from_stored(self._space.parameters[name], v) for name, v in params.items()}

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Holds the lock; what fails in the storage becomes a ValueError that names it."""
        try:
            with self._lock:
                yield
        except (SQLAlchemyError, sqlite3.Error, optuna.exceptions.StorageInternalError) as error:
            database = error if isinstance(error, SQLAlchemyError) else error.__cause__ or error
            said = cause(getattr(database, "orig", None) or database)
            raise ValueError(
                f"the search's storage {self._stored_in} cannot be used: {said}"
            ) from error

    def _tell(
        self,
        claimed: Claimed,
        state: TrialState,
        value: float | None = None,
        *,
        ended: int | None,
    ) -> None:
        with self._held():
            if ended is not None:
                claimed.trial.set_user_attr("ended", ended)
            self.study.tell(claimed.trial, value, state=state)
        claimed.lock.release()


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that a search counts: started, and not tried again under another number, as
    searches of version 0.1 did.
    """
    again = set(map(_previous, trials))
    return [t for t in trials if t.state != TrialState.WAITING and t.number not in again]


def _previous(trial: FrozenTrial) -> int | None:
    return trial.user_attrs.get("previous")
