"""How many torch threads pay: decided from the time that minibatches take, without I/O.

torch divides each operation among its threads, and at its end all wait for the last. On a core with
a busy neighbour a thread is away for milliseconds at a time, in any of the hundred operations of a
minibatch: two threads then take ten to a hundred times as long, one a third longer.
"""

from __future__ import annotations

from collections import deque
from statistics import fmean, median
from typing import Final

WINDOW: Final = 8
"""Minibatches that the present count is judged by."""

TRIAL: Final = 4
"""Minibatches that another count is judged by, after one that is not counted."""

WAITING: Final = 2.0
"""Half the threads take at most twice as long, so whoever takes longer is better off with half."""

MARGIN: Final = 0.9
"""Fewer threads must be faster by a tenth: on a quiet machine, chance must not decide."""

PAUSE_S: Final = 10.0
"""Shortest time between two trials in the same direction."""

WORTH: Final = 60.0
"""More threads are tried again after this many times what they lost: at most 1/60 is lost."""

_UNCOUNTED: Final = 2  # minibatches after a change, in which torch prepares for shape and threads
_SAME_SIZE: Final = 0.25


class ThreadCount:
    """The number of threads for the next minibatch.

    Falls to half at once when minibatches lose time to waiting. Apart from that it tries twice and
    half the threads for a few minibatches now and then, and keeps what is faster.

    Args:
        most: the number to start with, never exceeded; at least one.

    Attributes:
        count: for the next minibatch.
        settled: the present choice; differs from `count` during a trial.
    """

    def __init__(self, most: int) -> None:
        self.count = self.settled = self._most = most
        self._samples = 0  # per minibatch, about
        self._spent = self._try_more_at = self._try_fewer_at = 0.0
        self._trial: list[float] | None = None
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._best = float("inf")
        self._uncounted = _UNCOUNTED

    def note(self, seconds: float, samples: int) -> None:
        """Takes in that a minibatch of `samples` samples took `seconds` with `count` threads."""
        self._spent += seconds
        if abs(samples - self._samples) > _SAME_SIZE * self._samples:
            self._samples = samples  # small minibatches cost more per sample: not to be compared
            self._settle(self.settled)
        if self._uncounted > 0:
            self._uncounted -= 1
        elif self._trial is None:
            self._watch(seconds / samples)
        else:
            self._try(seconds / samples, self._trial)

    def _watch(self, each: float) -> None:
        """Judges the present count by one more minibatch; `each` is in seconds per sample."""
        recent = self._recent
        recent.append(each)
        if len(recent) == WINDOW:
            self._best = min(self._best, median(recent))
        lost = sum(recent) - len(recent) * self._best
        if self.settled > 1 and lost > (WAITING - 1) * WINDOW * self._best:
            self._try_more_at = self._spent + WORTH * lost * self._samples
            self._try_fewer_at = self._spent
            self._settle(self.settled // 2)
        elif len(recent) >= TRIAL:
            more, fewer = self.settled < self._most, self.settled > 1
            if more and self._spent >= self._try_more_at:
                self._trial, self.count = [], min(2 * self.settled, self._most)
            elif fewer and self._spent >= self._try_fewer_at:
                self._trial, self.count = [], self.settled // 2

    def _try(self, each: float, trial: list[float]) -> None:
        """Judges the count on trial by one more minibatch; ends the trial if that is enough."""
        trial.append(each)
        present, more = fmean(self._recent), self.count > self.settled
        failed = each > WAITING * present
        if not failed and len(trial) <= TRIAL:
            return
        better = present if more else MARGIN * present
        won = not failed and fmean(trial[1:]) < better
        if won:  # go on in this direction at once, in the other one later
            again, back = self._spent, self._spent + PAUSE_S
            self._try_more_at, self._try_fewer_at = (again, back) if more else (back, again)
            self._settle(self.count, trial[1:])
            return
        lost = self._samples * (sum(trial) - len(trial) * present)
        again = self._spent + max(PAUSE_S, WORTH * lost)
        if more:
            self._try_more_at = again
        else:
            self._try_fewer_at = again
        self._trial, self.count = None, self.settled

    def _settle(self, count: int, known: list[float] | None = None) -> None:
        """Makes `count` the present count; `known` are its seconds per sample so far."""
        self.count = self.settled = count
        self._trial = None
        self._recent = deque(known or [], WINDOW)
        self._best = median(known) if known else float("inf")
        self._uncounted = 0 if known else _UNCOUNTED
