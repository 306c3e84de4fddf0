"""Tuning of the C library's allocator for torch and NumPy."""

from __future__ import annotations

import ctypes
from typing import Any, Final

# malloc.h of glibc; mallopt(3)
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_UNLIMITED: Final = 2**31 - 1  # an int


def keep_freed_memory(library: Any = None) -> bool:
    """Makes the allocator reuse freed large blocks instead of returning them to the kernel.

    By default blocks above 32 MB, and often smaller ones, come fresh from the kernel each time:
    every batch then starts with tens of thousands of page faults, a tenth of the learner's time.

    Args:
        library: the C library; for tests.

    Returns:
        True if the allocator was configured; only glibc supports it.
    """
    mallopt = getattr(ctypes.CDLL(None) if library is None else library, "mallopt", None)
    if mallopt is None:
        return False
    thresholds = (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)
    return all(mallopt(threshold, _UNLIMITED) == 1 for threshold in thresholds)
