"""The devices of a machine as JAX compiles for them, though they are not there."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
from jax._src import xla_bridge
from jax._src.cudnn import fused_attention_stablehlo

from jaxrecipes.errors import cause, install_command
from jaxrecipes.plan.devices import GpuSpec, Machine

_CUDNN = 91000  # as in `target_config`
_PLUGINS = {"cuda": ("jax_cuda12_plugin", "jax_cuda13_plugin"), "tpu": ("libtpu",)}


def missing_compiler(machine: Machine) -> str | None:
    """The command that installs the compiler for the machine; None where it is there."""
    platform = machine.device.platform
    plugins = _PLUGINS.get(platform, ())
    if not plugins or any(importlib.util.find_spec(name) for name in plugins):
        return None
    return install_command(f"plan-{platform}")


def use_cpu(machine: Machine) -> None:
    """Lets JAX run on CPUs alone, as many as the machine has if it is one of these; to be called
    before anything touches a device.
    """
    jax.config.update("jax_platforms", "cpu")
    if machine.device.platform == "cpu":
        jax.config.update("jax_num_cpu_devices", machine.count)


def devices_of(machine: Machine) -> list[Any]:
    """The devices to make a mesh of.

    Raises:
      ValueError: the compiler for them is not installed or refuses their number, or this process
        has fewer CPU devices.
    """
    platform = machine.device.platform
    if platform == "cpu":
        devices = jax.devices("cpu")
        if len(devices) < machine.count:
            raise ValueError(
                f"--devices is {machine.name}, but this process has {len(devices)} CPU devices; "
                f"set XLA_FLAGS=--xla_force_host_platform_device_count={machine.count}"
            )
        return devices[: machine.count]
    command = missing_compiler(machine)
    if command is not None:
        raise ValueError(
            f"the compiler for {machine.name} is not installed (no such device is needed): "
            f"{command}; --no_compile counts the bytes of the state without it"
        )
    from jax.experimental import topologies

    try:
        if platform == "tpu":
            os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # or it asks the network for a TPU
            os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
            os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
            one = machine.count == 1  # a slice of one chip is no topology
            kind, _, shape = machine.name.partition(":")
            name = f"{kind}:2x2" if one else f"{kind}:{shape}"
            found = topologies.get_topology_desc(platform="tpu", topology_name=name)
            return list(found.devices)[: machine.count]
        assert machine.device.spec is not None
        found = topologies.get_topology_desc(
            platform="cuda",
            target_config=target_config(machine.device.spec),
            topology=f"1x{machine.hosts}x{machine.per_host}",
        )
        return list(found.devices)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"--devices is {machine.name}: {cause(error)}") from error


@contextlib.contextmanager
def lowering_for(machine: Machine) -> Iterator[None]:
    """In the block JAX lowers and compiles for the machine.

    JAX 0.10 resolves the platform "gpu" to that of the GPU which is there, and asks the cuDNN that
    is there for its version; it fails without one.
    """
    if machine.device.platform != "cuda":
        yield
        return
    resolve = xla_bridge.canonicalize_platform
    with (
        mock.patch.object(
            xla_bridge,
            "canonicalize_platform",
            lambda name: "cuda" if name == "gpu" else resolve(name),
        ),
        mock.patch.object(fused_attention_stablehlo, "check_cudnn_version", return_value=_CUDNN),
    ):
        yield


def target_config(spec: GpuSpec) -> str:
    """XLA's GpuTargetConfigProto of a GPU, as text."""
    accelerated = "feature_extension: ACCELERATED_FEATURES" if spec.capability >= 9 else ""
    return f"""gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {spec.shared_per_core}
  threads_per_core_limit: 2048
  core_count: {spec.cores}
  fpus_per_core: {spec.fpus_per_core}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {spec.bandwidth}
  l2_cache_size: {spec.l2_bytes}
  clock_rate_ghz: {spec.clock_ghz}
  device_memory_size: {spec.memory_bytes}
  shared_memory_per_block_optin: {spec.shared_per_block}
  cuda_compute_capability {{ major: {spec.capability} {accelerated} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
runtime_version {{ major: 12 minor: 8 patch: 0 }}
device_description_str: "{spec.name}"
"""
