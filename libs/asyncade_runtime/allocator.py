"""How the C library keeps memory that torch and NumPy give back."""

from __future__ import annotations

import ctypes
from typing import Any, Final

# malloc.h of glibc; mallopt(3)
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_UNLIMITED: Final = 2**31 - 1  # an int


def keep_freed_memory(library: Any = None) -> bool:
    """Lets this process keep large blocks for the next batch instead of giving them back.

    By default every block above 32 MB, and often smaller ones, comes fresh from the kernel and
    returns to it: each batch then begins with tens of thousands of page faults, a tenth of the
    learner's time.

    Args:
        library: the C library; for tests.

    Returns:
        Whether it could be set; only glibc can.
    """
    mallopt = getattr(ctypes.CDLL(None) if library is None else library, "mallopt", None)
    if mallopt is None:
        return False
    thresholds = (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)
    return all(mallopt(threshold, _UNLIMITED) == 1 for threshold in thresholds)
