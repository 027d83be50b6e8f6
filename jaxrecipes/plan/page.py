"""A plan as one HTML page."""

import pathlib

from jaxrecipes.plan.plan import Plan
from jaxrecipes.plan.state_bytes import OTHER, PARTS
from jaxrecipes.plan.text import rows, size_text
from jaxrecipes.report.page import Answer, Page, write_page
from jaxrecipes.report.sections import Cell, Section, Table


def write_plan_page(plan: Plan, path: pathlib.Path) -> pathlib.Path:
    """Writes the page, which needs no other file, with the state split by module; returns its
    path.
    """
    step, device = plan.step, plan.machine.device
    answer = None
    problems = []
    if step is not None:
        bounds = step.bounds
        facts: list[tuple[str, Cell]] = [("batch", plan.batch_size), ("FSDP", plan.fsdp_devices)]
        if bounds is not None:
            facts += [
                ("ms a step, all overlapping", 1e3 * bounds.overlapping),
                ("ms a step, nothing overlapping", 1e3 * bounds.in_turn),
                ("bound by", bounds.by),
                ("MFU at most", f"{bounds.mfu:.0%}"),
            ]
        answer = Answer(name="on each device", value=size_text(step.needed), facts=facts)
        if device.usable_bytes is not None and not step.fits(device):
            problems = [f"It does not fit: {size_text(device.usable_bytes)} can be used."]
    lines = [(name.strip(), value) for name, value in rows(plan) if value]
    page = Page(
        title=f"{plan.recipe} on {plan.machine.name}",
        subtitle=f"A plan of a step: compiled for devices of which none was there. {device.source}",
        answer=answer,
        problems=problems,
        sections=[
            Section(title="Figures", table=Table(head=(), rows=lines)),
            Section(title="The state by module, MB on each device", table=_modules(plan)),
        ],
    )
    return write_page(page, path)


def _modules(plan: Plan) -> Table:
    parts = [*PARTS.values(), OTHER]
    modules = {**plan.modules, "in all": plan.parts()}
    return Table(
        head=("module", *parts),
        rows=[
            (name, *(sizes.get(part, 0) / 1e6 for part in parts)) for name, sizes in modules.items()
        ],
    )
