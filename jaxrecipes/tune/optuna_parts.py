"""Optuna's side of a search: its storages, samplers, pruners and distributions."""

import pathlib
import sqlite3
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage

from jaxrecipes.paths import check_output_file, user_path
from jaxrecipes.tune import Pruner, Sampler
from jaxrecipes.tune.space import Choice, Distribution, Float


def open_storage(storage: str | None, workdir: pathlib.Path) -> optuna.storages.BaseStorage:
    """The storage that `--storage` names: a database's URL, a journal's path, or None.

    Raises: what Optuna and the database's driver raise.
    """
    if storage is None:
        file = workdir / "study.db"

        def connect_to() -> sqlite3.Connection:
            # Other processes may be writing.
            return sqlite3.connect(file, timeout=120, check_same_thread=False)

        # The URL only tells the kind of database: in one, %, ? and # of a folder mean other things.
        return optuna.storages.RDBStorage("sqlite:///study.db", {"creator": connect_to})
    if "://" in storage:
        # Other processes may be writing.
        connect = {"timeout": 120} if storage.startswith("sqlite") else {}
        return optuna.storages.RDBStorage(storage, engine_kwargs={"connect_args": connect})
    journal = user_path(storage)
    check_output_file(journal, what="--storage")
    journal.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(journal)))


def make_sampler(kind: Sampler, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler of one draw, with the draw's own seed."""
    samplers = optuna.samplers
    if kind in ("random", "grid"):
        return samplers.RandomSampler(seed=seed)
    if kind == "cmaes":
        # What it cannot draw (choices) and its first trials are drawn at random.
        random = samplers.RandomSampler(seed=seed)
        return samplers.CmaEsSampler(
            seed=seed, independent_sampler=random, warn_independent_sampling=False
        )
    if kind == "gp":
        return samplers.GPSampler(seed=seed)
    # constant_liar: trials under way count as poor ones, so that none is drawn twice.
    return samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def make_pruner(kind: Pruner) -> optuna.pruners.BasePruner:
    """What stops trials early."""
    pruners = optuna.pruners
    return {
        "median": pruners.MedianPruner(n_startup_trials=5),
        "percentile": pruners.PercentilePruner(75.0, n_startup_trials=5),
        "asha": pruners.SuccessiveHalvingPruner(),
        "hyperband": pruners.HyperbandPruner(),
        # `tune.search` compares the members of a population.
        "halving": pruners.NopPruner(),
        "pbt": pruners.NopPruner(),
        "none": pruners.NopPruner(),
    }[kind]


def as_optuna(distribution: Distribution) -> optuna.distributions.BaseDistribution:
    """Where Optuna draws a parameter from."""
    d = distribution
    if isinstance(d, Choice):
        return optuna.distributions.CategoricalDistribution([to_stored(o) for o in d.options])
    if isinstance(d, Float):
        return optuna.distributions.FloatDistribution(d.low, d.high, log=d.log)
    return optuna.distributions.IntDistribution(d.low, d.high, step=d.step, log=d.log)


def to_stored(value: Any) -> Any:
    """What Optuna keeps of a value: it knows plain ones only."""
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def from_stored(distribution: Distribution, stored: Any) -> Any:
    if isinstance(distribution, Choice):
        return next(option for option in distribution.options if to_stored(option) == stored)
    return stored
