"""Nothing grows while nothing changes. `python -m bench.soak` measures slopes over half an hour."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.local_run import LocalRun
from bench.soak import begin, sampled

pytestmark = pytest.mark.processes

ROOM_MIB = 64
"""A process that keeps each message, or each version of the weights, grows by more."""


@pytest.mark.parametrize(
    "seconds", [15.0, pytest.param(180.0, marks=pytest.mark.faults_long)], ids=["short", "long"]
)
def test_memory_descriptors_and_threads_stay(tmp_path: Path, seconds: float) -> None:
    with LocalRun(tmp_path, relay=True) as run:
        begin(run)
        for name, samples in sampled(run, seconds).items():
            (_, first), (_, last) = samples[0], samples[-1]
            assert last.rss - first.rss < ROOM_MIB, name
            # A page that is being read, or a file that is being written, is open for a moment.
            for counted in ("descriptors", "threads"):
                lowest = [
                    min(getattr(vitals, counted) for _, vitals in half)
                    for half in (samples[: len(samples) // 2], samples[len(samples) // 2 :])
                ]
                assert lowest[0] == lowest[1], (name, counted)
