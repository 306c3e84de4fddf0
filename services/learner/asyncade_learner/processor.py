"""Minibatches on the processor: as many torch threads as pay, and the CPU time they receive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch

from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.threads import ThreadCount
from asyncade_runtime.cores import throttled_seconds

ENOUGH: Final = 0.8
"""Share of its CPU below which the learner is short of it. Threads that wait for each other spin:
in quiet they receive all of it, two beside one busy process half to two thirds."""

_LOG_EVERY_S: Final = 60.0
_THROTTLED: Final = 0.05  # of the time; a quota that is never reached throttles for 0

_QUOTA: Final = ("the CPU quota is used up", "raise the limit, or run fewer actors within it")
_NEIGHBOURS: Final = ("other processes use its cores", "end them, or give the learner its own")


class Processor:
    """Times minibatches, follows the CPU they receive, and reports it.

    Args:
        metrics: `cpu_share` and `torch_threads` are set.
        log: structured logger.
        threads: torch threads that the learner is to have, and torch has now.
        follow: use fewer while they wait for CPU. The count changes the order of floating-point
            sums, hence the results of a seed.
        clock: monotonic time in seconds.
        cpu_clock: CPU time of all threads of this process, in seconds.
        throttled: see `throttled_seconds`.
    """

    def __init__(
        self,
        metrics: LearnerMetrics,
        log: Any,
        *,
        threads: int,
        follow: bool,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.process_time,
        throttled: Callable[[], float] = throttled_seconds,
    ) -> None:
        self._metrics, self._log = metrics, log
        self._threads = threads
        self._count = ThreadCount(threads if follow else 1)
        self._follow = follow
        self._clock, self._cpu_clock, self._throttled = clock, cpu_clock, throttled
        self._wall = self._received = 0.0
        self._short, self._logged = False, float("-inf")
        self._since, self._throttled_before = clock(), throttled()
        metrics.torch_threads.set(threads)

    @contextmanager
    def minibatch(self, samples: int) -> Iterator[None]:
        """Times one minibatch, and sets the number of threads for the next."""
        start, cpu_start = self._clock(), self._cpu_clock()
        yield
        seconds, received = self._clock() - start, self._cpu_clock() - cpu_start
        before = self._count.count
        if before == self._count.settled:  # what a trial receives says nothing about the machine
            self._wall += seconds
            self._received += received
        self._count.note(seconds, samples)
        if self._count.count != before:
            torch.set_num_threads(self._count.count)

    def report(self) -> None:
        """Sets the metrics, and logs when the learner begins or ceases to be short of CPU."""
        if not self._wall:
            return
        share = min(1.0, self._received / (self._wall * self._threads))
        self._metrics.cpu_share.set(share)
        now, throttled = self._clock(), self._throttled()
        by_quota = throttled - self._throttled_before > _THROTTLED * (now - self._since)
        self._since, self._throttled_before = now, throttled
        self._wall = self._received = 0.0
        if self._follow:
            self._metrics.torch_threads.set(self._count.settled)
        short = share < ENOUGH
        if short == self._short or now - self._logged < _LOG_EVERY_S:
            return
        self._short, self._logged = short, now
        if not short:
            self._log.info("the learner gets its CPU again", share=round(share, 2))
            return
        cause, cure = _QUOTA if by_quota else _NEIGHBOURS
        self._log.warning(
            "the learner gets less CPU than it has threads",
            share=round(share, 2),
            threads=self._threads,
            cause=cause,
            cure=cure,
        )
