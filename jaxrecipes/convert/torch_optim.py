"""Converts the state of PyTorch's AdamW to ours and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxrecipes.convert.file_fields import Fields, given
from jaxrecipes.convert.rules import (
    ConversionError,
    Rule,
    dump_tensors,
    load_tensors,
    unwrapped,
)
from jaxrecipes.fields import CountOrZero, NonNegative, Share


def adam_rates(optimizer_state: Any) -> dict[str, float]:
    """learning_rate, b1, b2, eps and weight_decay of AdamW's `state_dict()`; empty without one.

    Raises:
      ConversionError: several parameter groups, or values that are absent, of another type or out
        of bounds.
    """
    if not given(optimizer_state):
        return {}
    group = _group(optimizer_state)
    b1, b2 = group.get("betas", tuple[Share, Share])
    return {
        "learning_rate": group.get("lr", NonNegative),
        "b1": b1,
        "b2": b2,
        "eps": group.get("eps", NonNegative),
        "weight_decay": group.get("weight_decay", NonNegative),
    }


def adam_from_torch(
    optimizer_state: Any, rules: Sequence[Rule], params: Mapping[str, Any]
) -> optax.ScaleByAdamState | None:
    """The count and the moments of AdamW's `state_dict()`; None before the first update.

    Args:
      optimizer_state: with `state` (by index of the parameter) and one of `param_groups`; None or
        empty where the file has none.
      rules: of the parameters alone, in the order of the original's `parameters()`.
      params: nested dict of the parameters, or of shapes and dtypes; those without a rule are left
        out.

    Raises:
      ConversionError: another number of parameters, shapes that differ, several parameter groups,
        parameters that have seen different numbers of updates, or values that are absent, of
        another type or out of bounds.
    """
    if not given(optimizer_state):
        return None
    numbers = _group(optimizer_state).get("params", list[int | str])
    state = Fields(optimizer_state, "the optimizer's state").get("state", dict)
    if len(numbers) != len(rules):
        raise ConversionError(
            f"the optimizer holds {len(numbers)} parameters, the network has {len(rules)}"
        )
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

    template = unflatten_dict(_ruled(rules, params), sep="/")

    def tree(moment: str) -> dict[str, Any]:
        tensors = {key: entry.get(moment, Any) for key, entry in entries.items()}
        try:
            return load_tensors(rules, tensors, template)
        except ConversionError as error:
            raise ConversionError(f"the optimizer's {moment}: {error}") from error

    mu, nu = tree("exp_avg"), tree("exp_avg_sq")
    if any(np.min(leaf, initial=0) < 0 for leaf in jax.tree.leaves(nu)):
        raise ConversionError("the optimizer's exp_avg_sq holds squares below 0")
    return optax.ScaleByAdamState(np.int32(counts.pop()), mu, nu)


def adam_to_torch(
    opt_state: Any,
    rates: Mapping[str, float],
    rules: Sequence[Rule],
    params: Mapping[str, Any],
    *,
    initial_rate: float | None = None,
) -> dict[str, Any]:
    """AdamW's `state_dict()` with our moments; those that we do not have are written as zeros.

    Args:
      opt_state: a state of optax in which there is one `mu`, `nu` and `count`.
      rates: as `adam_rates` gives them.
      rules: as in `adam_from_torch`.
      params: as in `adam_from_torch`.
      initial_rate: the rate at the start of a schedule, which PyTorch keeps in the group.
    """
    shapes = _ruled(rules, params)

    def tensors(moment: str) -> dict[str, np.ndarray]:
        kept = flatten_dict(optax.tree.get(opt_state, moment), sep="/")
        kept = {path: x for path, x in kept.items() if not isinstance(x, optax.MaskedNode)}
        leaves = {path: kept.get(path, np.zeros_like(leaf)) for path, leaf in shapes.items()}
        return dump_tensors(rules, unflatten_dict(leaves, sep="/"))

    mu, nu = tensors("mu"), tensors("nu")
    count = np.float32(optax.tree.get(opt_state, "count"))
    entries = {
        i: {"step": count, "exp_avg": mu[key], "exp_avg_sq": nu[key]} for i, key in enumerate(mu)
    }
    group = {
        "lr": rates["learning_rate"],
        "betas": (rates["b1"], rates["b2"]),
        "eps": rates["eps"],
        "weight_decay": rates["weight_decay"],
        "amsgrad": False,
        "maximize": False,
        "foreach": None,
        "capturable": False,
        "differentiable": False,
        "fused": None,
        "decoupled_weight_decay": True,
    }
    if initial_rate is not None:
        group["initial_lr"] = initial_rate
    group["params"] = list(range(len(rules)))
    return {"state": entries, "param_groups": [group]}


def decimal(value: Any) -> float:
    """The shortest decimal that rounds to this float32: 0.002, not 0.0020000000949949026."""
    return float(str(np.float32(value)))


def _ruled(rules: Sequence[Rule], params: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves that have a rule, by path."""
    targets = {target for rule in rules for target in rule.targets}
    return {path: x for path, x in flatten_dict(params, sep="/").items() if path in targets}


def _group(optimizer_state: Any) -> Fields:
    groups = Fields(optimizer_state, "the optimizer's state").get("param_groups", list)
    if len(groups) != 1:
        raise ConversionError(f"expected one parameter group in the optimizer, got {len(groups)}")
    return Fields(groups[0], "the optimizer's parameter group")
