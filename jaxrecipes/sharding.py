"""One code path for one device or many: a mesh, and where each array lies on it.

The step is written for one device. `jit` with these shardings makes it data-parallel (params
replicated) or FSDP (params, moments and averages split over the `fsdp` axis too); the batch is
always split over every device, so batch normalisation sees the global batch. With several processes
each one runs the same program on its own devices.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

_BATCH_AXES = ("data", "fsdp")
_AUTO = (AxisType.Auto,) * 2


def initialize_distributed(
    coordinator_address: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """Joins the other processes of the run; call it before anything touches a device.

    Args:
      coordinator_address: `host:port` of process 0. None: nothing is done.
      num_processes: the number of processes.
      process_id: the index of this one.

    Raises:
      ValueError: the address comes without a valid count and index.
    """
    if coordinator_address is None:
        if num_processes not in (None, 1):
            raise ValueError(
                f"parallel.num_processes is {num_processes}, but parallel.coordinator_address is "
                "not set; give it as HOST:PORT of process 0"
            )
        return
    if num_processes is None or process_id is None or not 0 <= process_id < num_processes:
        raise ValueError(
            "parallel.coordinator_address needs parallel.num_processes and parallel.process_id, "
            f"0 <= process_id < num_processes; got {num_processes} and {process_id}"
        )
    jax.distributed.initialize(coordinator_address, num_processes, process_id)


def make_mesh(fsdp_devices: int = 1, *, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """All devices of all processes as a (`data`, `fsdp`) mesh.

    Args:
      fsdp_devices: over how many devices the state is split; 1 replicates it.
      devices: use these instead of all.

    Raises:
      ValueError: `fsdp_devices` does not divide the number of devices.
    """
    grid = np.asarray(jax.devices() if devices is None else devices)
    return Mesh(grid.reshape(_mesh_shape(fsdp_devices, grid.size)), _BATCH_AXES, axis_types=_AUTO)


def abstract_mesh(fsdp_devices: int, num_devices: int) -> AbstractMesh:
    """`make_mesh` of devices that need not be there, to see where arrays would lie.

    Raises:
      ValueError: `fsdp_devices` does not divide the number of devices.
    """
    return AbstractMesh(_mesh_shape(fsdp_devices, num_devices), _BATCH_AXES, axis_types=_AUTO)


def _mesh_shape(fsdp_devices: int, num_devices: int) -> tuple[int, int]:
    if fsdp_devices < 1 or num_devices % fsdp_devices:
        raise ValueError(
            f"parallel.fsdp_devices is {fsdp_devices}, which does not divide the {num_devices} "
            f"devices; choose one of {_divisors(num_devices)}"
        )
    return num_devices // fsdp_devices, fsdp_devices


def on_cpu(mesh: Mesh) -> bool:
    """Whether the devices of a mesh are CPUs; a mesh may be of devices that are not there."""
    return mesh.devices.flat[0].platform == "cpu"


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, *, axis: int = 0) -> NamedSharding:
    """Arrays split over all devices along `axis`."""
    return NamedSharding(mesh, PartitionSpec(*([None] * axis), _BATCH_AXES))


def check_batch_divides(batch_size: int, mesh: Mesh | AbstractMesh) -> None:
    """Raises a ValueError when a global batch cannot be split evenly over the devices."""
    if batch_size % mesh.size:
        lower = batch_size // mesh.size * mesh.size
        raise ValueError(
            f"the global batch size {batch_size} does not divide over {mesh.size} devices; "
            f"choose {f'{lower} or ' if lower else ''}{lower + mesh.size}"
        )


def state_shardings(abstract_state: Any, mesh: Mesh | AbstractMesh, *, min_size: int = 4096) -> Any:
    """The sharding of each leaf of the state: FSDP over the `fsdp` axis, replicated over `data`.

    A leaf of at least `min_size` elements is split along its largest dimension that the axis
    divides; smaller ones, and those that no dimension fits, are replicated (splitting them costs
    more in messages than it saves).

    Args:
      abstract_state: the state's arrays or `ShapeDtypeStruct`s.
      mesh: the devices.
      min_size: smallest number of elements of an array that is split.
    """
    fsdp = mesh.shape["fsdp"]

    def leaf_sharding(leaf) -> NamedSharding:
        dims = [d for d, n in enumerate(leaf.shape) if n % fsdp == 0]
        if fsdp == 1 or not dims or math.prod(leaf.shape) < min_size:
            return replicated(mesh)
        largest = max(dims, key=lambda d: leaf.shape[d])
        return NamedSharding(mesh, PartitionSpec(*([None] * largest), "fsdp"))

    return jax.tree.map(leaf_sharding, abstract_state)


def put_global(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """A host array of which every process has a full copy, laid out by `sharding` over the devices
    of all processes.
    """
    if jax.process_count() == 1:
        return jax.device_put(array, sharding)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def bytes_per_device(tree: Any) -> dict[str, int]:
    """How many bytes of `tree` lie on each of this process's devices."""
    totals: dict[str, int] = {str(device): 0 for device in jax.local_devices()}
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            totals[str(shard.device)] += shard.data.nbytes
    return totals
