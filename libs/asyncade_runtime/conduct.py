"""Which peers have sent too much that no actor sends. No I/O and no clock.

Shared by learner and relay. Two leaky buckets: of offences, and of floods. What an honest actor
sends by mistake (with old weights, to the wrong learner, with a network that has diverged) counts
for neither.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypeVar

from asyncade_runtime.transport.roles import Peer

SHUT_OUT_S: Final = 600.0
"""A shut-out ends after this many seconds: the next holder of the address may be an honest one."""

OFFENCES: Final = frozenset(
    {"not_ours", "limit", "malformed", "shape", "action", "claim", "adverse", "replay", "sequence"}
)
"""Reasons for which no actor's message is dropped more than once or twice, after a restart."""

_FLOODS: Final = frozenset({"protocol_version", "identity", "crowded", "shut_out"})
"""Reasons that a wrong set-up explains, but not hundreds of times a second without end."""

_SHUT_IDS: Final = 3
"""So many ids, if they are most of the peer's, shut out the peer."""

_REMEMBERED: Final = 65_536

Key = TypeVar("Key")
Verdict: TypeAlias = Literal["actor", "peer"]


@dataclass(frozen=True, slots=True)
class _Limit:
    """Of a leaky bucket.

    Attributes:
        capacity: drops at once that are forgiven.
        leak: drops per second that are forgiven for ever.
    """

    capacity: float
    leak: float


_OFFENCE: Final = _Limit(capacity=16, leak=1 / 60)
_FLOOD: Final = _Limit(capacity=1000, leak=100)


class _Buckets(OrderedDict[Key, tuple[float, float]]):
    """Level and time of the last drop, by peer or by peer and id; those of longest ago go first."""

    def overflows(self, key: Key, limit: _Limit, now: float) -> bool:
        """Adds a drop; true if that is too much."""
        level, at = self.pop(key, (0.0, now))
        level = max(0.0, level - (now - at) * limit.leak) + 1
        self[key] = level, now
        if len(self) > _REMEMBERED:
            self.popitem(last=False)
        return level > limit.capacity


class Conduct:
    """The record of all peers, and who is shut out."""

    def __init__(self) -> None:
        self._offences: _Buckets[tuple[Peer, str | None]] = _Buckets()
        self._floods: _Buckets[Peer] = _Buckets()
        self._peers: dict[Peer, float] = {}  # shut out until
        self._actors: dict[Peer, dict[str, float]] = {}

    def shut_out(self, peer: Peer) -> bool:
        """True if nothing of this peer is read. Any thread may ask."""
        return peer in self._peers

    def shut_out_actor(self, peer: Peer, actor_id: str) -> bool:
        """True if nothing of this id from this peer is used."""
        return actor_id in self._actors.get(peer, ())

    def count(self) -> tuple[int, int]:
        """Returns how many ids and how many peers are shut out."""
        return sum(map(len, self._actors.values())), len(self._peers)

    def dropped(
        self, peer: Peer, actor_id: str | None, reason: str, now: float, active: int
    ) -> Verdict | None:
        """Notes a dropped message of a peer that is not shut out.

        Args:
            peer: that sent it.
            actor_id: as claimed; None if the frame names none, which the peer answers for.
            reason: why it was dropped.
            now: monotonic time in seconds.
            active: ids that the peer uses.

        Returns:
            Who is shut out from now on because of it.
        """
        if reason in _FLOODS:
            return self._shut_peer(peer, now) if self._flooded(peer, now) else None
        if reason not in OFFENCES:
            return None
        if not self._offences.overflows((peer, actor_id), _OFFENCE, now):
            return None
        if actor_id is None:
            return self._shut_peer(peer, now)
        shut = self._actors.setdefault(peer, {})
        shut[actor_id] = now + SHUT_OUT_S
        # Of a relay or of many actors behind one address, a few bad ids must not cost the others.
        if len(shut) >= _SHUT_IDS and 2 * len(shut) > active:
            return self._shut_peer(peer, now)
        return "actor"

    def forgive(self, now: float) -> None:
        """Ends the shut-outs that have lasted for `SHUT_OUT_S`."""
        for peer in _over(self._peers.items(), now):
            del self._peers[peer]
            self._actors.pop(peer, None)
            self._offences.pop((peer, None), None)
        for peer, actors in list(self._actors.items()):
            for actor_id in _over(actors.items(), now):
                del actors[actor_id]
                self._offences.pop((peer, actor_id), None)
            if not actors:
                del self._actors[peer]

    def _flooded(self, peer: Peer, now: float) -> bool:
        return self._floods.overflows(peer, _FLOOD, now)

    def _shut_peer(self, peer: Peer, now: float) -> Verdict:
        self._peers[peer] = now + SHUT_OUT_S
        return "peer"


def _over(until: Iterable[tuple[Key, float]], now: float) -> list[Key]:
    return [key for key, end in until if now >= end]
