"""The C library's allocator, set for programs that call the same large functions repeatedly."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Has glibc keep the memory that this process frees, for what it allocates next.

    By default glibc gives large pieces back to the kernel, which then clears pages anew for the
    buffers of each call of a program. Memory that was in use once stays with the process.

    Returns:
      whether it was done; false without glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    # One arena: others cannot grow without mmap. No mmap, and nothing trimmed from the heap's end.
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))
    return all([libc.mallopt(parameter, value) == 1 for parameter, value in settings])
