"""What must hold of every input: it is taken, or refused in one line, soon, and runs no code."""

import contextlib
import dataclasses
import io
import logging
import pathlib
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Literal

from jaxrecipes import cli

SHORTEST = 10
MOST_MEMORY = 1 << 30
Kind = Literal["taken", "refused", "traceback", "unclear", "slow", "code ran", "memory"]
GOOD: tuple[Kind, ...] = ("taken", "refused")


@dataclasses.dataclass(frozen=True)
class Outcome:
    kind: Kind
    said: str
    seconds: float


def outcome(use: Callable[[], None], *, canary: pathlib.Path, limit_s: float) -> Outcome:
    """Runs one case.

    Args:
      use: gives the input to the library.
      canary: does not exist unless the input made the library run code.
      limit_s: seconds of this process that a case may take.
    """
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts at what is in use
    before, started = _memory("VmRSS"), time.process_time()
    kind, said = _run(use)
    seconds = time.process_time() - started
    if canary.exists():
        canary.rmdir()
        return Outcome("code ran", said, seconds)
    if _memory("VmHWM") - before > MOST_MEMORY:
        return Outcome("memory", said, seconds)
    return Outcome("slow" if seconds > limit_s else kind, said, seconds)


def _memory(name: str) -> int:
    """Bytes of this process, by its name in Linux's /proc."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _run(use: Callable[[], None]) -> tuple[Kind, str]:
    try:
        with warnings.catch_warnings(), _silence():
            warnings.simplefilter("ignore")
            use()
        return "taken", ""
    except cli.USER_ERRORS as error:
        said = cli.message(error)
    except MemoryError:
        return "memory", traceback.format_exc()
    except Exception:
        return "traceback", traceback.format_exc()
    first, *listed = said.splitlines()
    # What can be given instead may be listed below the line.
    clear = len(first) >= SHORTEST and len(listed) <= 12
    return ("refused" if clear else "unclear"), said


@contextlib.contextmanager
def _silence():
    logger = logging.getLogger("jaxrecipes")
    before, logger.disabled = logger.disabled, True
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.disabled = before
