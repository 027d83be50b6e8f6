"""Configs that earlier versions stored, read as this one stores them.

Up to version 0.1 `lr_schedule` had a field for each option of each schedule, and `schedules` gave
hyperparameters schedules by their names in the log. Each becomes the value of the field that now
declares it, such that the same numbers come out and the same leaves are in the state.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from jaxrecipes.config import from_dict
from jaxrecipes.errors import unknown_name
from jaxrecipes.fields import Checked, Count, CountOrZero, hparam_paths


def upgraded(config_type: type, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The stored config of an earlier version as this one stores it; one of this version as it is.

    Raises:
      ValueError: what no version stored.
    """
    values = dict(stored)
    texts = values.pop("schedules", {})
    schedule = values.pop("lr_schedule", None)
    if schedule is not None:
        lr: _LrSchedule = from_dict(_LrSchedule, schedule)
        optim = dict(values.get("optim", {}))
        values["optim"] = optim | _learning_rate(lr, optim, values.get("data", {}))
        named = {field.name for field in dataclasses.fields(lr)}
        values["plateau"] = {name: getattr(lr, name) for name in _PLATEAU if name in named}
    for name, text in dict(texts).items():
        values = _with_schedule(config_type, values, name, text)
    return values


@dataclasses.dataclass(frozen=True, kw_only=True)
class _LrSchedule(Checked):
    """The section as version 0.1 had it."""

    kind: Literal[
        "constant", "plateau", "cosine", "linear", "step", "exponential", "cyclic", "one_cycle"
    ] = "plateau"
    warmup_ratio: float | None = None
    warmup_steps: CountOrZero | None = None
    num_cycles: float = 0.5
    warmup_epochs: CountOrZero = 0
    warmup_learning_rate: float | None = None
    factor: float = 0.5
    patience_epochs: CountOrZero = 2
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown_epochs: CountOrZero = 0
    min_learning_rate: float = 0.0
    eps: float = 1e-8
    monitor: str = "loss"
    mode: str = "min"
    period_epochs: Count | None = None
    max_learning_rate: float | None = None
    step_size_up: Count = 2000
    cyclic_mode: str = "triangular"
    cyclic_gamma: float = 1.0
    cycle_momentum: bool = False
    peak_fraction: float = 0.3


_PLATEAU = (
    *("factor", "patience_epochs", "threshold", "threshold_mode", "cooldown_epochs"),
    *("eps", "monitor", "mode"),
)


