"""Memory, descriptors and threads of processes over time, and whether they grow."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.cluster.arms import t_95

_BLOCKS: Final = 12
"""Neighbouring samples depend on each other; means of so many stretches of time hardly do."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """One sample of a process.

    Attributes:
        rss: resident memory in MiB.
        descriptors: open files and sockets.
        threads: of the process.
    """

    rss: float
    descriptors: float
    threads: float


NAMES: Final = ("rss", "descriptors", "threads")


def vitals(pid: int) -> Vitals:
    """Reads /proc.

    Raises:
        OSError: there is no such process.
    """
    folder = Path(f"/proc/{pid}")
    status = (folder / "status").read_text()
    found = {name: re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE) for name in _FIELDS}
    rss, threads = (float(one[1]) if one else math.nan for one in found.values())
    return Vitals(rss / 1024, len([*(folder / "fd").iterdir()]), threads)


_FIELDS: Final = ("VmRSS", "Threads")


def slopes(samples: Sequence[tuple[float, Vitals]]) -> Mapping[str, tuple[float, float]]:
    """Returns for each of `NAMES` the growth per hour, and half of its 90% interval.

    A least-squares line through the means of blocks of samples (Student's t).

    Args:
        samples: seconds and what was read then, in order; at least `_BLOCKS`.
    """
    size = len(samples) // _BLOCKS
    blocks = [samples[size * n : size * (n + 1)] for n in range(_BLOCKS)]
    hours = [statistics.fmean(seconds for seconds, _ in block) / 3600 for block in blocks]
    return {
        name: _line(hours, [statistics.fmean(getattr(v, name) for _, v in b) for b in blocks])
        for name in NAMES
    }


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Returns the slope of y over x, and half of its 90% interval."""
    slope, offset = statistics.linear_regression(x, y)
    residuals = [b - slope * a - offset for a, b in zip(x, y, strict=True)]
    freedom = len(x) - 2
    spread = sum((a - statistics.fmean(x)) ** 2 for a in x)
    error = math.sqrt(sum(r * r for r in residuals) / freedom / spread)
    return slope, t_95(freedom) * error
