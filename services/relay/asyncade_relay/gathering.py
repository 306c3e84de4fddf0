"""Gradient mode: which gradients are averaged, and when the average goes up. No I/O, no clock.

Towards the learner a relay is one actor: it counts its messages, has no more of them on their way
than `messages_in_flight`, and is told in `received` what has come in. Towards its actors it is the
learner: it waits for one gradient of each, but for nobody longer than its patience.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from asyncade_proto.limits import MAX_STEPS
from asyncade_proto.messages import Gradients, Weights
from asyncade_relay.averaging import Average, Play
from asyncade_relay.roster import Roster
from asyncade_runtime.verdicts import Accepted, Dropped

DropReason: TypeAlias = Literal["stale", "future", "model", "shape"]

DROP_REASONS: tuple[DropReason, ...] = get_args(DropReason)
"""Why a well-formed gradient is not averaged; the learner's reasons, with its meanings."""


class Gathering:
    """Gathers gradients and makes the relay's own messages of them.

    Args:
        relay_id: what the learner is to know the relay by.
        roster: of the actors; told who is heard of.
        max_policy_lag: in versions.
        patience_seconds: longest time without a gradient before an average goes up incomplete.
    """

    def __init__(
        self, relay_id: str, roster: Roster, *, max_policy_lag: int, patience_seconds: float
    ) -> None:
        self._relay_id = relay_id
        self._roster = roster
        self._max_policy_lag = max_policy_lag
        self._patience_seconds = patience_seconds
        self._weights: Weights | None = None
        self._sequence = 0
        self._received = 0
        self._average: Average | None = None
        self._play = Play()
        self._contributors: set[str] = set()
        self._last_added = 0.0

    def renew(self, weights: Weights) -> Gradients | None:
        """Takes newer weights as the measure of age and as credit.

        Returns:
            What must go up at once, because it will not be asked for again: what was gathered for
            another learner or before another kind of message was asked for. The learner judges it
            like any late message, and counts what was played for it.
        """
        old, self._weights = self._weights, weights
        # Not named: it is new to this learner, or what it sent is lost. A number above its own
        # count is that of a dead relay of the same name.
        received = weights.received.get(self._relay_id, self._sequence)
        self._received = min(received, self._sequence)
        another = old is not None and old.run != weights.run
        if another or not weights.received:
            self._roster.forget_received()
        if self._average and (another or weights.assignment.request != "gradients"):
            return self.take()
        return None

    def offer(self, message: Gradients, now: float) -> Accepted | Dropped[DropReason]:
        """Decides about one gradient, once there are weights that ask for gradients.

        What is accepted is part of the next average. What was played for a dropped one is told on
        all the same, unless it is of another network.
        """
        assert self._weights is not None
        lag = self._weights.policy_version - message.policy_version
        foreign = self._foreign(message)
        if foreign is not None:
            return foreign
        lost = self._roster.heard(message.actor_id, message.sequence, now)
        self._play.add(message)
        if lag < 0:
            version = self._weights.policy_version
            return Dropped("future", f"version {message.policy_version} > {version}", lost)
        if lag > self._max_policy_lag:
            return Dropped("stale", f"{lag} versions old, over {self._max_policy_lag}", lost)
        if self._average is None:
            self._average = Average(message)
        else:
            self._average.add(message)
        self._contributors.add(message.actor_id)
        self._last_added = now
        return Accepted(lag, lost)

    def due(self, now: float) -> bool:
        """Whether an average should go up: complete, or late, and the learner has room for it."""
        if self._average is None or self._weights is None:
            return False
        allowed = self._weights.assignment.messages_in_flight
        return self._sequence - self._received < allowed and (
            self.complete() or now - self._last_added > self._patience_seconds
        )

    def complete(self) -> bool:
        """Whether there is a gradient for every actor."""
        return self._average is not None and self._average.count >= len(self._roster)

    def take(self) -> Gradients:
        """Returns the average of what there is, as the relay's next message.

        Who had no part in an incomplete one is not waited for until it is heard of again: an actor
        that died must not hold up the next one too.
        """
        average = self._average
        assert average is not None
        if not self.complete():
            self._roster.keep(self._contributors)
        env_steps, episodes = self._play.take()
        message = Gradients(
            actor_id=self._relay_id,
            sequence=self._sequence,
            policy_version=average.policy_version,
            model=average.model,
            samples=min(average.samples, MAX_STEPS),
            env_steps=env_steps,
            tensors=average.tensors(),
            losses=average.losses(),
            episodes=episodes,
        )
        self._sequence += 1
        self._average = None
        self._contributors = set()
        return message

    def _foreign(self, message: Gradients) -> Dropped[DropReason] | None:
        """Says no to a gradient of another network: what it played does not count either."""
        assert self._weights is not None
        if message.model != self._weights.model:
            detail = f"{message.actor_id} has network {message.model}, not {self._weights.model}"
            return Dropped("model", detail, 0)
        if self._average is not None and not self._average.fits(message):
            return Dropped("shape", f"{message.actor_id}: other tensors than the others", 0)
        return None
