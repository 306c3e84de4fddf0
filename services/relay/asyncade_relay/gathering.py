"""Gradient mode: which gradients are averaged, and when the mean is sent. No I/O, no clock.

To the learner a relay is one actor: it numbers its messages, has at most `messages_in_flight` of
them in flight, and finds its credit in `received`. To its actors it is the learner: it waits for
one gradient from each, but for none longer than its patience.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from asyncade_proto.limits import MAX_ENVIRONMENTS, MAX_LOSSES, MAX_STEPS
from asyncade_proto.messages import Assignment, Episodes, Float32, Gradients, Weights
from asyncade_runtime.admission import Accepted, Dropped, DropReason, Roster, check_policy
from asyncade_runtime.claims import Asked, Claims
from asyncade_runtime.robust_mean import RobustMean

DROP_REASONS: Final[tuple[DropReason, ...]] = (
    *("stale", "future", "model", "shape"),
    *("claim", "adverse"),
    *("identity", "crowded", "replay", "sequence", "shut_out"),
)
"""Why a gradient is not averaged, or any message refused."""

_MAX: Final = 57_344.0
"""The largest float8: the wire rounds what is above it to infinity."""


class Gathering:
    """Averages gradients and makes the relay's own messages of them.

    Args:
        relay_id: the relay's name as an actor.
        roster: updated with the actors behind the relay.
        max_policy_lag: older gradients, in versions, are dropped.
        patience_seconds: longest time without a gradient before an incomplete mean is sent.
        actors_behind_relay: as the learner's setting, where relays send to this one.
    """

    def __init__(
        self,
        relay_id: str,
        roster: Roster,
        *,
        max_policy_lag: int,
        patience_seconds: float,
        actors_behind_relay: int = 1,
    ) -> None:
        self._relay_id = relay_id
        self._roster = roster
        self._max_policy_lag = max_policy_lag
        self._patience_seconds = patience_seconds
        self._actors_behind_relay = actors_behind_relay
        self._mean = RobustMean(actors_behind_relay)
        self._claims: Claims | None = None
        self._weights: Weights | None = None
        self._sequence = 0
        self._received = 0
        self._play = Play()
        self._last_added = 0.0
        self._begin()

    def renew(self, weights: Weights) -> Gradients | None:
        """Takes newer weights: they set the policy lag and give credit.

        Returns:
            The mean that must be sent now, as it will not be requested again: gathered for another
            learner, or before trajectories were requested. The learner judges it like any late
            message, and counts its env steps.
        """
        old = self._weights
        # Not named: the relay is new to this learner, or its messages are lost. A higher count than
        # its own is that of a dead relay of the same name.
        received = weights.received.get(self._relay_id, self._sequence)
        self._received = min(received, self._sequence)
        another = old is not None and old.run != weights.run
        if another or not weights.received:
            self._roster.forget_received()
        unwanted = another or weights.assignment.request != "gradients"
        late = self.take() if unwanted and self._mean.count else None
        if self._claims is None or another:
            self._claims = self._new_claims(weights.assignment)
        if old is not None and old.model != weights.model:
            self._mean = RobustMean(self._actors_behind_relay)
        self._weights = weights
        return late

    def _new_claims(self, assignment: Assignment) -> Claims:
        """Returns claims without accounts.

        An actor alone is asked for the batch, and may still have its games when others have come.
        """
        batch = assignment.objective.batch_samples
        if assignment.games is None:  # of another implementation: as many as the actor has
            asked = Asked(MAX_ENVIRONMENTS, MAX_STEPS, assignment.messages_in_flight)
        else:
            games = max(assignment.games, batch // assignment.unroll_length)
            env_steps = max(assignment.games * assignment.unroll_length, batch)
            asked = Asked(games, env_steps, assignment.messages_in_flight)
        return Claims(asked, actors_behind_relay=self._actors_behind_relay)

    def offer(self, message: Gradients, now: float) -> Accepted | Dropped:
        """Adds a gradient to the mean or drops it. There must be weights that request gradients.

        The env steps and episodes of a dropped one are forwarded, unless it is of another network
        or not believed.
        """
        assert self._weights is not None
        assert self._claims is not None
        outcome = check_policy(
            message,
            model=self._weights.model,
            policy_version=self._weights.policy_version,
            max_policy_lag=self._max_policy_lag,
        )
        if isinstance(outcome, Accepted) and not self._mean.fits(message.tensors):
            outcome = Dropped("shape", f"{message.actor_id} has other tensors than the others")
        if not outcome.foreign:
            outcome = self._claims.check(message, self._weights.policy_version) or outcome
        if isinstance(outcome, Accepted):
            problem = self._mean.problem(message.actor_id, message.tensors)
            outcome = outcome if problem is None else Dropped("adverse", problem)
        if outcome.foreign:
            return outcome
        if not outcome.believed:
            self._roster.not_believed(message.actor_id)
            return outcome
        self._roster.heard(message.actor_id, message.sequence, now)
        self._play.add(message)
        if isinstance(outcome, Accepted):
            self._add(message)
            self._last_added = now
        return outcome

    def due(self, now: float) -> bool:
        """True if a mean should be sent: there is credit, and it is complete or late."""
        if not self._mean.count or self._weights is None:
            return False
        allowed = self._weights.assignment.messages_in_flight
        return self._sequence - self._received < allowed and (
            self.complete() or now - self._last_added > self._patience_seconds
        )

    def complete(self) -> bool:
        """True if there is a gradient for every active actor."""
        return 0 < self._mean.count >= len(self._roster)

    def take(self) -> Gradients:
        """Returns the mean of what was gathered as the relay's next message."""
        assert self._weights is not None
        if not self.complete():
            self._roster.forget_absent()
        self._roster.next_batch()
        played, samples = self._play.take(), self._mean.samples
        message = Gradients(
            actor_id=self._relay_id,
            sequence=self._sequence,
            policy_version=self._oldest_version,
            model=self._weights.model,
            samples=min(samples, MAX_STEPS),
            tensors={name: _finite(tensor) for name, tensor in self._mean.take().items()},
            losses={name: mean for name, (mean, _) in self._losses.items() if math.isfinite(mean)},
            **played,
        )
        self._sequence += 1
        self._begin()
        return message

    def _begin(self) -> None:
        """Begins a new mean."""
        self._losses: dict[str, tuple[float, int]] = {}  # mean, samples
        self._oldest_version = 0  # so that policy lag is never understated

    def _add(self, message: Gradients) -> None:
        first = not self._mean.count
        version = message.policy_version
        self._oldest_version = version if first else min(self._oldest_version, version)
        samples = self._mean.add(message.actor_id, message.tensors, message.samples)
        for name, value in message.losses.items():
            if name in self._losses or len(self._losses) < MAX_LOSSES:
                mean, before = self._losses.get(name, (0.0, 0))
                total = before + samples
                self._losses[name] = mean + (value - mean) * (samples / total), total
        self._roster.contributed(message.actor_id)


