"""When a batch is complete, and what is asked of late actors."""

from __future__ import annotations

import math
from unittest.mock import Mock

import pytest

import builders
from asyncade_learner.rounds import Rounds
from asyncade_proto.limits import MAX_UNROLL_LENGTHS
from asyncade_runtime.admission import Roster

T, PATIENCE_S = 64, 5.0
WANTED = 1000  # samples


class Game:
    """Rounds with their roster, and a clock."""

    def __init__(self, actors: str = "abc", quorum: float = 0.5) -> None:
        self.roster, self.log = Roster(), Mock()
        self.rounds = Rounds(self.roster, quorum, PATIENCE_S, self.log)
        self.rounds.lengths_below(T)
        self.now = 100.0
        self._sequence = 0
        self.arrive(*actors)
        self.next_batch()

    def arrive(self, *actors: str, steps: int = T, in_flight: int = 1) -> None:
        """A message from each, of an unroll of `steps`."""
        for actor in actors:
            self.roster.heard(actor, self._sequence, self.now)
            self.roster.contributed(actor)
            message = builders.trajectory(actor_id=actor, steps=steps)
            self.rounds.arrived(message, in_flight, self.now)
        self._sequence += 1

    def next_batch(self) -> None:
        self.roster.next_batch()
        self.rounds.published(self.now)

    def round(self, *on_time: str, late: str = "", late_by: float = 0.0, steps: int = T) -> None:
        """A round of one second; the late actor's message comes after the batch is complete."""
        self.now += 1.0
        self.arrive(*on_time)
        self.now += late_by
        self.arrive(*late, steps=steps)
        self.next_batch()

    def complete(self, gathered: int = 1, wanted: int | None = WANTED) -> bool:
        return self.rounds.complete(gathered, wanted, self.now)


# --- complete ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gathered", "wanted", "complete"),
    [(WANTED - 1, WANTED, False), (WANTED, WANTED, True), (10 * WANTED, None, False)],
)
def test_a_batch_is_complete_with_its_samples(
    gathered: int, wanted: int | None, complete: bool
) -> None:
    game = Game()
    game.arrive("a")
    assert game.complete(gathered, wanted) == complete


@pytest.mark.parametrize("wanted", [WANTED, None])
def test_a_batch_is_complete_when_every_actor_has_a_part(wanted: int | None) -> None:
    game = Game()
    game.arrive("a", "b")
    assert not game.complete(wanted=wanted)
    game.arrive("c")
    assert game.complete(wanted=wanted)


def test_an_empty_batch_is_never_complete() -> None:
    game = Game("")
    assert not game.complete(0)
    assert not game.complete(0, 0)
    assert game.complete(1)  # nobody else is known


def test_a_batch_does_not_wait_for_an_actor_that_was_late_before() -> None:
    game = Game()
    game.round("a", "b", late="c", late_by=1.5)  # 2.5 s; the others' 1 s allow 2.05 s
    game.now += 1.0
    game.arrive("a", "b")
    assert game.complete()


def test_an_actor_in_time_again_is_waited_for() -> None:
    game = Game()
    game.round("a", "b", late="c", late_by=1.5)
    game.round("a", "b", "c")
    game.now += 1.0
    game.arrive("a", "b")
    assert not game.complete()


def test_a_batch_waits_for_a_slow_actor_until_it_is_late() -> None:
    game = Game()
    game.round("a", "b", "c")
    game.now += 1.0
    game.arrive("a", "b")
    assert game.rounds.seconds_left(game.now) == pytest.approx(1.051)
    game.now += 1.04
    assert not game.complete()
    game.now += 0.02
    assert game.complete()


def test_the_seconds_left_are_those_of_actors_that_are_awaited() -> None:
    game = Game()
    assert game.rounds.seconds_left(game.now) == math.inf  # no times are known
    game.round("a", "b", late="c", late_by=1.5)
    game.now += 1.0
    game.arrive("a")
    assert game.rounds.seconds_left(game.now) == pytest.approx(1.051)  # b; c is late already
    game.arrive("b")
    assert game.rounds.seconds_left(game.now) == math.inf


