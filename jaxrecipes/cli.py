"""What the commands share: the flags that choose a trained model, and one-line error messages."""

import argparse
import logging
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax

from jaxrecipes.checkpoint import CheckpointCorrupt
from jaxrecipes.errors import os_error, shortened
from jaxrecipes.paths import user_path
from jaxrecipes.runs.runtime import set_up_compilation_cache, set_up_logging, start_devices
from jaxrecipes.train.nonfinite import TrainingDivergedError

if TYPE_CHECKING:
    from jaxrecipes.runs.trained import Trained

_LONGEST_LINE = 800
USER_ERRORS = (ValueError, OSError, ImportError, CheckpointCorrupt, TrainingDivergedError)
"""Errors that a user can fix. Anything else is a bug in the library and stays a traceback."""


def run(main: Callable[[], None]) -> int:
    """Calls `main`; an error that a user can fix becomes one line on standard error and exit status
    2.
    """
    set_up_logging()
    try:
        main()
    except USER_ERRORS as error:
        logging.getLogger("jaxrecipes").error("error: %s", message(error))
        return 2
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        logging.getLogger("jaxrecipes").error("error: %s", _out_of_memory(error))
        return 2
    except MemoryError as error:
        logging.getLogger("jaxrecipes").error("error: %s", _out_of_memory(error))
        return 2
    except KeyboardInterrupt:
        logging.getLogger("jaxrecipes").error("interrupted")
        return 130
    return 0


def _out_of_memory(error: BaseException) -> str:
    said = shortened(str(error).splitlines()[0], 200) if str(error) else "no more is there"
    return (
        f"not enough memory: {said}. Lower data.batch_size, data.eval_batch_size or the network's "
        "size, split the state with parallel.fsdp_devices, or give --data.placement stream"
    )


def message(error: BaseException) -> str:
    """The message for an error: a file comes first, and overlong lines are cut in the middle."""
    said = os_error(error) if isinstance(error, OSError) else str(error)
    return "\n".join(shortened(line, _LONGEST_LINE) for line in said.splitlines())


def parser(doc: str | None, *, add_help: bool = True) -> argparse.ArgumentParser:
    """An argument parser that shows the command's docstring as its help."""
    return argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=add_help,
    )


def path(text: str) -> pathlib.Path:
    """The type of every flag that names a file or a folder."""
    try:
        return user_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_checkpoint_flags(
    flags: argparse.ArgumentParser, *, weights: bool = True, required: bool = True
) -> None:
    """Adds `--checkpoint` and `--step`, and `--weights` unless the command uses both kinds of
    weights.
    """
    flags.add_argument(
        "--checkpoint", required=required, type=path, help="folder of a run (its --workdir)"
    )
    flags.add_argument(
        "--step", default="best", help="best (default), latest, or the number of a step"
    )
    if weights:
        flags.add_argument(
            "--weights",
            choices=["auto", "raw", "ema"],
            default="auto",
            help="auto (default): averaged weights if the run keeps them, else raw",
        )


def trained_from(arguments: argparse.Namespace) -> "Trained":
    """The trained model that the flags choose.

    Raises:
      ValueError: `--step` is neither best, latest nor a number; or what `open_trained` raises.
    """
    from jaxrecipes.runs.trained import open_trained  # here, because training does not need it

    step = arguments.step
    if step not in ("best", "latest"):
        if not (step.isascii() and step.isdigit() and len(step) < 19):
            raise ValueError(
                f"--step is {shortened(step, 80)!r}; expected best, latest or a number"
            )
        step = int(step)
    start_devices()
    trained = open_trained(arguments.checkpoint, step=step)
    set_up_compilation_cache(trained.config.loop.compilation_cache)
    return trained
