"""What a message must pass before a learner or a relay looks at what it holds."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from prometheus_client import Gauge

from asyncade_proto.codec import Sender
from asyncade_proto.messages import Upstream
from asyncade_runtime.admission import Accepted, Dropped
from asyncade_runtime.conduct import SHUT_OUT_S, Conduct
from asyncade_runtime.identity import Identities
from asyncade_runtime.transport.roles import Peer

ACTORS_PER_PEER: Final = 64
"""Default for the ids that one peer may use at a time: the actors of a large machine."""

_SAID: Final = 1024
"""Warnings remembered, so that each is logged once."""


class Entrance:
    """Refuses peers that are shut out, and messages that are not their sender's next one.

    Args:
        actors_per_peer: ids that one peer may use at a time.
        shut_out: gauge with the label ``who``: actor or peer.
        log: structured logger.
    """

    def __init__(self, actors_per_peer: int, shut_out: Gauge, log: Any) -> None:
        self._identities = Identities(actors_per_peer)
        self._conduct = Conduct()
        self._gauge = shut_out
        self._log = log
        self._said: OrderedDict[tuple[object, ...], None] = OrderedDict()
        self._count()

    def shut_out(self, peer: Peer) -> bool:
        """True if nothing of this peer is read. Any thread may ask."""
        return self._conduct.shut_out(peer)

    def arrived(
        self, sender: Sender | Upstream, peer: Peer, *, policy_version: int, now: float
    ) -> Dropped | int:
        """Enters a message into its sender's account.

        Args:
            sender: as the message claims.
            peer: that sent it.
            policy_version: the present one.
            now: monotonic time in seconds.

        Returns:
            How many messages of the sender are missing before this one; or why it is refused, which
            changes nothing of what is known of the id.
        """
        actor_id = sender.actor_id
        if self._conduct.shut_out_actor(peer, actor_id):
            return Dropped("shut_out", f"{actor_id} of {peer}")
        version = min(sender.policy_version, policy_version)
        found = self._identities.arrived(actor_id, sender.sequence, version, peer, now)
        if (shared := self._identities.take_shared()) is not None:
            self._log.warning("two actors have one id; give each its own", actor_id=shared)
        if isinstance(found, Dropped) and found.reason in ("identity", "crowded"):
            whose = actor_id if found.reason == "identity" else None
            self._say(found.reason, whose, peer, text="messages refused", detail=found.detail)
        return found

    def judged(
        self, peer: Peer, actor_id: str | None, outcome: Accepted | Dropped, now: float
    ) -> None:
        """Notes what came of a message of a peer that is not shut out.

        Args:
            peer: that sent it.
            actor_id: as claimed; None if the frame names none.
            outcome: of the message.
            now: monotonic time in seconds.
        """
        if isinstance(outcome, Accepted):
            return
        if not outcome.believed:  # its actor may be honest, and a setting wrong
            said = {"actor_id": actor_id, "reason": outcome.reason, "detail": outcome.detail}
            self._say("belief", actor_id, text="actor is not believed: messages dropped", **said)
        active = self._identities.active(peer, now)
        verdict = self._conduct.dropped(peer, actor_id, outcome.reason, now, active)
        if verdict is None:
            return
        self._count()
        self._log.warning(
            f"{verdict} shut out",
            peer=str(peer),
            actor_id=actor_id,
            minutes=round(SHUT_OUT_S / 60),
            reason=outcome.reason,
            detail=outcome.detail,
        )

    def forgive(self, now: float) -> None:
        """Ends the shut-outs that have lasted long enough. Call it now and then."""
        self._conduct.forgive(now)
        self._count()

    def new_run(self) -> None:
        """Another learner numbers the versions anew."""
        self._identities.new_run()

    def _count(self) -> None:
        actors, peers = self._conduct.count()
        self._gauge.labels(who="actor").set(actors)
        self._gauge.labels(who="peer").set(peers)

    def _say(self, *key: object, text: str, **details: Any) -> None:
        """Logs a warning unless it has been logged before."""
        if key in self._said:
            return
        self._said[key] = None
        if len(self._said) > _SAID:
            self._said.popitem(last=False)
        self._log.warning(text, **details)