def _finite(tensor: Float32) -> Float32:
    """Returns a tensor that the wire accepts: it would refuse an overflow, and env steps with it.

    The learner skips an update of this size.
    """
    return np.asarray(np.clip(np.nan_to_num(tensor, nan=_MAX), -_MAX, _MAX))


class Play:
    """Env steps and episodes reported by actors; each is forwarded exactly once.

    Of episodes no more are held than a message takes: without a learner's credit, one actor that
    reports the most with every message would fill the memory.
    """

    def __init__(self) -> None:
        self._env_steps = 0
        self._points = [0.0, 0.0]  # won, lost
        self._returns = np.zeros(0, np.float32)
        self._lengths = np.zeros(0, np.int32)

    def add(self, message: Gradients) -> None:
        """Adds what a message reports."""
        self._env_steps += message.env_steps
        self._points[0] += message.points_won
        self._points[1] += message.points_lost
        returns, lengths = message.episodes.returns, message.episodes.lengths
        room = MAX_STEPS - len(self._returns)
        if len(returns) and room:
            self._returns = np.concatenate([self._returns, returns[:room]])
            self._lengths = np.concatenate([self._lengths, lengths[:room]])

    def take(self) -> dict[str, Any]:
        """Returns what fits into one message, by field, and keeps the rest for the next."""
        env_steps = min(self._env_steps, MAX_STEPS)
        episodes = Episodes(returns=self._returns, lengths=self._lengths)
        self._env_steps -= env_steps
        self._returns, self._lengths = np.zeros(0, np.float32), np.zeros(0, np.int32)
        won, lost = (min(points, float(MAX_STEPS)) for points in self._points)
        self._points = [self._points[0] - won, self._points[1] - lost]
        return {
            "env_steps": env_steps,
            "episodes": episodes,
            "points_won": won,
            "points_lost": lost,
        }
