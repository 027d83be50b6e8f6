"""Leaving a run cleanly on Ctrl-C or SIGTERM."""

import signal
import threading
from types import FrameType

import jax
import numpy as np
from jax.experimental import multihost_utils


class Interrupt:
    """A context that records SIGINT and SIGTERM, so that the loop can save and stop at the next
    safe point.

    A second Ctrl-C raises KeyboardInterrupt at once. Outside the main thread, signals are left
    alone.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number

    def requested(self) -> bool:
        """Whether this process got a signal."""
        return self._received is not None

    def requested_anywhere(self) -> bool:
        """Whether any process got one; every process must ask at the same step, and gets the same
        answer.
        """
        if jax.process_count() == 1:
            return self.requested()
        return bool(multihost_utils.process_allgather(np.bool_(self.requested())).any())
