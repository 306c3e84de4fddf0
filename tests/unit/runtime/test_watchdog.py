"""A stuck main loop ends the process; a slow or a paused one does not."""

from __future__ import annotations

import threading
from contextlib import closing

from structlog.testing import CapturingLogger

from asyncade_runtime.lifecycle import Health
from asyncade_runtime.watchdog import CHECKS, Watchdog
from builders import Clock

DEADLINE_S = 60.0  # only a failing test waits this long


def test_a_loop_without_ticks_is_ended_and_the_log_says_where() -> None:
    ended, log = threading.Event(), CapturingLogger()
    with closing(Watchdog(Health(stall_seconds=0.08), log, ended.set)):
        assert ended.wait(DEADLINE_S)
    (said,) = log.calls
    assert said.method_name == "critical"
    assert __file__ in said.kwargs["where"] or "threading" in said.kwargs["where"]
    assert said.kwargs["setting"] == "--stall-seconds"


def test_only_looks_count_not_the_time_between_them() -> None:
    """A process that was stopped for an hour has not looked in that hour."""
    clock = Clock()
    health = Health(stall_seconds=1e6, clock=clock)
    with closing(Watchdog(health, CapturingLogger(), lambda: None)) as watchdog:
        clock.now += 3600
        assert not watchdog.look()
        looks = [watchdog.look() for _ in range(CHECKS - 1)]
        assert looks == [False] * (CHECKS - 2) + [True]


def test_a_tick_begins_the_count_anew() -> None:
    clock = Clock()
    health = Health(stall_seconds=1e6, clock=clock)
    with closing(Watchdog(health, CapturingLogger(), lambda: None)) as watchdog:
        for _ in range(3 * CHECKS):
            clock.now += 1
            health.tick()
            assert not any(watchdog.look() for _ in range(CHECKS - 1))
