"""Values that process 0 decides for all processes of a run, which must all call these together."""

import jax
import numpy as np
from jax.experimental import multihost_utils


def agreed(value: int) -> int:
    """Process 0's value."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.asarray(value, np.int32)))


def agreed_text(text: str) -> str:
    """Process 0's text, of at most 512 bytes in UTF-8."""
    if jax.process_count() == 1:
        return text
    encoded = text.encode()
    letters = np.zeros(512, np.uint8)
    letters[: len(encoded)] = list(encoded)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(letters))).rstrip(b"\0").decode()
