"""Runs that start from another run's weights: `init_from`, and a first stage."""

import dataclasses
import itertools
import logging
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrecipes.config import with_overrides
from jaxrecipes.errors import telling
from jaxrecipes.optim import leaves_by_path
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.recipe import Pretrained, Recipe

_log = logging.getLogger("jaxrecipes")
_MOST_NAMES = 8


def with_init_from(recipe: Recipe, folder: str | None) -> Recipe:
    """The recipe, whose new runs start from the weights of the run in `folder`, if one is given.

    What that run does not have starts as without it: from the recipe's own pretrained weights, or
    drawn. The folder is read when a new run starts, and not when one goes on.
    """
    if folder is None:
        return recipe
    source = _weights_of(folder, otherwise=recipe.pretrained, frozen=recipe.frozen)
    return dataclasses.replace(recipe, pretrained=source)


def first_stage_config(config: Any) -> Any:
    """The config of the run that comes first: `config` under the flags of its `first_stage`.

    Raises:
      ValueError: they name no field, or a value of a wrong type.
    """
    flags = []
    for name, value in config.first_stage.items():
        with telling(f"first_stage: the value {value!r} of {name}", ValueError):
            flags += [f"--{name.removeprefix('--')}", *shlex.split(value)]
    alone = dataclasses.replace(config, first_stage=None)
    try:
        staged = with_overrides(alone, flags, "FILE")
    except ValueError as error:
        raise ValueError(f"first_stage: {error}") from error
    if staged.first_stage is not None:
        raise ValueError("first_stage changes first_stage; there are two stages, no more")
    return staged


def check_one_stage(config: RunConfig, command: str) -> None:
    """Raises a ValueError for a config with a first stage, which `command` does not train."""
    if config.first_stage is not None:
        raise ValueError(
            f"{command} trains one stage: give --first_stage None, and for the second stage "
            "--init_from RUN/stage1"
        )


def _weights_of(folder: str, *, otherwise: Pretrained | None, frozen: Sequence[str]) -> Pretrained:
    def read(params: Any, batch_stats: Any) -> tuple[Any, Any]:
        from jaxrecipes.runs.trained import open_trained

        trained = open_trained(folder)
        wanted = {"params": params, "batch_stats": batch_stats}
        found = dict(zip(wanted, trained.weights(), strict=True))
        here, there = leaves_by_path(wanted), leaves_by_path(found)
        taken = [path for path in here if path in there and there[path].shape == here[path].shape]
        where = f"{folder} ({trained.recipe.name}, step {trained.step})"
        if not any(path.startswith("params/") for path in taken):
            raise ValueError(
                f"init_from: no weights of {where} fit; there {_named(there)}; here {_named(here)}"
            )
        _log.info("weights of %s: %d of %d taken", where, len(taken), len(here))
        if left := {path: leaf for path, leaf in here.items() if path not in taken}:
            _log.info("  %s: %s", "as without init_from" if otherwise else "drawn", _named(left))
        if unused := {path: leaf for path, leaf in there.items() if path not in taken}:
            _log.info("  not used: %s", _named(unused))
        own_weights = otherwise(*_parts(left)) if otherwise and left else ({}, {})
        given: dict[str, Any] = {
            f"{name}/{path}": leaf
            for name, tree in zip(wanted, own_weights, strict=True)
            for path, leaf in leaves_by_path(tree).items()
        }
        given |= {path: np.asarray(there[path]) for path in taken}
        own = leaves_by_path(params)
        drawn = {path: own[path] for path in own if f"params/{path}" not in given}
        stuck = {p: x for p, x in drawn.items() if any(re.search(rule, p) for rule in frozen)}
        if stuck:
            _log.warning("  frozen as they are drawn: %s", _named(stuck))
        return _parts(given)

    return read


def _parts(leaves: Mapping[str, Any]) -> tuple[Any, Any]:
    """`(params, batch_stats)` of leaves by their paths."""
    nested = _nested(leaves)
    return nested.get("params", {}), nested.get("batch_stats", {})


def _nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts of leaves by their keys joined by "/"."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def _named(leaves: Mapping[str, Any]) -> str:
    """Paths and shapes, the first few of many."""
    first = itertools.islice(leaves.items(), _MOST_NAMES)
    shown = [f"{path} {tuple(leaf.shape)}" for path, leaf in first]
    more = len(leaves) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