def _learning_rate(
    lr: _LrSchedule, optim: Mapping[str, Any], data: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of `optim` that say the same."""
    fields: dict[str, Any] = {"min_learning_rate": lr.min_learning_rate}
    if lr.kind == "cyclic" and lr.cycle_momentum:
        name = "momentum" if optim.get("optimizer") == "sgd" else "b1"
        fields[name] = _cyclic(lr, "0.9", "0.8")
    rises_from = lr.warmup_epochs and lr.warmup_learning_rate is not None
    if lr.kind == "plateau" and rises_from:
        # The word is needed for the plateau: the rate says the warm-up, with its scaling done.
        rate, reference = optim.get("learning_rate", 1e-3), optim.get("reference_batch_size")
        if reference is not None:
            rate *= data["batch_size"] * optim.get("accumulation_steps", 1) / reference
        text = _by_epoch(lr, f"constant({rate!r})", rate=repr(rate))
        return fields | {
            "learning_rate": text,
            "reference_batch_size": None,
            "schedule": "plateau",
            "warmup_epochs": lr.warmup_epochs,
        }
    in_words = lr.kind in ("plateau", "constant", "cosine", "linear")
    in_words &= lr.warmup_steps is None and not rises_from
    if in_words and not (lr.kind == "cosine" and lr.period_epochs is not None):
        words = {"schedule": lr.kind, "warmup_ratio": lr.warmup_ratio}
        return fields | words | {"warmup_epochs": lr.warmup_epochs}
    return fields | {"schedule": _text(lr)}


def _text(lr: _LrSchedule) -> str:
    """`optim.schedule` of what has no word of its own."""
    peak = "10*rate" if lr.max_learning_rate is None else repr(lr.max_learning_rate)
    period, epochs = lr.period_epochs, f"ceil(run/epoch) - {lr.warmup_epochs}"
    if lr.warmup_ratio is not None:
        if lr.kind == "cosine":
            after = f"cosine(rate, steps={period}*epoch, end={lr.min_learning_rate!r})"
        elif lr.kind == "step":
            size = period or "max(1, floor(floor(run/epoch)/3))"
            after = f"step_decay(rate, step_size={size}*epoch, gamma={lr.factor!r})"
        else:
            after = _cyclic(lr, "rate", peak)
        if not lr.warmup_ratio:
            return after
        rise = f"floor({lr.warmup_ratio!r}*run)"
        return f"join((linear(0, rate, steps={rise}), {after}), ({rise},))"
    if lr.warmup_steps is not None:
        return (
            f"warmup_cosine(rate, warmup_steps={lr.warmup_steps}, total_steps=run, "
            f"num_cycles={lr.num_cycles!r})"
        )
    if lr.kind == "cyclic":
        return _cyclic(lr, "rate", peak)
    if lr.kind == "one_cycle":
        return f"one_cycle({peak}, total_steps=run, pct_start={lr.peak_fraction!r})"
    after = {
        "cosine": f"cosine(rate, steps={period or f'max(1, {epochs})'}, "
        f"end={lr.min_learning_rate!r})",
        "step": f"step_decay(rate, step_size={period or 10}, gamma={lr.factor!r})",
        "exponential": f"exponential(rate, gamma={lr.factor!r})",
        "constant": "constant(rate)",
    }[lr.kind]
    return _by_epoch(lr, after)


def _by_epoch(lr: _LrSchedule, after: str, *, rate: str = "rate") -> str:
    """A staircase of epochs: the warm-up, then `after`."""
    if not lr.warmup_epochs:
        return f"every({after}, epoch)"
    rise = f"warmup({rate}, warmup_steps={lr.warmup_epochs})"
    if lr.warmup_learning_rate is not None:
        rise = f"linear({lr.warmup_learning_rate!r}, {rate}, steps={lr.warmup_epochs})"
    return f"every(join(({rise}, {after}), ({lr.warmup_epochs},)), epoch)"


def _cyclic(lr: _LrSchedule, base: str, peak: str) -> str:
    options = f'mode="{lr.cyclic_mode}", gamma={lr.cyclic_gamma!r}'
    return f"cyclic({base}, {peak}, step_size_up={lr.step_size_up}, {options})"


def _with_schedule(
    config_type: type, values: Mapping[str, Any], name: str, text: str
) -> dict[str, Any]:
    """The config with the schedule of a hyperparameter in the field that declares it."""
    config = from_dict(config_type, values)
    if name == "learning_rate" and config.optim.schedule != "plateau":
        # The number stays: others are given as factors on it.
        unscaled = {"reference_batch_size": None, "warmup_epochs": 0, "warmup_ratio": None}
        return {**values, "optim": {**values["optim"], **unscaled, "schedule": text}}
    paths = hparam_paths(config)
    if name not in paths:
        raise unknown_name("hyperparameter in schedules", name, paths)
    changed: dict[str, Any] = {paths[name]: number_or_text(text)}
    if name == "learning_rate":
        changed["optim.reference_batch_size"] = None
    for path, value in changed.items():
        values = _replaced(values, path.split("."), value)
    return dict(values)


def number_or_text(text: str) -> float | str:
    """A number where the text is one; 0 stays a schedule, which kept its operation in the
    program.
    """
    try:
        return float(text) or f"constant({text})"
    except ValueError:
        return text


def _replaced(values: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    head, *rest = path
    return {**values, head: _replaced(values.get(head, {}), rest, value) if rest else value}
