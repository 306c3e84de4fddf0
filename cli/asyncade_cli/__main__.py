"""The entry of ``asyncade``: Ctrl-C ends any command, also while its imports take seconds."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Final

EXIT_INTERRUPTED: Final = 128 + signal.SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    try:
        from asyncade_cli.commands import run  # here: Ctrl-C must find a handler

        return run(argv)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
