"""How long each sender takes, and which of them are too late to wait for."""

from __future__ import annotations

import math

import pytest

from asyncade_runtime.pace import Pace

SENDERS = ("a", "b", "c", "d")


def timed(*times: float, quorum: float = 0.5) -> Pace:
    """Returns the pace of senders that needed these seconds, the last from 100.0 on."""
    pace = Pace(quorum)
    for sender, seconds in zip(SENDERS, times, strict=False):
        pace.may_send([sender], 100.0 - seconds)
        pace.arrived(sender, 100.0, may_send_more=False)
    return pace


@pytest.mark.parametrize(
    ("times", "patience"),
    [
        ((3.0,), math.inf),  # one of four is not a quorum
        ((3.0, 1.0), 2 * 1.0 + 0.05),  # of two the lower
        ((3.0, 1.0, 9.0), 2 * 3.0 + 0.05),
        ((3.0, 1.0, 9.0, 2.0), 2 * 2.0 + 0.05),
        ((0.0, 0.0, 0.0), 0.05),
    ],
)
def test_patience_is_twice_the_median_once_a_quorum_is_known(
    times: tuple[float, ...], patience: float
) -> None:
    assert timed(*times).patience(SENDERS) == pytest.approx(patience)


@pytest.mark.parametrize(("quorum", "known"), [(0.25, True), (0.26, False), (1.0, False)])
def test_a_quorum_is_a_share_of_the_active_senders(quorum: float, known: bool) -> None:
    assert math.isfinite(timed(1.0, quorum=quorum).patience(SENDERS)) == known
    assert math.isfinite(timed(1.0, quorum=quorum).patience(["a"]))


def test_times_of_senders_that_are_not_active_do_not_count() -> None:
    pace = timed(9.0, 9.0, 9.0, 1.0)
    assert pace.patience(["d"]) == pytest.approx(2.05)
    assert pace.patience([]) == math.inf


def test_a_sender_is_late_by_its_last_time() -> None:
    assert timed(1.0, 1.0, 1.0, 2.06).late(SENDERS, 100.0) == {"d"}
    assert timed(1.0, 1.0, 1.0, 2.04).late(SENDERS, 100.0) == set()


def test_a_sender_is_late_by_the_time_it_has_needed_so_far() -> None:
    pace = timed(1.0, 1.0, 1.0, 1.0)
    pace.may_send(SENDERS, 100.0)
    for sender in "abc":
        pace.arrived(sender, 101.0, may_send_more=False)
    assert pace.late(SENDERS, 102.04) == set()
    assert pace.late(SENDERS, 102.06) == {"d"}


def test_nobody_is_late_before_a_quorum_is_known() -> None:
    pace = Pace(0.5)
    pace.may_send(SENDERS, 0.0)
    assert pace.late(SENDERS, 1e6) == set()
    assert pace.seconds_until_late(SENDERS, SENDERS, 1e6) == math.inf


def test_a_sender_without_credit_is_not_late() -> None:
    assert timed(1.0, 1.0, 1.0, 1.0).late(SENDERS, 1e6) == set()


def test_a_late_sender_recovers() -> None:
    pace = timed(1.0, 1.0, 1.0, 9.0)
    pace.may_send(SENDERS, 100.0)
    for sender in SENDERS:
        pace.arrived(sender, 101.0, may_send_more=False)
    assert pace.late(SENDERS, 101.0) == set()


def test_more_credit_does_not_restart_what_a_sender_does() -> None:
    pace = timed(1.0, 1.0, 1.0, 1.0)
    pace.may_send(["d"], 100.0)
    pace.may_send(["d"], 102.0)
    assert pace.late(SENDERS, 102.06) == {"d"}


@pytest.mark.parametrize("may_send_more", [True, False])
def test_with_credit_left_the_next_message_is_begun_at_once(may_send_more: bool) -> None:
    pace = timed(1.0, 1.0, 1.0)
    pace.may_send(["d"], 100.0)
    pace.arrived("d", 101.0, may_send_more=may_send_more)
    pace.may_send(["d"], 105.0)
    pace.arrived("d", 106.0, may_send_more=may_send_more)
    assert pace.late(SENDERS, 106.0) == ({"d"} if may_send_more else set())


def test_the_seconds_until_the_first_awaited_sender_is_late() -> None:
    pace = timed(1.0, 1.0, 1.0, 1.0)
    pace.may_send(["a"], 100.0)
    pace.may_send(["b"], 100.5)
    assert pace.seconds_until_late({"a", "b"}, SENDERS, 101.0) == pytest.approx(1.051)
    assert pace.seconds_until_late({"b"}, SENDERS, 101.0) == pytest.approx(1.551)
    assert pace.seconds_until_late({"c"}, SENDERS, 101.0) == pytest.approx(2.051)  # without credit
    assert pace.seconds_until_late(set(), SENDERS, 101.0) == math.inf


@pytest.mark.parametrize("begun", [0.1, 0.7, 1000.1, 123456.7])
def test_after_the_seconds_left_an_awaited_sender_is_late(begun: float) -> None:
    """Else who waits for that would wait for no time, again and again."""
    pace = timed(0.3, 0.3, 0.3)
    pace.may_send(["d"], begun)
    for tenths in range(7):
        now = begun + tenths / 10
        left = pace.seconds_until_late({"d"}, SENDERS, now)
        assert pace.late(SENDERS, now + left) == {"d"}


def test_the_steps_that_a_late_sender_makes_in_the_median_time() -> None:
    pace = timed(1.0, 1.0, 1.0, 4.0)
    assert pace.steps_in_time("d", 64, SENDERS) == 16
    assert pace.steps_in_time("d", 2, SENDERS) == 1
    assert pace.steps_in_time("a", 64, SENDERS) == 64
    assert pace.steps_in_time("unknown", 64, SENDERS) == 64


@pytest.mark.parametrize(("seconds", "late"), [(1.0, True), (0.5, False)])
def test_the_time_of_a_part_counts_as_that_of_the_whole(seconds: float, late: bool) -> None:
    """Else a late sender that is asked for less would be waited for, and late again."""
    pace = timed(1.0, 1.0, 1.0)
    pace.may_send(["d"], 100.0)
    pace.arrived("d", 100.0 + seconds, may_send_more=False, share=0.25)
    assert pace.late(SENDERS, 101.0) == ({"d"} if late else set())


def test_a_sender_that_needs_four_times_the_patience_is_gone_until_it_is_heard_of() -> None:
    pace = timed(1.0, 1.0, 1.0, 1.0)
    pace.may_send(["d"], 100.0)
    assert pace.gone(SENDERS, 108.1) == set()
    assert pace.gone(SENDERS, 108.3) == {"d"}
    pace.arrived("d", 108.3, may_send_more=False)
    assert pace.gone(SENDERS, 108.3) == set()


def test_senders_that_left_are_forgotten() -> None:
    pace = timed(1.0, 1.0, 1.0, 9.0)
    pace.may_send(SENDERS, 100.0)
    pace.forget(["a", "b", "c"])
    assert pace.late(SENDERS, 103.0) == {"a", "b", "c"}
    pace.may_send(SENDERS, 200.0)
    assert "d" not in pace.late(SENDERS, 200.0)
