"""What can go wrong with a checkpoint, one class for each thing that a caller may handle apart."""


class CheckpointMismatch(ValueError):
    """The checkpoint is intact but belongs to another tree: other keys, shapes or dtypes."""


class CheckpointCorrupt(RuntimeError):
    """The bytes on disk are not those that were saved."""


class CheckpointWriteError(OSError):
    """A checkpoint could not be written; those saved before are untouched."""