def test_a_quorum_of_times_must_be_known() -> None:
    game = Game("abcd", quorum=0.75)
    game.now += 1.0
    game.arrive("a", "b")
    game.now += 100.0
    assert not game.complete()
    assert game.rounds.late(game.now) == set()
    game.arrive("c")
    assert game.rounds.late(game.now) == {"c", "d"}
    assert game.complete()


# --- lost messages -------------------------------------------------------------------------------


def test_the_silent_are_forgiven_what_they_have_in_flight() -> None:
    game = Game("ab")
    game.now += PATIENCE_S
    game.arrive("a")
    game.next_batch()
    assert game.roster.credit().keys() == {"a", "b"}
    game.now += 0.1
    game.next_batch()
    assert game.roster.credit().keys() == {"a"}  # who is not named has full credit
    assert len(game.roster) == 2  # slow is not dead


# --- unroll lengths ------------------------------------------------------------------------------


@pytest.mark.parametrize(("late_by", "length"), [(1.5, 24), (2.0, 16), (99.0, 16)])
def test_a_late_actor_is_asked_for_the_steps_of_the_median_time(
    late_by: float, length: int
) -> None:
    """In multiples of eight; never fewer than 16."""
    game = Game()
    game.round("a", "b", late="c", late_by=late_by)
    assert game.rounds.lengths_below(T) == {"c": length}


def test_an_actor_that_keeps_pace_again_is_asked_for_more() -> None:
    game = Game()
    game.round("a", "b", late="c", late_by=7.0)
    assert game.rounds.lengths_below(T) == {"c": 16}
    game.round("a", "b", late="c", steps=16)  # a second: all of its steps would take four
    assert game.rounds.lengths_below(T) == {"c": 16}
    assert game.rounds.late(game.now) == {"c"}
    game.round("a", "b", late="c", steps=48)
    assert game.rounds.lengths_below(T) == {}
    assert game.rounds.late(game.now) == set()


def test_an_actor_that_stands_still_has_no_share_of_the_play() -> None:
    game = Game()
    game.round("a", "b", "c")
    for _ in range(8):
        game.round("a", "b")
    assert game.rounds.playing(game.now) == 3  # 8 s; the patience is 2.05 s
    game.round("a", "b")
    assert game.rounds.playing(game.now) == 2
    game.arrive("c")
    assert game.rounds.playing(game.now) == 3


def test_no_length_is_asked_that_is_as_long_as_everyones() -> None:
    game = Game()
    game.round("a", "b", late="c", late_by=3.1)
    assert game.rounds.lengths_below(T // 4) == {}


def test_no_more_lengths_are_asked_than_the_wire_takes() -> None:
    game = Game()
    game.rounds.unroll_lengths = {f"actor-{n}": 8 for n in range(MAX_UNROLL_LENGTHS + 1)}
    assert len(game.rounds.lengths_below(T)) == MAX_UNROLL_LENGTHS == 256


def test_lengths_of_actors_that_left_are_forgotten() -> None:
    game = Game()
    game.round("a", "b", late="c", late_by=3.1)
    game.arrive("a", "b")
    game.roster.forget_absent()
    game.rounds.late(game.now)
    assert game.rounds.lengths_below(T) == {}


def test_gradients_have_no_length() -> None:
    game = Game()
    game.now += 1.0
    game.arrive("a", "b")
    game.now += 5.0
    game.rounds.arrived(builders.gradients(actor_id="c"), 1, game.now)
    assert game.rounds.late(game.now) == {"c"}
    assert game.rounds.lengths_below(T) == {}


# --- the log -------------------------------------------------------------------------------------


def test_a_late_actor_is_named_once_until_it_is_late_again() -> None:
    game = Game()
    for late_by in (1.5, 1.5, 0.0, 1.5):
        game.round("a", "b", late="c", late_by=late_by)
        assert game.rounds.late(game.now) == ({"c"} if late_by else set())
    named = [call.kwargs for call in game.log.warning.call_args_list]
    assert named == [{"actor_id": "c"}] * 2
