"""What a run could be given instead: each suggestion is compiled before it is made."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

from jaxrecipes.config import with_fields
from jaxrecipes.nn.remat import NoBlocksError
from jaxrecipes.plan.devices import Machine
from jaxrecipes.plan.figures import StepFigures, compile_step
from jaxrecipes.plan.subject import Subject


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """Flags, and what the step takes with them.

    Attributes:
      why: what they are good for.
      flags: field -> value.
      step: compiled with them.
    """

    why: str
    flags: dict[str, Any]
    step: StepFigures


def suggestions(
    subject: Subject,
    step: StepFigures,
    machine: Machine,
    devices: list[Any],
    remake: Callable[[Any], Subject],
) -> list[Suggestion]:
    """The largest batch that fits, the least FSDP that makes the step fit, and rematerialisation.

    Each takes one to four compilations.

    Args:
      subject: what is planned.
      step: its figures.
      machine: what it is planned for; without the memory of its devices nothing is suggested.
      devices: of the machine.
      remake: the subject of another config.
    """
    if machine.device.usable_bytes is None:
        return []

    def tried(fields: dict[str, Any]) -> StepFigures:
        other = remake(with_fields(subject.config, fields))
        other.abstract_mesh(machine.count)  # refuses a batch that does not divide
        return compile_step(other, devices, machine)

    found: list[Suggestion] = []
    fits = step.fits(machine.device)
    if not fits:
        found += _least_fsdp(step, machine, tried)
    if not subject.config.remat:
        flags = {"remat": True}
        with contextlib.suppress(NoBlocksError):
            other = tried(flags)
            if other.needed < step.needed:
                found.append(Suggestion("less memory, more work", flags, other))
    return found + _largest_batch(step, machine, tried)


def _least_fsdp(
    step: StepFigures, machine: Machine, tried: Callable[[dict[str, Any]], StepFigures]
) -> list[Suggestion]:
    """The state over the fewest devices with which the step fits."""
    for count in range(step.fsdp_devices + 1, machine.count + 1):
        if machine.count % count == 0:
            flags = {"parallel.fsdp_devices": count}
            other = tried(flags)
            if other.fits(machine.device):
                return [Suggestion("the least FSDP that fits", flags, other)]
    return []


def _largest_batch(
    step: StepFigures, machine: Machine, tried: Callable[[dict[str, Any]], StepFigures]
) -> list[Suggestion]:
    """Where a line through two batches meets the memory; a little less where that does not fit."""
    usable, batch, unit = machine.device.usable_bytes, step.batch_size, machine.count
    other = batch // 2 // unit * unit if not step.fits(machine.device) else 2 * batch
    if usable is None or other < unit:
        return []
    second = tried({"data.batch_size": other})
    slope = (second.needed - step.needed) / (other - batch)
    if slope <= 0:
        return []
    largest = batch + (usable - step.needed) / slope
    for share in (1.0, 0.95, 0.9):
        size = int(largest * share) // unit * unit
        if size < unit:
            break
        flags = {"data.batch_size": size}
        compiled = second if size == other else step if size == batch else tried(flags)
        if compiled.fits(machine.device):
            return [Suggestion("the largest batch that fits", flags, compiled)]
    return []
