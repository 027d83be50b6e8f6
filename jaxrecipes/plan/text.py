"""A plan as lines for a terminal."""

from collections.abc import Iterator

from jaxrecipes.plan.figures import StepFigures
from jaxrecipes.plan.plan import CAVEATS, Plan

_HOST_WAITS = {"cuda": "; the host waits for each"}


def plan_text(plan: Plan) -> str:
    """What the plan says."""
    return "\n".join(f"{name:<24}{value}".rstrip() for name, value in rows(plan))


def rows(plan: Plan) -> Iterator[tuple[str, str]]:
    """(what, how much) of the whole plan."""
    machine, device = plan.machine, plan.machine.device
    yield (
        "run",
        f"{plan.recipe}, a global batch of {plan.batch_size}, on {machine.name}"
        f" ({machine.count} devices, the state over {plan.fsdp_devices})",
    )
    if device.usable_bytes is None:
        yield "memory", "not known: give --memory_gb to see whether the run fits"
    else:
        share = f"{device.memory_share:.0%} of {device.memory_gb:.1f} GB"
        yield "memory", f"{size_text(device.usable_bytes)} on each device ({share})"
    yield "", ""
    yield "on each device", ""
    for part, size in plan.parts().items():
        yield f"  {part}", size_text(size)
    where = "resident" if plan.data == "device" else "streamed from the host"
    if plan.examples is None:
        each = size_text(plan.bytes_per_example)
        yield "  data", f"{each} an example; give --examples N to count them all"
    else:
        yield "  data", f"{size_text(plan.data_bytes)} ({plan.examples:,} examples, {where})"
    if plan.step is None:
        ready = plan.missing_compiler
        yield "compiler", f"not installed: {ready}" if ready else "installed; step not compiled"
        return
    yield from step_rows(plan, plan.step)
    for suggestion in plan.suggestions:
        flags = " ".join(f"--{name} {value}" for name, value in suggestion.flags.items())
        flags = flags.replace(" True", "")
        yield "", ""
        yield f"try {flags}", f"({suggestion.why})"
        yield from _outcome(plan, suggestion.step)
    yield "", ""
    for caveat in CAVEATS:
        yield "  not known", caveat


def step_rows(plan: Plan, step: StepFigures) -> Iterator[tuple[str, str]]:
    """Of the compiled step."""
    yield "", ""
    yield "a step, compiled", f"in {step.compile_seconds:.0f} s"
    yield "  arguments", size_text(step.arguments)
    yield "  temporaries", size_text(step.temporaries)
    yield from _outcome(plan, step)
    flops = ", ".join(f"{count / 1e9:,.4g} in {dtype}" for dtype, count in step.flops.items())
    yield "  products (GFLOP)", flops or "none"
    yield "  memory traffic", size_text(step.traffic)
    yield "  kernels", f"{step.kernels:,}"
    for kind, sums in step.collectives.items():
        yield f"  {kind}", f"{sums['count']:,.0f}, {size_text(sums['bytes'])}"
    if step.gathered is not None:
        meaning = "2 where all are gathered anew for the backward pass, 1 where they are kept whole"
        yield "  weights gathered", f"{step.gathered:.2f} times ({meaning})"
    waits = _HOST_WAITS.get(plan.machine.device.platform, "")
    loops = f"{step.data_loops} loops, {step.data_branches} branches"
    yield "  decided by data", loops + (waits if step.data_loops + step.data_branches else "")
    for note in step.notes:
        yield "  note", note


def _outcome(plan: Plan, step: StepFigures) -> Iterator[tuple[str, str]]:
    fits = step.fits(plan.machine.device)
    word = "" if fits is None else ": fits" if fits else ": does NOT fit"
    yield "  at once, at the most", size_text(step.needed) + word
    bounds = step.bounds
    if bounds is None:
        yield "  time", "not known: the device's speed is not"
        return
    yield (
        "  time of a step",
        f"{1e3 * bounds.overlapping:.3g} ms if everything overlaps, "
        f"{1e3 * bounds.in_turn:.3g} ms if nothing does; bound by {bounds.by}",
    )
    yield "  MFU", f"at most {bounds.mfu:.0%}"


def size_text(count: float) -> str:
    """Bytes with a unit of 1000."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:,.4g} {unit}"
    return f"{count:.0f} B"
