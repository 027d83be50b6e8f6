"""Keeps the host program's logging configuration untouched."""

import contextlib
import logging
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def left_alone() -> Iterator[None]:
    """Undoes what absl does to the root logger inside the block.

    absl's logging, which Orbax and Grain use as soon as they are imported, calls
    `logging.basicConfig()` if the root logger has no handler. The host's own `basicConfig` would
    then do nothing.
    """
    before = list(logging.root.handlers)
    try:
        yield
    finally:
        if not before:
            for handler in list(logging.root.handlers):
                if _is_of_basic_config(handler):
                    logging.root.removeHandler(handler)


def _is_of_basic_config(handler: logging.Handler) -> bool:
    """Whether a handler is the one that `logging.basicConfig()` makes without arguments."""
    return (
        type(handler) is logging.StreamHandler
        and handler.stream is sys.stderr
        and handler.formatter is not None
        and handler.formatter._fmt == logging.BASIC_FORMAT
    )
