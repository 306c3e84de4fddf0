"""One account per actor id, bound to a peer; replays, lost messages and crowds."""

from __future__ import annotations

import pytest

from asyncade_proto.limits import MAX_COUNT
from asyncade_runtime import identity
from asyncade_runtime.admission import ACTIVE_WINDOW_S, Dropped
from asyncade_runtime.identity import Identities
from asyncade_runtime.transport.roles import Peer

HERE, THERE = Peer("10.0.0.1", "k" * 40), Peer("10.0.0.2", "k" * 40)
LAST = MAX_COUNT - 1


class Arrivals:
    """Messages of actor ids at a time that the test sets; each with the newest weights."""

    def __init__(self, actors_per_peer: int = 64) -> None:
        self.identities = Identities(actors_per_peer)
        self.now = 0.0
        self.version = 0

    def __call__(
        self, sequence: int, version: int | None = None, actor: str = "a", peer: Peer = HERE
    ) -> int | str:
        """Returns the number of missing messages, or the reason for a refusal."""
        if version is None:
            self.version += 1
            version = self.version
        found = self.identities.arrived(actor, sequence, version, peer, self.now)
        return found.reason if isinstance(found, Dropped) else found


# --- whose id it is ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other", [THERE, Peer(HERE.address, "z" * 40)], ids=["address", "key of the same address"]
)
def test_an_id_belongs_to_the_peer_that_used_it_first(other: Peer) -> None:
    arrived = Arrivals()
    assert arrived(0) == 0
    assert arrived(LAST, peer=other) == "identity"
    assert arrived(1, peer=other) == "identity"
    assert arrived(1) == 0  # as if nothing had happened


def test_an_id_is_free_once_its_owner_has_been_silent() -> None:
    arrived = Arrivals()
    arrived(7)
    arrived.now = ACTIVE_WINDOW_S - 0.1
    assert arrived(0, peer=THERE) == "identity"
    arrived.now = ACTIVE_WINDOW_S
    assert arrived(0, peer=THERE) == 0
    assert arrived(8) == "identity"  # it has another owner now


def test_a_refused_claim_does_not_keep_an_id_from_becoming_free() -> None:
    arrived = Arrivals()
    arrived(0)
    for arrived.now in range(1, int(ACTIVE_WINDOW_S)):
        assert arrived(0, peer=THERE) == "identity"
    arrived.now = ACTIVE_WINDOW_S
    assert arrived(0, peer=THERE) == 0


def test_one_peer_has_a_bounded_number_of_ids() -> None:
    arrived = Arrivals(actors_per_peer=3)
    names = [f"fake-{number}" for number in range(100)]
    assert [arrived(0, actor=name) for name in names] == [0] * 3 + ["crowded"] * 97
    assert arrived(0, actor="honest", peer=THERE) == 0  # a peer of its own
    assert arrived(1, actor="fake-2") == 0  # those in use stay
    assert arrived.identities.active(HERE, arrived.now) == 3
    arrived.now = ACTIVE_WINDOW_S
    assert arrived(0, actor="another") == 0  # the silent ones make room


def test_ids_of_a_crowd_do_not_evict_the_memory_of_honest_senders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(identity, "_REMEMBERED", 8)
    arrived = Arrivals(actors_per_peer=4)
    arrived(0, actor="honest", peer=THERE)
    for number in range(1000):
        arrived(0, actor=f"fake-{number}")
    assert arrived(3, actor="honest", peer=THERE) == 2


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
        ([("a", 9), ("a", 3), ("a", 4)], [0, 0, 0]),  # restarted, and the first three were lost
    ],
)
def test_gaps_in_a_senders_sequence_are_lost_messages(
    messages: list[tuple[str, int]], expected: list[int]
) -> None:
    arrived = Arrivals()
    assert [arrived(number, actor=actor) for actor, number in messages] == expected


def test_accounts_are_remembered_beyond_activity_within_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(identity, "_REMEMBERED", 2)
    arrived = Arrivals()
    arrived(0)
    arrived.now = 10 * ACTIVE_WINDOW_S
    assert arrived(2) == 1
    arrived(0, actor="b")
    assert arrived(4) == 1
    arrived(0, actor="c")  # b is the longest silent
    assert arrived(6) == 1
    assert arrived(6, actor="b") == 0


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
    arrived = Arrivals()
    found, lost = [], []
    for sequence in [*sequences, *[number + sequences[-1] for number in (1, 2)]]:
        lost.append(arrived(sequence))
        found.append(arrived.identities.take_shared())
    assert found.count("a") == shared
    assert not shared or set(lost[-3:]) == {0}


def test_a_number_far_ahead_of_the_last_spoils_nothing() -> None:
    arrived = Arrivals()
    arrived(5)
    assert arrived(LAST) == "sequence"
    assert arrived(6) == 0
    arrived.now = ACTIVE_WINDOW_S  # after so long it may be true; it does not count as lost
    assert arrived(LAST) == 0
    assert arrived(0) == 0  # a restart


# --- replays -------------------------------------------------------------------------------------


def test_a_message_sent_twice_counts_once() -> None:
    arrived = Arrivals()
    sent = [(0, 1), (1, 1), (2, 3), (3, 4)]
    assert [arrived(*one) for one in sent] == [0] * 4
    for _ in range(3):
        assert [arrived(*one) for one in sent] == ["replay"] * 4


def test_a_restart_is_no_replay_and_what_was_sent_before_it_is() -> None:
    arrived = Arrivals()
    for one in [(0, 1), (1, 2), (2, 3)]:
        arrived(*one)
    assert arrived(0, 3) == 0  # with the weights that the one before it had, too
    assert arrived(0, 3) == arrived(0, 1) == "replay"
    assert arrived(1, 4) == 0


def test_a_mean_of_older_gradients_is_no_replay() -> None:
    """A relay's message has the oldest version in it, so versions may fall while numbers rise."""
    arrived = Arrivals()
    assert [arrived(0, 5), arrived(1, 4), arrived(2, 5)] == [0, 0, 0]


def test_another_learners_versions_begin_anew() -> None:
    arrived = Arrivals()
    arrived(0, 1000)
    arrived.identities.new_run()
    assert arrived(0, 10) == 0
