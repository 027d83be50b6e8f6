"""Process-wide settings, which only the commands make: logging, devices and processes, the
compilation cache, the allocator.
"""

import contextlib
import ctypes
import logging
import os
import pathlib
import platform
import sys
from collections.abc import Iterator

import jax

from jaxrecipes.errors import cause, install_command, os_error
from jaxrecipes.paths import user_path
from jaxrecipes.sharding import initialize_distributed
from jaxrecipes.train.config import RunConfig


def set_up_logging() -> None:
    """The library's messages as plain lines on standard error."""
    logger = logging.getLogger("jaxrecipes")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers.clear()
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(console)
    logging.getLogger("absl").setLevel(logging.WARNING)  # orbax logs each step of each save


@contextlib.contextmanager
def logged_to(file: pathlib.Path) -> Iterator[None]:
    """Appends the library's messages in the block to a file, with time and level."""
    logger = logging.getLogger("jaxrecipes")
    handler = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s  %(levelname)s  %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()


def set_up_jax(config: RunConfig) -> None:
    """Joins other processes, turns the compilation cache on and sets the allocator; to be called
    before anything touches a device.

    Raises:
      ValueError: what `start_devices` raises.
    """
    parallel = config.parallel
    initialize_distributed(
        parallel.coordinator_address, parallel.num_processes, parallel.process_id
    )
    set_up_compilation_cache(config.loop.compilation_cache)
    start_devices()
    if config.loop.keep_freed_memory and jax.default_backend() == "cpu":
        keep_freed_memory()


def start_devices() -> None:
    """Starts JAX's devices.

    Raises:
      ValueError: they cannot be used, such as those that JAX_PLATFORMS names without their plugin.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # an assertion where the plugin is missing
        wanted = jax.config.jax_platforms or ""  # type: ignore[attr-defined]
        advice = "set JAX_PLATFORMS=cpu, or leave it out"
        if "cuda" in wanted or "gpu" in wanted:
            plugin = f"{install_command('cuda12')} (or [cuda13]) on a machine with a GPU"
            advice = f"{plugin}, or {advice}"
        said = f". JAX says: {cause(error)}" if str(error) else ""
        raise ValueError(
            f"JAX finds no device of JAX_PLATFORMS={wanted!r}: {advice}{said}"
        ) from error


def set_up_compilation_cache(folder: str) -> None:
    """Keeps compiled programs in `folder`; empty: nowhere.

    If the folder is not writable, which only costs time, a warning says so and it is not used.
    """
    if not folder:
        return
    path = user_path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        writable = os.access(path, os.W_OK | os.X_OK)
        reason = "permission denied"
    except OSError as error:
        writable, reason = False, os_error(error)
    if not writable:
        logging.getLogger("jaxrecipes").warning(
            "programs are compiled anew at each start, since %s cannot be written (%s): give "
            '--loop.compilation_cache FOLDER, or "" for none',
            *(path, reason),
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(path))
    # Small programs, too: a run has two dozen of them, each of which takes longer to compile than
    # to read.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Makes glibc keep freed memory for later allocations.

    By default glibc returns large blocks to the kernel, which must then clear their pages again for
    the buffers of the next call. As a result the process never shrinks.

    Returns:
      Whether it worked; false without glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    # A single arena, because others cannot grow without mmap; no mmap; no trimming of the heap's
    # end.
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))
    return all([libc.mallopt(parameter, value) == 1 for parameter, value in settings])
