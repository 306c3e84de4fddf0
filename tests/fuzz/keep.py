"""Chooses the inputs worth committing: the smallest ones that together reach all that any reaches.

libFuzzer's own merge starts the program again, which a Python module is not; and its counters keep
an input for each number of times that a line is reached.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

from fuzz.targets import CORPUS, Target

Jump: TypeAlias = tuple[str, int, int]
"""File, line before and line after."""


def keep(name: str, target: Target, found: Iterable[Path]) -> None:
    """Adds to the committed corpus what reaches more than it and the seeds do.

    Args:
        name: of the target.
        target: runs the inputs.
        found: files of a search.
    """
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    reached: set[Jump] = set()
    for known in (*target.seeds(), *(path.read_bytes() for path in folder.iterdir())):
        reached |= _jumps(target, known)
    for path in sorted(found, key=lambda path: path.stat().st_size):
        data = path.read_bytes()
        more = _jumps(target, data) - reached
        if more:
            reached |= more
            (folder / hashlib.sha1(data).hexdigest()[:12]).write_bytes(data)


def _jumps(target: Target, data: bytes) -> set[Jump]:
    """Runs an input; returns the jumps it makes in the code of this project."""
    jumps: set[Jump] = set()
    lines: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if "asyncade_" not in frame.f_code.co_filename:
            return None
        jumps.add((frame.f_code.co_filename, lines.get(frame, 0), frame.f_lineno))
        lines[frame] = frame.f_lineno
        return trace

    sys.settrace(trace)
    try:
        target.run(data)
    finally:
        sys.settrace(None)
    return jumps
