"""Devices that a run may be planned for, and what their makers say of them."""

import dataclasses
import math
import re
from typing import Any

from jaxrecipes.errors import unknown_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Device:
    """One GPU, TPU chip or CPU device; None is what nobody can say in general.

    Attributes:
      platform: cpu, cuda or tpu.
      memory_gb: in all, in 1e9 bytes.
      memory_share: of it that JAX uses: by default 0.75 on a GPU (XLA_PYTHON_CLIENT_MEM_FRACTION).
      bandwidth_gbs: of the memory, in 1e9 bytes a second.
      bf16_tflops: dense products of 16-bit floats, in 1e12 a second.
      float32_tflops: products of float32 at JAX's default precision: TF32 on a GPU, bfloat16 on a
        TPU.
      link_gbs: to the other devices of its host, or of its slice, one way, in 1e9 bytes a second.
      network_gbs: to those of other hosts, likewise.
      launch_us: from one kernel to the next at the least; 0 where a step is a single launch.
      source: of these figures.
      spec: of a GPU: the fields of XLA's GpuTargetConfigProto that tell it from others.
    """

    platform: str
    memory_gb: float | None = None
    memory_share: float = 1.0
    bandwidth_gbs: float | None = None
    bf16_tflops: float | None = None
    float32_tflops: float | None = None
    link_gbs: float | None = None
    network_gbs: float | None = None
    launch_us: float = 0.0
    source: str
    spec: "GpuSpec | None" = None

    @property
    def usable_bytes(self) -> float | None:
        """What a step may take."""
        return None if self.memory_gb is None else 1e9 * self.memory_gb * self.memory_share


@dataclasses.dataclass(frozen=True, kw_only=True)
class GpuSpec:
    """What XLA's compiler looks at; from the files in xla/backends/gpu/target_config/specs of
    github.com/openxla/xla.
    """

    name: str
    capability: int
    cores: int
    fpus_per_core: int = 128
    l2_bytes: int
    clock_ghz: float
    memory_bytes: int
    bandwidth: int
    shared_per_core: int = 233472
    shared_per_block: int = 232448


def _gpu(
    spec: GpuSpec, bf16_tflops: float, float32_tflops: float, link_gbs: float, source: str
) -> Device:
    # One adapter of 400 Gbit/s for each GPU, as in DGX and HGX machines (200 for the A100). 2.5 us
    # is what short kernels in a row take on these GPUs at best.
    return Device(
        platform="cuda",
        memory_gb=spec.memory_bytes / 1e9,
        memory_share=0.75,
        bandwidth_gbs=spec.bandwidth / 1e9,
        bf16_tflops=bf16_tflops,
        float32_tflops=float32_tflops,
        link_gbs=link_gbs,
        network_gbs=25 if spec.capability == 8 else 50,
        launch_us=2.5,
        source=f"{source}; memory and bandwidth as XLA's spec has them",
        spec=spec,
    )


def _tpu(memory: float, bandwidth: float, tflops: float, link: float, name: str) -> Device:
    return Device(
        platform="tpu",
        memory_gb=memory,
        memory_share=0.97,
        bandwidth_gbs=bandwidth,
        bf16_tflops=tflops,
        float32_tflops=tflops,
        link_gbs=link,
        source=f"cloud.google.com/tpu/docs/{name}; links: half of the bandwidth of both directions",
    )


DEVICES = {
    "cpu": Device(platform="cpu", source="none: a CPU's memory and speed are its machine's"),
    "a100": _gpu(
        GpuSpec(
            name="NVIDIA A100-SXM4-80GB",
            capability=8,
            cores=108,
            fpus_per_core=64,
            l2_bytes=41943040,
            clock_ghz=1.41,
            memory_bytes=85100068864,
            bandwidth=2039040000000,
            shared_per_core=167936,
            shared_per_block=166912,
        ),
        *(312, 156, 300, "NVIDIA A100 datasheet (SXM, 80 GB; dense)"),
    ),
    "h100": _gpu(
        GpuSpec(
            name="NVIDIA H100 80GB HBM3",
            capability=9,
            cores=132,
            l2_bytes=52428800,
            clock_ghz=1.98,
            memory_bytes=84942979072,
            bandwidth=3352320000000,
        ),
        *(989, 494, 450, "NVIDIA H100 datasheet (SXM; dense)"),
    ),
    "h200": _gpu(
        GpuSpec(
            name="NVIDIA H200 141GB HBM3e",
            capability=9,
            cores=132,
            l2_bytes=52428800,
            clock_ghz=1.98,
            memory_bytes=151397597184,
            bandwidth=4800000000000,
        ),
        *(989, 494, 450, "NVIDIA H200 datasheet (SXM; dense)"),
    ),
    "b200": _gpu(
        GpuSpec(
            name="NVIDIA B200",
            capability=10,
            cores=148,
            l2_bytes=132644864,
            clock_ghz=1.965,
            memory_bytes=191514411008,
            bandwidth=7672320000000,
        ),
        *(2250, 1125, 900, "NVIDIA HGX B200 datasheet (dense)"),
    ),
    "v5e": _tpu(16, 819, 197, 100, "v5e"),
    "v5p": _tpu(95, 2765, 459, 300, "v5p"),
    "v6e": _tpu(32, 1640, 918, 224, "v6e"),
}
FIGURES = (
    *("memory_gb", "memory_share", "bandwidth_gbs", "bf16_tflops", "float32_tflops"),
    *("link_gbs", "network_gbs", "launch_us"),
)
"""The fields of a Device that may be given in place of the table's."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """Devices of one kind.

    Attributes:
      name: as it is written, such as h200:1x8.
      device: one of them.
      hosts, per_host: of a GPU or CPU.
      count: in all.
    """

    name: str
    device: Device
    hosts: int
    per_host: int
    count: int


def machine_of(text: str, **figures: float | None) -> Machine:
    """The machine that `--devices` names: `h200:HOSTSxPER_HOST` (or `h200:N` on one host), `cpu:N`,
    `v5e:4x4` (the shape of the slice).

    Args:
      text: as written.
      **figures: of the device, in place of the table's; None: as there.

    Raises:
      ValueError: a device that is not in the table, numbers that are none, or a figure below 0.
    """
    kind, _, size = text.partition(":")
    if kind not in DEVICES:
        raise unknown_name("--devices", kind, DEVICES)
    if not re.fullmatch(r"[1-9]\d{0,4}(x[1-9]\d{0,4}){0,2}", size or "1"):
        raise ValueError(
            f"--devices is {text!r}; expected {kind}:N, or {kind}:HOSTSxPER_HOST such as {kind}:1x8"
        )
    given: dict[str, Any] = {name: value for name, value in figures.items() if value is not None}
    for name, value in given.items():
        if not value > 0 and (name != "launch_us" or value < 0):
            raise ValueError(f"--{name} is {value:g}; expected a number above 0")
    device = dataclasses.replace(DEVICES[kind], **given)
    dims = [int(n) for n in (size or "1").split("x")]
    if device.platform == "tpu":
        return Machine(text, device, 1, math.prod(dims), math.prod(dims))
    if len(dims) == 3:
        raise ValueError(f"--devices is {text!r}; expected {kind}:N or {kind}:HOSTSxPER_HOST")
    hosts, per_host = (1, *dims) if len(dims) == 1 else dims
    return Machine(text, device, hosts, per_host, hosts * per_host)
