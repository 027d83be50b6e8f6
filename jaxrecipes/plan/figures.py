"""The figures of a step that is compiled for a machine, and the bounds that follow from them."""

import collections
import dataclasses
import time
from typing import Any

import jax
from jax.sharding import Mesh

from jaxrecipes.optim import leaves_by_path
from jaxrecipes.plan.devices import Device, Machine
from jaxrecipes.plan.hlo import read_module
from jaxrecipes.plan.kernels import Work, work_of
from jaxrecipes.plan.subject import Subject, abstract_state, lowered_step
from jaxrecipes.plan.topology import lowering_for
from jaxrecipes.sharding import make_mesh, replicated, state_shardings

_CPU_OPTIONS: dict[str, str | bool] = {
    "xla_backend_optimization_level": "0",  # of machine code; buffers are the same
    "xla_cpu_enable_concurrency_optimized_scheduler": False,
}
_WITHOUT_TRITON: dict[str, str | bool] = {"xla_gpu_enable_triton_gemm": False}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a step takes at the least, in seconds.

    Attributes:
      overlapping: kernels follow one another, each as long as its products or its traffic, and
        launches and the network hide behind them.
      in_turn: nothing overlaps.
      by: what bounds the first: matmul, memory, launches or network.
      mfu: products at the peak of 16-bit floats, over `overlapping`; no run exceeds it.
    """

    overlapping: float
    in_turn: float
    by: str
    mfu: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepFigures:
    """A step compiled for one machine; of one device unless it says otherwise.

    Attributes:
      batch_size, fsdp_devices: what it was compiled with.
      arguments, temporaries, needed: bytes; `needed` is all that is there at once at the most.
      flops: in products and convolutions, by dtype.
      traffic: bytes that kernels read and write in memory.
      kernels: launches.
      collectives: kind -> {count, bytes} of whole arrays.
      data_loops, data_branches: loops and branches whose course is data; on a GPU the host waits
        for each.
      gathered: elements that all-gathers make, over those of the parameters that are split: 2 where
        each weight is gathered for the forward and for the backward pass, 1 where whole weights are
        kept in between; None without FSDP.
      bounds: None where the device's speed is not known.
      compile_seconds: what compiling took here.
      notes: what else is to be said.
    """

    batch_size: int
    fsdp_devices: int
    arguments: int
    temporaries: int
    needed: int
    flops: dict[str, float]
    traffic: float
    kernels: int
    collectives: dict[str, dict[str, float]]
    data_loops: int
    data_branches: int
    gathered: float | None
    bounds: Bounds | None
    compile_seconds: float
    notes: tuple[str, ...] = ()

    def fits(self, device: Device) -> bool | None:
        """Whether a device has the memory; None where its memory is not known."""
        return None if device.usable_bytes is None else self.needed <= device.usable_bytes


def compile_step(subject: Subject, devices: list[Any], machine: Machine) -> StepFigures:
    """Compiles one step for the machine's devices, and reads the program; nothing runs."""
    mesh = make_mesh(subject.config.parallel.fsdp_devices, devices=devices)
    started = time.monotonic()
    with lowering_for(machine):
        lowered = lowered_step(subject, mesh, machine.device.usable_bytes)
        compiled, notes = _compiled(lowered, machine)
    seconds = time.monotonic() - started
    memory: Any = compiled.memory_analysis()
    work = work_of(read_module(compiled.as_text() or ""))
    collectives: dict[str, dict[str, float]] = {}
    for one in work.collectives:
        sums = collectives.setdefault(one.kind, {"count": 0, "bytes": 0.0})
        sums["count"] += one.times
        sums["bytes"] += one.times * one.bytes
    arguments, temporaries = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    return StepFigures(
        batch_size=subject.batch_size,
        fsdp_devices=mesh.shape["fsdp"],
        arguments=arguments,
        temporaries=temporaries,
        needed=arguments + temporaries + memory.output_size_in_bytes - memory.alias_size_in_bytes,
        flops=dict(_flops(work)),
        traffic=sum(kernel.times * kernel.traffic for kernel in work.kernels),
        kernels=sum(kernel.times for kernel in work.kernels),
        collectives=collectives,
        data_loops=work.data_loops,
        data_branches=work.data_branches,
        gathered=_gathered(subject, mesh, work),
        bounds=bounds_of(work, machine),
        compile_seconds=seconds,
        notes=notes,
    )


def bounds_of(work: Work, machine: Machine) -> Bounds | None:
    """The bounds on a step's time; None where a figure of the device is not known."""
    device = machine.device
    if not (device.bandwidth_gbs and device.bf16_tflops and device.float32_tflops):
        return None
    products = memory = in_turn = at_peak = 0.0
    for kernel in work.kernels:
        multiplying = sum(
            count / (1e12 * (device.bf16_tflops if _is_short(dtype) else device.float32_tflops))
            for dtype, count in kernel.flops.items()
        )
        moving = kernel.traffic / (1e9 * device.bandwidth_gbs)
        products += kernel.times * multiplying * (multiplying > moving)
        memory += kernel.times * moving * (multiplying <= moving)
        in_turn += kernel.times * (multiplying + moving)
        at_peak += kernel.times * sum(kernel.flops.values()) / (1e12 * device.bf16_tflops)
    launches = sum(kernel.times for kernel in work.kernels) * device.launch_us / 1e6
    link = 1e9 * (device.link_gbs or float("inf"))
    network = sum(
        one.seconds(
            devices=machine.count,
            per_host=machine.per_host,
            link=link,
            network=1e9 * device.network_gbs if device.network_gbs else link,
        )
        for one in work.collectives
    )
    overlapping = max(products + memory, launches, network)
    by = {"launches": launches, "network": network}
    by = by if overlapping in by.values() else {"matmul": products, "memory": memory}
    return Bounds(
        overlapping=overlapping,
        in_turn=in_turn + launches + network,
        by=max(by, key=lambda name: by[name]),
        mfu=at_peak / overlapping if overlapping else 0.0,
    )


def _is_short(dtype: str) -> bool:
    return dtype in ("bf16", "f16") or dtype.startswith("f8")


def _flops(work: Work) -> collections.Counter[str]:
    total: collections.Counter[str] = collections.Counter()
    for kernel in work.kernels:
        for dtype, count in kernel.flops.items():
            total[dtype] += kernel.times * count
    return total


def _compiled(
    lowered: jax.stages.Lowered, machine: Machine
) -> tuple[jax.stages.Compiled, tuple[str, ...]]:
    if machine.device.platform == "cpu":
        return lowered.compile(compiler_options=_CPU_OPTIONS), ()
    try:
        return lowered.compile(), ()
    except jax.errors.JaxRuntimeError:
        if machine.device.platform != "cuda":
            raise
    # Without a GPU to try tiles on, XLA finds none that fits some small float32 products.
    note = "XLA found no tiles for a product: compiled with --xla_gpu_enable_triton_gemm=false"
    return lowered.compile(compiler_options=_WITHOUT_TRITON), (note,)


def _gathered(subject: Subject, mesh: Mesh, work: Work) -> float | None:
    params = abstract_state(subject.recipe).params
    shardings: dict[str, Any] = leaves_by_path(state_shardings(params, mesh))
    split = sum(
        leaf.size
        for path, leaf in leaves_by_path(params).items()
        if shardings[path] != replicated(mesh)
    )
    if mesh.shape["fsdp"] == 1 or not split:
        return None
    gathers = (one for one in work.collectives if one.kind == "all-gather")
    return sum(one.times * one.elements for one in gathers) / split
