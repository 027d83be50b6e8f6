"""Tunes the C library's allocator for programs that call the same large functions repeatedly."""

import ctypes
import platform

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
