"""Who is behind a relay, and what has come in of whom."""

from __future__ import annotations

import pytest

from asyncade_proto.limits import MAX_SENDERS
from asyncade_relay.roster import ACTIVE_WINDOW_S, Roster


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([("a", 0), ("a", 1), ("a", 2)], [0, 0, 0]),
        ([("a", 0), ("a", 4), ("a", 5)], [0, 3, 0]),
        ([("a", 7)], [0]),  # a relay that has just started cannot know what went before
        ([("a", 0), ("b", 5), ("a", 2), ("b", 6)], [0, 0, 1, 0]),
        ([("a", 9), ("a", 0), ("a", 1)], [0, 0, 0]),  # started anew under its old name
        ([("a", 3), ("a", 3)], [0, 0]),
    ],
)
def test_gaps_in_the_sequence_are_counted(
    messages: list[tuple[str, int]], expected: list[int]
) -> None:
    roster = Roster()
    assert [roster.heard(actor, number, 0.0) for actor, number in messages] == expected


def test_received_counts_lost_ones_too() -> None:
    roster = Roster()
    for actor, sequence in [("a", 0), ("b", 4), ("a", 3)]:
        roster.heard(actor, sequence, 0.0)
    assert roster.received() == {"a": 4, "b": 5}
    roster.heard("a", 0, 0.0)
    assert roster.received() == {"a": 1, "b": 5}


def test_who_is_silent_for_long_is_gone() -> None:
    roster = Roster()
    roster.heard("a", 0, 100.0)
    roster.heard("b", 0, 110.0)
    roster.forget_silent(100.0 + ACTIVE_WINDOW_S - 0.1)
    assert len(roster) == 2
    roster.forget_silent(100.0 + ACTIVE_WINDOW_S)
    assert len(roster) == 1
    assert roster.received() == {"b": 1}
    assert roster.heard("a", 7, 140.0) == 0  # what was lost meanwhile is not known


def test_who_is_given_up_is_not_named_until_heard_of_again() -> None:
    roster = Roster()
    for actor in "abc":
        roster.heard(actor, 0, 0.0)
    roster.keep({"a", "c", "never heard of"})
    assert (len(roster), roster.received()) == (2, {"a": 1, "c": 1})
    roster.heard("b", 1, 0.0)
    assert (len(roster), roster.received()) == (3, {"a": 1, "c": 1, "b": 2})


def test_everything_on_its_way_can_be_taken_for_lost() -> None:
    roster = Roster()
    roster.heard("a", 0, 0.0)
    roster.forget_received()
    assert (len(roster), roster.received()) == (1, {})
    assert roster.heard("a", 2, 0.0) == 1


def test_no_more_are_named_than_the_wire_allows() -> None:
    roster = Roster()
    for number in range(MAX_SENDERS + 5):
        roster.heard(str(number), 0, float(number))
    named = roster.received()
    assert len(named) == MAX_SENDERS
    assert "4" not in named  # heard of longest ago
    assert "5" in named
