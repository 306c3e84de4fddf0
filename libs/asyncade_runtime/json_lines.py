"""A file of JSON objects, one per line, that may be larger than memory."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

_BLOCK: Final = 2**16
"""Bytes read at once from the end of a file."""


def append_whole(path: Path, data: bytes) -> None:
    """Appends all of `data` or nothing, so that a partial write cannot damage the next one.

    Raises:
        OSError: the write failed; the file is unchanged.
    """
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            file.truncate(before)
            raise


class JsonLines:
    """Rows in a file. Iterating reads them as a stream, each time from the start.

    A killed process may leave half a line anywhere in the file: lines that are not JSON objects
    are skipped. A missing file has no rows.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            file = self._path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return
        with file:
            for line in file:
                if (row := _row(line)) is not None:
                    yield row

    def append(self, row: Mapping[str, Any]) -> None:
        """Appends a row, on a line of its own also after half a line.

        Raises:
            OSError: the write failed; the file is unchanged.
        """
        line = (json.dumps(dict(row)) + "\n").encode()
        append_whole(self._path, line if self._ends_with_a_line() else b"\n" + line)

    def _ends_with_a_line(self) -> bool:
        try:
            file = self._path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return True
        with file:
            if file.seek(0, os.SEEK_END) == 0:
                return True
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def after(self, offset: int) -> tuple[list[dict[str, Any]], int]:
        """Returns the rows after an offset, and the offset of the rows that are yet to come.

        For reading a file that grows. One that has become shorter is read from its start, and the
        returned offset is then below the given one; if it has grown beyond the offset again since
        it was read last, a row may be missed.

        Args:
            offset: bytes; 0 at first, then as returned.
        """
        try:
            file = self._path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return [], 0
        with file:
            start = offset if offset <= file.seek(0, os.SEEK_END) else 0
            file.seek(start)
            whole, newline, _ = file.read().rpartition(b"\n")  # a line may be half written
        rows = [row for line in whole.splitlines() if (row := _row(line)) is not None]
        return rows, start + len(whole) + len(newline)

    def last(self) -> dict[str, Any] | None:
        """Returns the newest row, or None, reading only the end of the file."""
        try:
            file = self._path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return None
        with file:
            rows = (_row(line) for _, line in _lines_from_end(file))
            return next((row for row in rows if row is not None), None)

    def changed_at(self) -> float | None:
        """Returns when the file was last written, in Unix seconds; None if it is missing."""
        try:
            return self._path.stat().st_mtime
        except OSError:
            return None

    def truncate_after(self, kept: Callable[[Mapping[str, Any]], bool]) -> None:
        """Cuts the file after the last row that is to be kept, reading only what is cut.

        Raises:
            OSError: the file cannot be written.
        """
        try:
            file = self._path.open("rb+")
        except (FileNotFoundError, NotADirectoryError):
            return
        with file:
            size = file.seek(0, os.SEEK_END)
            end = 0
            for start, line in _lines_from_end(file):
                row = _row(line)
                if row is not None and line.endswith(b"\n") and kept(row):
                    end = start + len(line)
                    break
            if end < size:
                file.truncate(end)


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # invalid JSON, or a character cut in half
        return None
    return row if isinstance(row, dict) else None


def _lines_from_end(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yields offset and content of each line, the last line first."""
    position = file.seek(0, os.SEEK_END)
    tail = b""  # the file from `position` to the line that was yielded last
    while position > 0:
        start = max(0, position - _BLOCK)
        file.seek(start)
        tail = file.read(position - start) + tail
        position = start
        first, *lines = tail.splitlines(keepends=True)
        end = position + len(tail)
        for line in reversed(lines):
            end -= len(line)
            yield end, line
        tail = first
    if tail:
        yield 0, tail
