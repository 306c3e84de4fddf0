"""Who is shut out for what it sends, and who is not."""

from __future__ import annotations

from typing import get_args

import pytest

from asyncade_proto.errors import DECODE_REASONS
from asyncade_runtime.admission import DROP_REASONS
from asyncade_runtime.conduct import OFFENCES, SHUT_OUT_S, Conduct, Verdict
from asyncade_runtime.transport.roles import Peer

BAD, GOOD = Peer("10.0.0.1"), Peer("10.0.0.2")
MANY = 100


def drops(
    conduct: Conduct,
    reason: str,
    count: int = MANY,
    *,
    peer: Peer = BAD,
    actor_id: str | None = "a",
    every_s: float = 0.0,
    active: int = 64,
) -> list[Verdict | None]:
    """Returns the verdicts on messages that are dropped one after the other."""
    return [
        conduct.dropped(peer, actor_id, reason, number * every_s, active) for number in range(count)
    ]


@pytest.mark.parametrize("reason", ["shape", "action", "replay", "sequence", "malformed"])
def test_an_id_that_goes_on_offending_is_shut_out_and_no_other(reason: str) -> None:
    conduct = Conduct()
    verdicts = drops(conduct, reason, 17)
    assert (verdicts[:16], verdicts[16]) == ([None] * 16, "actor")
    assert conduct.shut_out_actor(BAD, "a")
    assert not conduct.shut_out_actor(BAD, "b")
    assert not conduct.shut_out_actor(GOOD, "a")
    assert not conduct.shut_out(BAD)
    assert conduct.count() == (1, 0)


def test_frames_without_an_id_are_their_peers_own() -> None:
    conduct = Conduct()
    assert "peer" in drops(conduct, "not_ours", actor_id=None)
    assert conduct.shut_out(BAD)
    assert not conduct.shut_out(GOOD)


@pytest.mark.parametrize(("active", "peer"), [(5, True), (6, False)])
def test_several_bad_ids_shut_out_a_peer_that_has_few_others(active: int, peer: bool) -> None:
    """Behind a relay or one address, a few bad actors must not cost the others."""
    conduct = Conduct()
    for actor_id in "abc":
        drops(conduct, "action", 17, actor_id=actor_id, active=active)
    assert conduct.shut_out(BAD) == peer


@pytest.mark.parametrize("reason", ["model", "stale", "future", "unasked", "not_finite"])
def test_mistakes_of_honest_actors_are_forgiven_without_limit(reason: str) -> None:
    conduct = Conduct()
    assert set(drops(conduct, reason, 10_000)) == {None}


@pytest.mark.parametrize("reason", ["identity", "crowded", "protocol_version"])
def test_a_wrong_setup_is_forgiven_unless_it_is_a_flood(reason: str) -> None:
    assert set(drops(Conduct(), reason, 10_000, every_s=0.01)) == {None}
    conduct = Conduct()
    verdicts = drops(conduct, reason, 10_000, every_s=0.001)
    assert "peer" in verdicts
    assert verdicts.index("peer") < 1200


def test_an_offence_now_and_then_is_forgiven() -> None:
    """A learner that is restarted with a shorter unroll drops one message of every actor."""
    assert set(drops(Conduct(), "shape", every_s=61.0)) == {None}


def test_a_shut_out_ends() -> None:
    conduct = Conduct()
    drops(conduct, "not_ours", 17, actor_id=None)
    drops(conduct, "action", 17)
    conduct.forgive(SHUT_OUT_S - 1)
    assert conduct.count() == (1, 1)
    conduct.forgive(SHUT_OUT_S)
    assert conduct.count() == (0, 0)
    assert not conduct.shut_out(BAD)
    assert not conduct.shut_out_actor(BAD, "a")
    assert conduct.dropped(BAD, None, "not_ours", SHUT_OUT_S, 1) is None  # the count begins anew


def test_every_offence_is_a_reason_that_exists() -> None:
    assert {*DECODE_REASONS, *DROP_REASONS} > OFFENCES
    assert get_args(Verdict) == ("actor", "peer")
