"""The plan of a run: from its config and a machine to figures that can be shown."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxrecipes.plan.devices import Machine
from jaxrecipes.plan.figures import StepFigures, compile_step
from jaxrecipes.plan.state_bytes import bytes_by_module, bytes_by_part
from jaxrecipes.plan.subject import Subject, abstract_state, make_subject
from jaxrecipes.plan.suggest import Suggestion, suggestions
from jaxrecipes.plan.topology import devices_of, missing_compiler
from jaxrecipes.runs.recipe_config import chosen

CAVEATS = (
    "bounds are no predictions: a step takes longer than the shorter of them",
    "products were not tuned on a device, so which kernel computes them is not known",
    "speeds of links and network are assumed, as is that nobody shares them",
    "what the allocator, cuDNN and the collectives need beside the program is not counted",
)
"""What a plan cannot know."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run takes on each device.

    Attributes:
      recipe: its name.
      machine: what it was planned for.
      batch_size: the global one.
      modules: module -> part of the state -> bytes on each device.
      data: where the training examples are in a run, `device` or `stream`.
      examples: how many there are; None where nobody said.
      bytes_per_example: as a device holds them.
      data_bytes: of the training examples on each device; of unknown many, of those looked at.
      missing_compiler: the command that installs the machine's compiler; None where it is there.
      step: the compiled step; None where it was not compiled.
      suggestions: other flags, compiled as well.
    """

    recipe: str
    machine: Machine
    batch_size: int
    fsdp_devices: int
    modules: Mapping[str, Mapping[str, int]]
    data: str
    examples: int | None
    bytes_per_example: float
    data_bytes: int
    missing_compiler: str | None
    step: StepFigures | None
    suggestions: tuple[Suggestion, ...] = ()

    def parts(self) -> dict[str, int]:
        """Bytes of the state on each device by part."""
        return bytes_by_part(self.modules)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON has it, with `fits` of each step."""

        def shown(step: StepFigures | None) -> dict[str, Any] | None:
            if step is None:
                return None
            return {**dataclasses.asdict(step), "fits": step.fits(self.machine.device)}

        return {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "machine": dataclasses.asdict(self.machine),
            "modules": {name: dict(parts) for name, parts in self.modules.items()},
            "state_bytes": self.parts(),
            "step": shown(self.step),
            "suggestions": [
                {"why": one.why, "flags": one.flags, "step": shown(one.step)}
                for one in self.suggestions
            ],
            "caveats": CAVEATS,
        }


def plan(
    config: Any,
    machine: Machine,
    *,
    fields: Mapping[str, Any] | None = None,
    examples: int | None = None,
    compiled: bool = True,
    suggest: bool = False,
) -> Plan:
    """Plans a run, as `jaxrecipes plan` does; nothing is trained and no device is needed.

    Args:
      config: a recipe's config, or what `--config` takes.
      machine: see `machine_of`.
      fields: values in place of the config's, by dotted name.
      examples: to train on; None: as many as the config makes itself, where it does.
      compiled: whether to compile the step, which takes from seconds to minutes.
      suggest: whether to look for other flags, which takes several compilations.

    Raises:
      ValueError: a config that cannot be trained, a batch or a state that does not divide over the
        devices, or a compiler that is not installed.
    """
    module, config = chosen(config, fields)

    def subject_of(config: Any) -> Subject:
        return make_subject(module, config, examples=examples)

    subject = subject_of(config)
    mesh = subject.abstract_mesh(machine.count)
    placement, data_bytes = subject.data_bytes(machine.device.usable_bytes)
    step: StepFigures | None = None
    others: list[Suggestion] = []
    if compiled:
        devices = devices_of(machine)
        step = compile_step(subject, devices, machine)
        if suggest:
            others = suggestions(subject, step, machine, devices, subject_of)
    return Plan(
        recipe=module.name,
        machine=machine,
        batch_size=subject.batch_size,
        fsdp_devices=mesh.shape["fsdp"],
        modules=bytes_by_module(abstract_state(subject.recipe), mesh),
        data=placement,
        examples=subject.examples,
        bytes_per_example=subject.bytes_per_example(),
        data_bytes=data_bytes,
        missing_compiler=missing_compiler(machine),
        step=step,
        suggestions=tuple(others),
    )
