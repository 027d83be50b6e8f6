"""Checkpoints: asynchronous, atomic, verified to the last bit, on any number of devices.

Orbax alone can restore them as well, see docs/checkpoints.md.

with CheckpointManager(directory, keep_latest=2, keep_best=1) as checkpoints:
    restored = checkpoints.restore(state)  # None in a new directory
    ...
    checkpoints.save(step, state, metadata={"config": ...}, score=f1)
"""

from jaxrecipes.checkpoint.leaves import (
    CheckpointCorrupt,
    CheckpointMismatch,
    CheckpointWriteError,
)
from jaxrecipes.checkpoint.manager import CheckpointManager, Restored

__all__ = [
    "CheckpointCorrupt",
    "CheckpointManager",
    "CheckpointMismatch",
    "CheckpointWriteError",
    "Restored",
]
