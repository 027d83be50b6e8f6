"""What a run would take on devices that are not there: bytes, operations, bounds on its time."""
