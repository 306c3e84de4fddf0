"""Output that never raises: a closed pipe, a full disk or an ASCII terminal ends no process."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast


class BestEffort:
    r"""A text stream that drops what cannot be written. A later write is tried again.

    Characters that the stream's encoding lacks are written as ``\xe9`` or ``\u4e2d``.

    Args:
        stream: written to; other attributes are the stream's own.

    Attributes:
        lost: true once something was dropped.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost = False

    def write(self, text: str) -> int:
        """Writes the text, or drops it; returns its length."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError as error:
            self.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
        except (OSError, ValueError):  # ValueError: the stream is closed
            self.lost = True
        return len(text)

    def flush(self) -> None:
        """Flushes the stream if that is possible."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self.lost = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def print_result(text: str) -> bool:
    """Prints the result of a command; returns False if it was lost."""
    print(text, flush=True)
    return not getattr(sys.stdout, "lost", False)


@contextlib.contextmanager
def best_effort_output() -> Iterator[None]:
    """Makes standard output and standard error best effort within a ``with`` block.

    A closed standard stream, which Python gives as None, becomes /dev/null. At the end of the
    block, a stream that lost something is redirected there: Python flushes once more at its exit,
    where a failure prints a traceback and changes the exit code.
    """
    originals = sys.stdout, sys.stderr
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        streams = [BestEffort(stream or nowhere) for stream in originals]
        sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in streams)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = originals
            for stream in streams:
                stream.flush()
                if stream.lost:
                    with contextlib.suppress(OSError, ValueError):  # it has no descriptor
                        os.dup2(nowhere.fileno(), stream.fileno())
