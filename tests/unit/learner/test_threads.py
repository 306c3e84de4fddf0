"""How many torch threads the learner uses, with simulated times of minibatches."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from asyncade_learner.threads import PAUSE_S, WINDOW, WORTH, ThreadCount

SAMPLES = 128
QUIET: Mapping[int, float] = {1: 0.0093, 2: 0.0080}  # seconds per minibatch, by threads
BESIDE: Mapping[int, float] = {1: 0.0120, 2: 0.4}
MANY: Mapping[int, float] = {1: 0.08, 2: 0.045, 4: 0.025, 8: 0.02}


class Run:
    """Minibatches, one after the other."""

    def __init__(self, most: int) -> None:
        self.threads = ThreadCount(most)
        self.counts: list[int] = []
        self.seconds = 0.0

    def minibatch(self, seconds: float, samples: int = SAMPLES) -> None:
        self.counts.append(self.threads.count)
        self.seconds += seconds
        self.threads.note(seconds, samples)

    def train(self, seconds: float, times: Mapping[int, float]) -> None:
        """Makes minibatches for this long; as of now `counts` and `seconds` are of this call."""
        self.counts, self.seconds = [], 0.0
        while self.seconds < seconds:
            self.minibatch(times[self.threads.count])

    def lost(self, best: float) -> float:
        """Returns the share of the time over that of minibatches that take `best` seconds."""
        return 1 - len(self.counts) * best / self.seconds


def settled(most: int = 2, times: Mapping[int, float] = QUIET) -> Run:
    run = Run(most)
    run.train(3 * PAUSE_S, times)
    return run


def test_a_quiet_machine_keeps_its_threads() -> None:
    run = settled()
    assert run.threads.settled == 2
    assert run.lost(QUIET[2]) < 0.003


def test_times_that_scatter_change_nothing() -> None:
    run = settled()
    for number in range(10_000):
        run.minibatch(QUIET[run.threads.count] * (0.8 + 0.1 * (number * 7 % 5)))
        assert run.threads.settled == 2


def test_one_late_minibatch_changes_nothing() -> None:
    run = settled()
    run.minibatch(5 * QUIET[2])
    run.train(1.0, QUIET)
    assert run.threads.settled == 2


@pytest.mark.parametrize("factor", [3.0, 10.0, 100.0])
def test_a_neighbour_costs_a_few_minibatches(factor: float) -> None:
    run = settled()
    run.train(1.0, {1: BESIDE[1], 2: factor * QUIET[2]})
    assert run.threads.settled == 1
    assert run.counts.count(2) <= WINDOW


def test_a_neighbour_that_was_there_first_costs_a_few_minibatches() -> None:
    run = Run(2)
    run.train(10.0, BESIDE)
    assert run.threads.settled == 1
    assert run.counts.count(2) <= WINDOW


def test_a_neighbour_that_comes_now_and_then_is_found_too() -> None:
    """One in four minibatches is late: the median is as quick as ever, the mean is not."""
    run = settled()
    for number in range(int(2 * PAUSE_S / 0.01)):
        late = run.threads.count == 2 and number % 4 == 0
        run.minibatch(3 * QUIET[2] if late else QUIET[run.threads.count])
    assert run.threads.settled == 1


def test_while_the_neighbour_stays_trials_cost_a_sixtieth() -> None:
    run = settled()
    run.train(1.0, BESIDE)
    run.train(600.0, BESIDE)
    assert run.counts.count(2) > 3
    assert run.lost(BESIDE[1]) <= 1 / WORTH


def test_a_neighbour_that_comes_and_goes_costs_little_more() -> None:
    run = settled()
    quick = spent = 0.0
    for _ in range(100):
        for times in (BESIDE, QUIET):
            run.train(5.0, times)
            quick += len(run.counts) * times[1]
            spent += run.seconds
    assert quick > 0.97 * spent


def test_after_the_neighbour_the_threads_return() -> None:
    run = settled()
    run.train(60.0, BESIDE)
    run.train(WORTH * BESIDE[2], QUIET)
    assert run.threads.settled == 2
    run.train(60.0, QUIET)
    assert run.lost(QUIET[2]) < 0.003


def test_a_machine_that_became_slower_as_a_whole_keeps_its_threads() -> None:
    run = settled()
    slower = {count: 3 * seconds for count, seconds in QUIET.items()}
    run.train(120.0, slower)
    run.train(300.0, slower)
    assert run.threads.settled == 2
    assert run.lost(slower[2]) < 0.003


def test_many_threads_fall_and_return_by_halves() -> None:
    run = settled(8, MANY)
    assert run.threads.settled == 8
    run.train(20.0, {**MANY, 8: 1.0, 4: 0.5})
    assert run.threads.settled == 2
    assert set(run.counts) >= {8, 4, 2}
    run.train(200.0, MANY)
    assert run.threads.settled == 8


def test_an_odd_number_is_reached_again() -> None:
    times = {1: 0.02, 3: 0.01}
    run = settled(3, times)
    run.train(5.0, {**times, 3: 1.0})
    assert run.threads.settled == 1
    run.train(200.0, {2: 0.014, **times})
    assert run.threads.settled == 3


def test_the_first_minibatches_are_not_judged() -> None:
    run = Run(2)
    run.minibatch(2.0)
    run.minibatch(0.5)
    run.train(30.0, QUIET)
    assert (run.threads.settled, run.lost(QUIET[2]) < 0.003) == (2, True)


def test_smaller_minibatches_are_not_compared_with_larger_ones() -> None:
    """They cost more per sample, and the last batch of a late actor is made of them."""
    run = settled()
    for batch in range(2000):
        samples = 8 if batch % 3 == 0 else SAMPLES
        for _ in range(16):
            share = 1.0 if samples == SAMPLES else 0.4
            run.minibatch(share * QUIET[run.threads.count], samples)
            assert run.threads.settled == 2


def test_one_thread_stays_one() -> None:
    run = Run(1)
    run.train(30.0, {1: 0.01})
    run.train(30.0, {1: 1.0})
    assert set(run.counts) == {1}
