"""Runs a command of ``asyncade``; Ctrl-C ends it, also while its imports take seconds."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Final

EXIT_INTERRUPTED: Final = 128 + signal.SIGINT
_RETRY_S: Final = 0.02


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        from asyncade_cli.commands import run  # here: Ctrl-C must find a handler

        return run(argv)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt, after an import: amid one NumPy and torch lose it or break."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            again = (threading.get_ident(), signum)  # this thread may wait for something by then
            retry = threading.Timer(_RETRY_S, signal.pthread_kill, again)
            retry.daemon = True
            retry.start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt
