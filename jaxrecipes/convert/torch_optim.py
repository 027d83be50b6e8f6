"""State of PyTorch's AdamW and ReduceLROnPlateau as plain trees and numbers, both ways."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

from jaxrecipes.convert.file_fields import Fields
from jaxrecipes.convert.rules import (
    ConversionError,
    Rule,
    dump_tensors,
    load_tensors,
    unwrapped,
)
from jaxrecipes.fields import CountOrZero, NonNegative, Positive, Share


@dataclasses.dataclass(frozen=True)
class AdamState:
    """Moments of Adam or AdamW, as optax keeps them.

    Attributes:
      mu: first moments (`exp_avg`), a tree like the parameters.
      nu: second moments (`exp_avg_sq`), a tree like the parameters.
      count: updates done.
      hyperparams: learning_rate, b1, b2, eps and weight_decay of the parameter group.
    """

    mu: dict[str, Any]
    nu: dict[str, Any]
    count: int
    hyperparams: dict[str, float]


def adam_from_torch(
    optimizer_state: Mapping[str, Any], rules: Sequence[Rule], template: Mapping[str, Any]
) -> AdamState | None:
    """AdamW's `state_dict()` as trees; None before the first update.

    Args:
      optimizer_state: with `state` (by index of the parameter) and one of `param_groups`.
      rules: of the parameters alone, in the order of the original's `parameters()`.
      template: nested dict like the parameters whose leaves have `shape` and `dtype`.

    Raises:
      ConversionError: another number of parameters, shapes that differ, several parameter groups,
        parameters that have seen different numbers of updates, or values that are absent, of
        another type or out of bounds.
    """
    own = Fields(optimizer_state, "the optimizer's state")
    groups, state = own.get("param_groups", list), own.get("state", dict)
    if len(groups) != 1:
        raise ConversionError(f"expected one parameter group in the optimizer, got {len(groups)}")
    group = Fields(groups[0], "the optimizer's parameter group")
    numbers = group.get("params", list[int | str])
    if len(numbers) != len(rules):
        raise ConversionError(
            f"the optimizer holds {len(numbers)} parameters, the network has {len(rules)}"
        )
    hyperparams = {
        "learning_rate": group.get("lr", NonNegative),
        **dict(zip(("b1", "b2"), group.get("betas", tuple[Share, Share]), strict=True)),
        "eps": group.get("eps", NonNegative),
        "weight_decay": group.get("weight_decay", NonNegative),
    }
    if not state:
        return None
    if all(isinstance(number, str) for number in numbers):  # FSDP's have names
        state, numbers = unwrapped(state), [rule.source for rule in rules]
    entries = {
        rule.source: Fields(state.get(number), f"the optimizer's state of parameter {number!r}")
        for rule, number in zip(rules, numbers, strict=True)
    }
    counts = {entry.get("step", CountOrZero) for entry in entries.values()}
    if len(counts) != 1:
        shown = ", ".join(map(str, sorted(counts)[:4]))
        raise ConversionError(f"parameters have seen different numbers of updates: {shown}")

    def tree(moment: str) -> dict[str, Any]:
        tensors = {key: entry.get(moment, Any) for key, entry in entries.items()}
        try:
            return load_tensors(rules, tensors, template)
        except ConversionError as error:
            raise ConversionError(f"the optimizer's {moment}: {error}") from error

    mu, nu = tree("exp_avg"), tree("exp_avg_sq")
    if any(np.min(leaf, initial=0) < 0 for leaf in jax.tree.leaves(nu)):
        raise ConversionError("the optimizer's exp_avg_sq holds squares below 0")
    return AdamState(mu=mu, nu=nu, count=counts.pop(), hyperparams=hyperparams)


def adam_to_torch(state: AdamState, rules: Sequence[Rule]) -> dict[str, Any]:
    """The `state_dict()` of a torch AdamW with these moments; the inverse of `adam_from_torch`."""
    mu, nu = dump_tensors(rules, state.mu), dump_tensors(rules, state.nu)
    entries = {
        i: {"step": np.float32(state.count), "exp_avg": mu[key], "exp_avg_sq": nu[key]}
        for i, key in enumerate(mu)
    }
    hyperparams = state.hyperparams
    group = {
        "lr": hyperparams["learning_rate"],
        "betas": (hyperparams["b1"], hyperparams["b2"]),
        "eps": hyperparams["eps"],
        "weight_decay": hyperparams["weight_decay"],
        "amsgrad": False,
        "maximize": False,
        "foreach": None,
        "capturable": False,
        "differentiable": False,
        "fused": None,
        "decoupled_weight_decay": True,
        "params": list(range(len(rules))),
    }
    return {"state": entries, "param_groups": [group]}


@dataclasses.dataclass(frozen=True)
class PlateauNumbers:
    """A torch ReduceLROnPlateau in numbers.

    Attributes:
      settings: mode, factor, patience, threshold, threshold_mode, cooldown, min_lr, eps: the
        arguments of `jaxrecipes.plateau.ReduceLROnPlateau`.
      learning_rate: the rate in force.
      best: best metric so far.
      num_bad_epochs: bad epochs in a row.
      cooldown_counter: epochs of cooldown left.
      last_epoch: steps of the scheduler.
    """

    settings: dict[str, Any]
    learning_rate: float
    best: float
    num_bad_epochs: int
    cooldown_counter: int
    last_epoch: int


_SETTINGS: dict[str, Any] = {
    "mode": Literal["min", "max"],
    "factor": Positive,
    "patience": CountOrZero,
    "threshold": float,
    "threshold_mode": Literal["rel", "abs"],
    "cooldown": CountOrZero,
    "eps": NonNegative,
}


def plateau_from_torch(scheduler_state: Mapping[str, Any]) -> PlateauNumbers | None:
    """From a `scheduler_state`; None when it belongs to another scheduler (such as a warm-up).

    Raises:
      ConversionError: values that are absent, of another type or out of bounds.
    """
    state = Fields(scheduler_state, "the scheduler's state")
    if not any(key in scheduler_state for key in ("num_bad_epochs", "patience", "mode_worse")):
        return None
    settings = {name: state.get(name, kind) for name, kind in _SETTINGS.items()}
    return PlateauNumbers(
        settings=settings | {"min_lr": state.first("min_lrs", NonNegative)},
        learning_rate=state.first("_last_lr", NonNegative),
        best=state.get("best", float, infinite=True),
        num_bad_epochs=state.get("num_bad_epochs", CountOrZero),
        cooldown_counter=state.get("cooldown_counter", CountOrZero),
        last_epoch=state.get("last_epoch", CountOrZero),
    )


def plateau_to_torch(plateau: PlateauNumbers) -> dict[str, Any]:
    """The attributes that torch's `ReduceLROnPlateau.load_state_dict` takes."""
    settings = plateau.settings
    return {
        "factor": settings["factor"],
        "default_min_lr": settings["min_lr"],
        "min_lrs": [settings["min_lr"]],
        "patience": settings["patience"],
        "cooldown": settings["cooldown"],
        "eps": settings["eps"],
        "last_epoch": plateau.last_epoch,
        "_last_lr": [plateau.learning_rate],
        "mode_worse": math.inf if settings["mode"] == "min" else -math.inf,
        "mode": settings["mode"],
        "threshold": settings["threshold"],
        "threshold_mode": settings["threshold_mode"],
        "best": plateau.best,
        "cooldown_counter": plateau.cooldown_counter,
        "num_bad_epochs": plateau.num_bad_epochs,
    }
