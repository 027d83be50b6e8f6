"""State of PyTorch's AdamW and ReduceLROnPlateau as plain trees and numbers, both ways."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrecipes.convert.rules import ConversionError, Rule, dump_tensors, load_tensors


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
        or parameters that have seen different numbers of updates.
    """
    groups, state = optimizer_state["param_groups"], optimizer_state["state"]
    if len(groups) != 1:
        raise ConversionError(f"want one parameter group in the optimizer, got {len(groups)}")
    group = groups[0]
    if len(group["params"]) != len(rules):
        raise ConversionError(
            f"the optimizer holds {len(group['params'])} parameters, the network has {len(rules)}"
        )
    if not state:
        return None
    by_key = {rule.source: state[i] for i, rule in zip(group["params"], rules, strict=True)}
    counts = {int(entry["step"]) for entry in by_key.values()}
    if len(counts) != 1:
        raise ConversionError(f"parameters have seen different numbers of updates: {counts}")

    def tree(moment: str) -> dict[str, Any]:
        tensors = {key: entry[moment] for key, entry in by_key.items()}
        return load_tensors(rules, tensors, template)

    return AdamState(
        mu=tree("exp_avg"),
        nu=tree("exp_avg_sq"),
        count=counts.pop(),
        hyperparams={
            "learning_rate": float(group["lr"]),
            "b1": float(group["betas"][0]),
            "b2": float(group["betas"][1]),
            "eps": float(group["eps"]),
            "weight_decay": float(group["weight_decay"]),
        },
    )


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


_SETTINGS = ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "eps")


def plateau_from_torch(scheduler_state: Mapping[str, Any]) -> PlateauNumbers | None:
    """From a `scheduler_state`; None when it belongs to another scheduler (such as a warm-up)."""
    if "num_bad_epochs" not in scheduler_state:
        return None
    settings = {name: scheduler_state[name] for name in _SETTINGS}
    return PlateauNumbers(
        settings=settings | {"min_lr": float(scheduler_state["min_lrs"][0])},
        learning_rate=float(scheduler_state["_last_lr"][0]),
        best=float(scheduler_state["best"]),
        num_bad_epochs=int(scheduler_state["num_bad_epochs"]),
        cooldown_counter=int(scheduler_state["cooldown_counter"]),
        last_epoch=int(scheduler_state["last_epoch"]),
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
