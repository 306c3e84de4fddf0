"""Is this message wanted? Decisions without I/O: no socket, no clock, no metrics in here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, get_args

from asyncade_proto.messages import Gradients, Request, Trajectory, Upstream
from asyncade_runtime.verdicts import Accepted, Dropped

DropReason: TypeAlias = Literal["stale", "future", "unasked", "model", "shape", "action"]

DROP_REASONS: tuple[DropReason, ...] = get_args(DropReason)
"""Why a well-formed message is not used.

stale: made by weights too many versions ago. future: by weights this learner has not published (an
earlier one did, and died before its next checkpoint). unasked: a kind not asked for now. model: of
a network of another shape. shape: of frames, unroll or gradients. action: one the game lacks.
"""

FOREIGN: Final[frozenset[DropReason]] = frozenset({"model", "shape", "action"})
"""Reasons that show an actor of another run: what it played does not count, it gets no credit."""

_SENDERS_REMEMBERED: Final = 65_536


class Intake:
    """Decides about messages that are well-formed, but perhaps not for this learner or not now.

    Args:
        model: fingerprint of the learner's network.
        parameter_shapes: name to shape of every parameter.
        num_actions: of the game.
        frame_shape: (H, W).
        unroll_length: T.
        max_policy_lag: in versions.
    """

    def __init__(
        self,
        *,
        model: str,
        parameter_shapes: Mapping[str, tuple[int, ...]],
        num_actions: int,
        frame_shape: tuple[int, int],
        unroll_length: int,
        max_policy_lag: int,
    ) -> None:
        self._model = model
        self._parameter_shapes = dict(parameter_shapes)
        self._num_actions = num_actions
        self._frame_shape = frame_shape
        self._unroll_length = unroll_length
        self._max_policy_lag = max_policy_lag
        self._last_sequence: OrderedDict[str, int] = OrderedDict()

    def offer(
        self, message: Upstream, *, policy_version: int, request: Request
    ) -> Accepted | Dropped[DropReason]:
        """Decides about one message.

        Args:
            message: well-formed, of any actor.
            policy_version: the learner's now.
            request: the kind of message that is asked for now.
        """
        lost = self._count_lost(message)
        lag = policy_version - message.policy_version
        if message.model != self._model:
            detail = f"{message.actor_id} has network {message.model}, this is {self._model}"
            return Dropped("model", detail, lost)
        if lag < 0:
            return Dropped("future", f"version {message.policy_version} > {policy_version}", lost)
        if lag > self._max_policy_lag:
            return Dropped("stale", f"{lag} versions old, over {self._max_policy_lag}", lost)
        match message:
            case Trajectory():
                kind, problem = "trajectories", self._problem_of_trajectory(message)
            case Gradients():
                kind, problem = "gradients", self._problem_of_gradients(message)
        if kind != request:
            return Dropped("unasked", f"{kind}, where {request} are asked for", lost)
        if problem is not None:
            reason, detail = problem
            return Dropped(reason, detail, lost)
        return Accepted(lag, lost)

    def _problem_of_trajectory(self, message: Trajectory) -> tuple[DropReason, str] | None:
        steps = message.actions.shape[0]
        if message.frames.shape[2:] != self._frame_shape or steps != self._unroll_length:
            return "shape", f"{steps} steps of frames {list(message.frames.shape[2:])}"
        if message.actions.max() >= self._num_actions:
            return "action", f"{int(message.actions.max())}, the game has {self._num_actions}"
        return None

    def _problem_of_gradients(self, message: Gradients) -> tuple[DropReason, str] | None:
        shapes = {name: tensor.shape for name, tensor in message.tensors.items()}
        if shapes != self._parameter_shapes:
            odd = sorted(n for n, s in self._parameter_shapes.items() if shapes.get(n) != s)
            return "shape", f"gradients differ at {', '.join(odd[:4]) or 'extra tensors'}"
        return None

    def _count_lost(self, message: Upstream) -> int:
        """Returns how many messages are missing before this one.

        A lower sequence number than before is an actor that started anew under its old name.
        """
        last = self._last_sequence.pop(message.actor_id, None)
        self._last_sequence[message.actor_id] = message.sequence
        if len(self._last_sequence) > _SENDERS_REMEMBERED:
            self._last_sequence.popitem(last=False)
        return 0 if last is None else max(0, message.sequence - last - 1)
