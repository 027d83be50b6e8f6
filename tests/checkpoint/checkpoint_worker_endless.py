"""Saves step after step until it is killed: DIRECTORY."""

import sys

from checkpoint_trees import filled

from jaxrecipes.checkpoint import CheckpointManager

manager = CheckpointManager(sys.argv[1], keep_latest=2)
step = manager.newest_intact() or 0
while True:
    step += 1
    manager.save(step, filled(step), metadata={"step": step})
    print(manager.latest_step or 0, flush=True)
