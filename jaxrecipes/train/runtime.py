"""Process-wide settings that only scripts make: logging, devices and processes, the compilation
cache.
"""

import logging
import os
import pathlib
import sys

import jax

from jaxrecipes.sharding import initialize_distributed
from jaxrecipes.train.config import RunConfig


def set_up_logging(log_file: pathlib.Path | None = None) -> None:
    """The library's messages as plain lines on standard error, and with time and level in
    `log_file`.
    """
    logger = logging.getLogger("jaxrecipes")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers.clear()
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(console)
    logging.getLogger("absl").setLevel(logging.WARNING)  # orbax tells each step of each save
    if log_file is not None:
        handler = logging.FileHandler(log_file)
        handler.setFormatter(logging.Formatter("%(asctime)s  %(levelname)s  %(message)s"))
        logger.addHandler(handler)


def set_up_jax(config: RunConfig) -> None:
    """Joins other processes and turns the compilation cache on; to be called before anything
    touches a device.
    """
    parallel = config.parallel
    initialize_distributed(
        parallel.coordinator_address, parallel.num_processes, parallel.process_id
    )
    set_up_compilation_cache(config.loop.compilation_cache)


def set_up_compilation_cache(folder: str) -> None:
    """Keeps compiled programs in `folder`; empty: nowhere."""
    if not folder:
        return
    jax.config.update("jax_compilation_cache_dir", os.path.expanduser(folder))
    # Small programs too: a run has two dozen, and each takes longer to compile than to read.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
