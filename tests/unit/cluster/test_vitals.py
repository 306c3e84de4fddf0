"""Growth of a process: the slope, and how sure it is."""

from __future__ import annotations

import os
import random

import pytest
from bench.vitals import Vitals, slopes, vitals


def test_growth_is_found_with_its_interval() -> None:
    noise = random.Random(1)
    samples = [
        (float(second), Vitals(100 + second / 360 + noise.gauss(0, 0.5), 7, 3))
        for second in range(1800)
    ]
    found = slopes(samples)
    slope, half = found["rss"]
    assert slope - half < 10 < slope + half  # MiB per hour
    assert half < 0.5
    assert found["descriptors"] == found["threads"] == (0.0, 0.0)


def test_this_process_is_alive() -> None:
    found = vitals(os.getpid())
    assert found.rss > 10
    assert found.descriptors >= 3
    assert found.threads >= 1


def test_a_process_that_has_ended_is_an_error() -> None:
    with pytest.raises(OSError, match="No such file"):
        vitals(2**22 + 1)
