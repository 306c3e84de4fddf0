"""Admission by policy version, and the roster of senders that learner and relay share."""

from __future__ import annotations

import pytest

from asyncade_proto.limits import MAX_SENDERS
from asyncade_proto.messages import Upstream
from asyncade_runtime import admission
from asyncade_runtime.admission import (
    ACTIVE_WINDOW_S,
    DROP_REASONS,
    Accepted,
    Dropped,
    Roster,
    check_policy,
)
from builders import gradients, trajectory

NOW = 10  # the present policy version


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (trajectory(policy_version=NOW), 0),
        (gradients(policy_version=NOW - 2), 2),
        (trajectory(policy_version=NOW - 3), "stale"),
        (gradients(policy_version=NOW + 1), "future"),
        (trajectory(model="other", policy_version=NOW), "model"),
        (gradients(model="other", policy_version=0), "model"),
    ],
)
def test_network_and_version_decide_admission(message: Upstream, expected: int | str) -> None:
    outcome = check_policy(message, model=gradients().model, policy_version=NOW, max_policy_lag=2)
    match outcome:
        case Accepted(policy_lag=lag):
            assert lag == expected
        case Dropped(reason=reason):
            assert reason == expected


def test_foreign_reasons_are_those_of_another_run() -> None:
    foreign = {reason for reason in DROP_REASONS if Dropped(reason, "").foreign}
    assert foreign == {"model", "shape", "action"}


# --- lost messages -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([("a", 0), ("a", 1), ("a", 2)], [0, 0, 0]),
        ([("a", 0), ("a", 4), ("a", 5)], [0, 3, 0]),
        ([("a", 7)], [0]),  # earlier messages are unknown
        ([("a", 0), ("b", 5), ("a", 2), ("b", 6)], [0, 0, 1, 0]),  # each sender has its own count
        ([("a", 9), ("a", 0), ("a", 1)], [0, 0, 0]),  # restarted under its old name
        ([("a", 9), ("a", 0), ("a", 2)], [0, 0, 1]),  # and then lost one
        ([("a", 3), ("a", 3)], [0, 0]),
    ],
)
def test_gaps_in_a_senders_sequence_are_lost_messages(
    messages: list[tuple[str, int]], expected: list[int]
) -> None:
    roster = Roster()
    assert [roster.count_lost(actor, number) for actor, number in messages] == expected


def test_sequences_are_remembered_beyond_activity_within_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "_SEQUENCES_REMEMBERED", 2)
    roster = Roster()
    roster.count_lost("a", 0)
    roster.heard("a", 0, 0.0)
    roster.forget_silent(ACTIVE_WINDOW_S)
    assert roster.count_lost("a", 2) == 1
    roster.count_lost("b", 0)
    assert roster.count_lost("a", 4) == 1
    roster.count_lost("c", 0)  # b is the longest silent
    assert roster.count_lost("a", 6) == 1
    assert roster.count_lost("b", 6) == 0


@pytest.mark.parametrize(
    ("sequences", "shared"),
    [
        ([0, 1, 2, 3, 4], False),
        ([7, 0, 1, 0, 1, 0, 1, 2, 0, 1], False),  # a sender in a crash loop
        ([7, 2, 3, 4, 5, 6, 7, 8], False),  # a sender whose first two messages were lost
        ([0, 0, 1, 1, 2, 2, 3, 3], True),
        ([500, 0, 501, 1, 502, 2, 503, 3], True),
    ],
)
def test_two_senders_with_one_id_are_noticed_once(sequences: list[int], shared: bool) -> None:
    roster = Roster()
    found, lost = [], []
    for sequence in [*sequences, *[number + sequences[-1] for number in (1, 2)]]:
        lost.append(roster.count_lost("a", sequence))
        found.append(roster.take_shared())
    assert found.count("a") == shared
    assert not shared or set(lost[-3:]) == {0}


# --- activity and credit -------------------------------------------------------------------------


def roster_of(*actors: str) -> Roster:
    """Returns a roster with one message of each, a second apart."""
    roster = Roster()
    for number, actor in enumerate(actors):
        roster.heard(actor, 0, float(number))
    return roster


def test_credit_counts_lost_messages_too() -> None:
    roster = Roster()
    for actor, sequence in [("a", 0), ("b", 4), ("a", 3)]:
        roster.heard(actor, sequence, 0.0)
    assert roster.credit() == {"a": 4, "b": 5}
    roster.heard("a", 0, 0.0)
    assert roster.credit() == {"a": 1, "b": 5}


def test_credit_is_owed_until_it_is_taken() -> None:
    roster = Roster()
    assert not roster.owes_credit
    roster.heard("a", 0, 0.0)
    assert roster.owes_credit
    roster.credit()
    assert not roster.owes_credit


def test_silent_senders_are_no_longer_active() -> None:
    roster = roster_of("a", "b")
    roster.forget_silent(ACTIVE_WINDOW_S - 0.1)
    assert len(roster) == 2
    roster.forget_silent(ACTIVE_WINDOW_S)
    assert (len(roster), roster.credit()) == (1, {"b": 1})


def test_senders_absent_from_a_batch_are_inactive_until_heard_again() -> None:
    roster = roster_of("a", "b", "c")
    for actor in ("a", "c", "never heard of"):
        roster.contributed(actor)
    roster.forget_absent()
    assert (len(roster), roster.credit()) == (2, {"a": 1, "c": 1})
    roster.heard("b", 1, 0.0)
    assert (len(roster), roster.credit()) == (3, {"a": 1, "c": 1, "b": 2})
    roster.next_batch()
    roster.contributed("b")
    roster.forget_absent()
    assert (len(roster), roster.credit()) == (1, {"b": 2})


def test_everything_in_flight_can_be_treated_as_lost() -> None:
    roster = roster_of("a", "b")
    roster.forget_received()
    assert (len(roster), roster.credit()) == (2, {})
    roster.heard("a", 2, 0.0)
    assert roster.credit() == {"a": 3}


def test_the_newest_senders_are_named_if_there_are_too_many() -> None:
    roster = roster_of(*map(str, range(MAX_SENDERS + 5)))
    roster.heard("0", 1, 1e6)
    named = roster.credit()
    assert len(named) == MAX_SENDERS
    assert next(iter(named)) == "0"
    assert "5" not in named  # the longest silent
    assert "6" in named


def test_who_is_not_believed_is_not_waited_for_and_has_full_credit() -> None:
    roster = Roster()
    for sender in "ab":
        roster.heard(sender, 0, 0.0)
    roster.credit()
    roster.not_believed("a")
    roster.not_believed("stranger")
    assert list(roster.active) == ["b"]
    assert roster.absent == {"b"}
    assert not roster.owes_credit
    assert roster.credit() == {"b": 1}
    roster.heard("a", 2, 1.0)
    assert set(roster.active) == {"a", "b"}
