"""One of two processes: PORT RANK DIRECTORY."""

import errno
import sys

import jax
import jax.numpy as jnp
import numpy as np
from checkpoint_trees import assert_equal, device_tree
from jax.experimental import multihost_utils

from jaxrecipes.checkpoint import CheckpointManager, CheckpointWriteError, folder


def disk_is_full(*_):
    raise OSError(errno.ENOSPC, "full")


port, rank, directory = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", 2, int(rank))
assert (jax.process_count(), jax.device_count()) == (2, 4)
tree = device_tree()
extra = {"host": np.arange(3.0), "local": jnp.ones(3), "large_local": jnp.ones(400_000)}
with CheckpointManager(directory) as manager:
    assert manager.restore(tree) is None
    for step in (1, 2):
        assert manager.save(step, {**tree, **extra}, metadata={"step": step}, score=step)
    assert not manager.save(2, {**tree, **extra})
    restored = manager.restore({**tree, **extra})
    assert (restored.step, restored.metadata) == (2, {"step": 2})
    assert isinstance(restored.tree["host"], np.ndarray)
    assert float(restored.tree["large_local"].sum()) == 400_000
    assert_equal({name: restored.tree[name] for name in tree}, tree)
    assert manager.best_step == 2

    multihost_utils.sync_global_devices("looked")
    if rank == "0":
        (manager.directory / "2" / "manifest.json").unlink()
    multihost_utils.sync_global_devices("damaged")
    restored = manager.restore(tree, partial=True)
    assert restored.step == 1
    assert_equal(restored.tree, tree)
    assert manager.save(2, {**tree, **extra}, metadata={"step": 2})
    manager.wait()

    if rank == "0":
        folder.seal = disk_is_full
    assert manager.save(3, tree)
    try:
        manager.wait()
    except CheckpointWriteError as error:
        print(error)
    try:
        CheckpointManager("/dev/null/checkpoints").save(1, tree)
    except CheckpointWriteError:
        print("refused")
