"""Ends a process whose main loop is stuck, so that whoever started it starts another."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, Final

from asyncade_runtime.lifecycle import Health

CHECKS: Final = 8
"""Looks at the main loop within `Health.stall_seconds`."""


class Watchdog:
    """Watches the ticks of a main loop from a thread of its own.

    Counts its own looks instead of reading a clock: a process that was stopped (SIGSTOP, a
    suspended machine) has not looked meanwhile, and goes on.

    Cannot end code that never lets go of Python's global lock; `/healthz` does not answer then.

    Args:
        health: of the main loop.
        log: says where the loop is stuck.
        end: ends the process; its main thread cannot.
    """

    def __init__(self, health: Health, log: Any, end: Callable[[], object]) -> None:
        self._health = health
        self._log = log
        self._end = end
        self._seen = health.last_tick
        self._unchanged = 0
        self._main = threading.main_thread().ident
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops watching. A second call does nothing."""
        self._closed.set()
        self._thread.join()

    def look(self) -> bool:
        """Returns whether the loop has not ticked for the last `CHECKS` looks."""
        tick = self._health.last_tick
        self._unchanged = self._unchanged + 1 if tick == self._seen else 0
        self._seen = tick
        return self._unchanged >= CHECKS

    def _watch(self) -> None:
        while not self._closed.wait(self._health.stall_seconds / CHECKS):
            if self.look():
                self._log.critical(
                    "stuck: ending, to be started again",
                    seconds=round(self._health.seconds_since_tick()),
                    setting="--stall-seconds",
                    where=self._where(),
                )
                self._end()
                return

    def _where(self) -> str:
        """Returns the innermost calls of the main thread, outermost first."""
        frame = sys._current_frames().get(self._main or 0)
        calls = traceback.extract_stack(frame)[-6:] if frame else []
        return ", ".join(f"{one.filename}:{one.lineno} {one.name}" for one in calls)
