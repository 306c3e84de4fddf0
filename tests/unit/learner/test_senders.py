"""Who sends to the learner: rates, lag and silence of each, and why messages were dropped."""

from __future__ import annotations

import pytest

from asyncade_learner.senders import Senders


def test_a_clock_that_has_gone_back_gives_no_rate() -> None:
    senders = Senders()
    senders.report(1000.0, ())
    senders.received("a", 100, 0, 400.0)
    (actor,) = senders.report(500.0, ())["actors"]
    assert actor["env_steps_per_second"] is None


def test_rates_are_of_the_time_between_two_reports() -> None:
    senders = Senders()
    senders.received("a", 512, 3, now=100.0)
    first = senders.report(100.0, late=[])
    assert first["actors"][0]["env_steps_per_second"] is None  # since when is not known
    senders.received("a", 512, 2, now=101.0)
    senders.received("b", 256, None, now=101.5)
    a, b = senders.report(102.0, late=["b"])["actors"]
    assert (a["id"], a["env_steps_per_second"], a["policy_lag"]) == ("a", 256.0, 2)
    assert (a["last_seen"], a["late"]) == (101.0, False)
    assert (b["env_steps_per_second"], b["policy_lag"], b["late"]) == (128.0, None, True)


def test_a_rate_that_ends_falls_slowly_to_nothing() -> None:
    senders = Senders()
    senders.report(0.0, late=[])
    senders.received("a", 200, 0, now=1.0)
    rates = [
        senders.report(float(now), late=[])["actors"][0]["env_steps_per_second"]
        for now in range(2, 40, 2)
    ]
    assert rates[:2] == [100.0, 70.0]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.0, abs=0.5)


def test_reasons_of_dropped_messages_are_counted() -> None:
    senders = Senders()
    for reason in ("stale", "shape", "stale"):
        senders.dropped(reason)
    assert senders.report(0.0, late=[])["dropped"] == {"stale": 2, "shape": 1}


def test_those_heard_of_last_are_remembered() -> None:
    senders = Senders()
    for number in range(300):
        senders.received(f"{number:03}", 1, 0, now=float(number))
    senders.received("044", 1, 0, now=300.0)
    ids = [actor["id"] for actor in senders.report(301.0, late=[])["actors"]]
    assert len(ids) == 256
    assert (ids[0], ids[-1]) == ("044", "299")
