"""A discrete-event loop: processes that run one at a time, on a virtual clock.

A process is a function on a stack of its own (greenlet), so code that blocks, as the services'
does, runs unchanged: `sleep` and `wait` let the others run until their time has come. Events at the
same time happen in the order in which they were scheduled, so a simulation repeats exactly.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

from greenlet import GreenletExit, getcurrent, greenlet


class Process:
    """A function that runs on the simulation's clock.

    Attributes:
        name: for messages.
        slowness: its work takes this many times as long.
        alive: False once the function has returned, or was killed.
    """

    def __init__(self, simulation: Simulation, name: str, work: Callable[[], None]) -> None:
        self.name = name
        self.slowness = 1.0
        self.alive = True
        self.paused_until = 0.0
        self.turn = 0  # what it waits for: wake-ups of earlier waits are void
        self._work = work
        self.stack = greenlet(self._run, parent=simulation.loop)

    def _run(self) -> None:
        try:
            self._work()
        except GreenletExit:
            pass  # killed
        finally:
            self.alive = False


class Simulation:
    """The clock and the events to come.

    Attributes:
        now: virtual time in seconds.
        loop: the stack that runs the events.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.loop = getcurrent()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._scheduled = 0
        self._current: Process | None = None
        self._stopped = False

    def clock(self) -> float:
        """Returns the virtual time in seconds."""
        return self.now

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Schedules an action, which must not block."""
        self._scheduled += 1
        heapq.heappush(self._events, (max(time, self.now), self._scheduled, action))

    def start(self, name: str, work: Callable[[], None], at: float = 0.0) -> Process:
        """Starts a process at a time."""
        process = Process(self, name, work)
        self.at(at, lambda: self._resume(process, 0))
        return process

    def sleep(self, seconds: float) -> None:
        """Lets time pass for the process that calls this, as if it worked for so long."""
        process = self._calling()
        if seconds > 0:
            self._block(process, self.now + seconds * process.slowness)

    def wait(self, waiting: list[Process], timeout_s: float) -> None:
        """Blocks the calling process until it is woken or the time is over.

        Args:
            waiting: holds the process meanwhile; see `wake`.
            timeout_s: longest time, in seconds.
        """
        process = self._calling()
        waiting.append(process)
        self._block(process, self.now + timeout_s)
        if process in waiting:
            waiting.remove(process)

    def wake(self, waiting: list[Process]) -> None:
        """Lets the waiting processes go on now."""
        for process in waiting:
            turn = process.turn
            self.at(self.now, lambda process=process, turn=turn: self._resume(process, turn))  # type: ignore[misc]
        waiting.clear()

    def pause(self, process: Process, until: float = math.inf) -> None:
        """Stops a process, as SIGSTOP does, until a time."""
        process.paused_until = until

    def kill(self, process: Process) -> None:
        """Ends a process at once, as SIGKILL does. Not for the process that calls this."""
        process.turn += 1
        if process.alive:
            process.alive = False
            process.stack.throw()

    def stop(self) -> None:
        """Ends `run` after the present event."""
        self._stopped = True

    def run(self) -> None:
        """Runs events in order of time, until `stop` or until none is left; then ends processes."""
        while self._events and not self._stopped:
            self.now, _, action = heapq.heappop(self._events)
            action()

    def _calling(self) -> Process:
        assert self._current is not None, "only a process can let time pass"
        return self._current

    def _block(self, process: Process, until: float) -> None:
        process.turn += 1
        turn = process.turn
        self.at(until, lambda: self._resume(process, turn))
        self.loop.switch()

    def _resume(self, process: Process, turn: int) -> None:
        if not process.alive or turn != process.turn:
            return
        if process.paused_until > self.now:
            if process.paused_until < math.inf:
                self.at(process.paused_until, lambda: self._resume(process, turn))
            return
        before, self._current = self._current, process
        try:
            process.stack.switch()
        finally:
            self._current = before
