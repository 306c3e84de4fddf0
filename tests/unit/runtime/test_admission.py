"""Admission by policy version, and the roster of senders that learner and relay share."""

from __future__ import annotations

import pytest

from asyncade_proto.limits import MAX_SENDERS
from asyncade_proto.messages import Upstream
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


def test_what_is_of_another_run_or_of_another_sender_does_not_count() -> None:
    foreign = {reason for reason in DROP_REASONS if Dropped(reason, "").foreign}
    refused = {reason for reason in DROP_REASONS if Dropped(reason, "").refused}
    assert refused == {"identity", "crowded", "replay", "sequence", "shut_out"}
    assert foreign - refused == {"model", "shape", "action"}


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
