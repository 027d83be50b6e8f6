"""Ends while its second save is being written: DIRECTORY."""

import sys

from checkpoint_trees import filled

from jaxrecipes.checkpoint import CheckpointManager

manager = CheckpointManager(sys.argv[1])
for step in (1, 2):
    manager.save(step, filled(step))
