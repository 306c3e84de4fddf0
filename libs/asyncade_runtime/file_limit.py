"""The limit of open files: every connection of a service takes one or two."""

from __future__ import annotations

import contextlib
import resource
from typing import Final

_ENOUGH: Final = 65_536
"""More than any learner needs; the hard limit may be infinite, which macOS refuses."""


def raise_file_limit() -> None:
    """Raises the soft limit of open files to the hard limit, at most to `_ENOUGH`.

    Some shells and service managers set the soft limit to 64, for programs that call select(2).
    ZeroMQ uses epoll(7) or poll(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
