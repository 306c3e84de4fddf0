"""From received frames to messages to train on, with an account of every sender."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from asyncade_learner.receiving import Received
from asyncade_learner.telemetry import Telemetry
from asyncade_proto.errors import DecodeError
from asyncade_proto.messages import Gradients, Request, Trajectory, Upstream
from asyncade_runtime.admission import Accepted, Dropped, Roster, check_policy
from asyncade_runtime.claims import Claims
from asyncade_runtime.entrance import Entrance


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What a message must be like to be used. No socket, no clock, no metrics.

    Attributes:
        model: fingerprint of the learner's network.
        parameter_shapes: shape of every parameter by name.
        num_actions: of the game.
        frame_shape: (H, W).
        unroll_length: T at most.
        max_policy_lag: in updates.
    """

    model: str
    parameter_shapes: Mapping[str, tuple[int, ...]]
    num_actions: int
    frame_shape: tuple[int, int]
    unroll_length: int
    max_policy_lag: int

    def judge(
        self,
        message: Upstream,
        *,
        policy_version: int,
        lag_of: Callable[[int], int],
        request: Request,
    ) -> Accepted | Dropped:
        """Decides about one message.

        Args:
            message: decoded, from any actor.
            policy_version: the learner's present one.
            lag_of: a version to its policy lag, in updates.
            request: the kind of message requested now.
        """
        outcome = check_policy(
            message,
            model=self.model,
            policy_version=policy_version,
            max_policy_lag=self.max_policy_lag,
            lag_of=lag_of,
        )
        if isinstance(outcome, Dropped):
            return outcome
        match message:
            case Trajectory():
                kind, problem = "trajectories", self._problem_of_trajectory(message)
            case Gradients():
                kind, problem = "gradients", self._problem_of_gradients(message)
        if kind != request:
            return Dropped("unasked", f"{kind}, but {request} are requested")
        return problem or outcome

    def _problem_of_trajectory(self, message: Trajectory) -> Dropped | None:
        steps, shape, action = len(message.actions), message.frames.shape[2:], message.actions.max()
        if shape != self.frame_shape or steps > self.unroll_length:
            return Dropped("shape", f"{steps} steps of frames {list(shape)}")
        if action >= self.num_actions:
            return Dropped("action", f"{action}, the game has {self.num_actions}")
        return None

    def _problem_of_gradients(self, message: Gradients) -> Dropped | None:
        shapes = {name: tensor.shape for name, tensor in message.tensors.items()}
        if shapes != self.parameter_shapes:
            odd = sorted(n for n, s in self.parameter_shapes.items() if shapes.get(n) != s)
            return Dropped("shape", f"gradients differ at {', '.join(odd[:4]) or 'extra tensors'}")
        return None


@dataclass(frozen=True, slots=True)
class Intake:
    """Admits messages.

    Attributes:
        entrance: refuses messages that are not their sender's next one.
        rules: decide about each other message.
        claims: what it says of its play must be possible.
        roster: updated with its sender.
        telemetry: updated with every event.
    """

    entrance: Entrance
    rules: Rules
    claims: Claims
    roster: Roster
    telemetry: Telemetry

    def admit(
        self,
        received: Received,
        *,
        policy_version: int,
        lag_of: Callable[[int], int],
        request: Request,
        problem_of: Callable[[Upstream], Dropped | None],
        now: float,
    ) -> Upstream | None:
        """Returns the message if it is to be used; None if it is dropped.

        A dropped message gives credit as well, unless its sender belongs to another run or is not
        who it claims to be. Who is not believed has credit with the next weights, and is not waited
        for.

        Args:
            received: one frame, decoded.
            policy_version: the learner's present one.
            lag_of: a version to its policy lag, in updates.
            request: the kind of message requested now.
            problem_of: what the learner's present phase has against a message of the right kind.
            now: monotonic time in seconds.
        """
        message, peer, entrance = received.content, received.peer, self.entrance
        if isinstance(message, Dropped):
            self.telemetry.received(received, message, 0)
            return None
        if isinstance(message, DecodeError):
            unreadable = Dropped(message.reason, message.detail)
            self.telemetry.received(received, unreadable, 0)
            entrance.judged(peer, received.actor_id, unreadable, now)
            return None
        outcome: Accepted | Dropped
        lost = 0
        found = entrance.arrived(message, peer, policy_version=policy_version, now=now)
        if isinstance(found, Dropped):
            outcome = found
        else:
            lost = found
            outcome = self.rules.judge(
                message, policy_version=policy_version, lag_of=lag_of, request=request
            )
            if not outcome.foreign:
                outcome = self.claims.check(message, policy_version) or outcome
            if isinstance(outcome, Accepted):
                outcome = problem_of(message) or outcome
        self.telemetry.received(received, outcome, lost, len(self.roster))
        entrance.judged(peer, message.actor_id, outcome, now)
        if not outcome.believed:
            self.roster.not_believed(message.actor_id)
        elif not outcome.foreign:
            self.roster.heard(message.actor_id, message.sequence, now)
        if isinstance(outcome, Dropped):
            return None
        self.roster.contributed(message.actor_id)
        return message
