"""Decodes weights from a subscription and skips versions that were already returned."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

from prometheus_client import Counter

from asyncade_proto.codec import decode
from asyncade_proto.errors import DecodeError
from asyncade_proto.messages import Weights
from asyncade_runtime.stages import Stages
from asyncade_runtime.transport.roles import Subscriber

_RUNS_REMEMBERED: Final = 8


class Arrival(NamedTuple):
    """Decoded weights and their frame."""

    weights: Weights
    frame: bytes


class WeightsFeed:
    """The newest weights of a subscription.

    Args:
        subscriber: to a learner or a relay.
        stages: enters ``weights`` before decoding a frame.
        refused: counts unusable weights, by the label ``reason``.
        log: logs the reason.
    """

    def __init__(self, subscriber: Subscriber, stages: Stages, refused: Counter, log: Any) -> None:
        self._subscriber = subscriber
        self._stages = stages
        self._refused = refused
        self._log = log
        self._run: int | None = None
        self._earlier_runs: deque[int] = deque(maxlen=_RUNS_REMEMBERED)
        self._policy_version = 0
        self._warned = False

    def newer(self, timeout_s: float) -> Arrival | None:
        """Returns the newest weights that have not been returned yet, or None.

        Frames re-sent for joiners are skipped; frames that are not weights are counted and logged.
        A restarted learner has a new run, whose versions count anew.

        Args:
            timeout_s: longest time to wait for a frame, in seconds.
        """
        frame = self._subscriber.latest(timeout_s)
        if frame is None:
            return None
        self._stages.enter("weights")
        try:
            weights = decode(frame)
        except DecodeError as error:
            self.refuse(error.reason, str(error))
            return None
        if not isinstance(weights, Weights):
            self.refuse("malformed", f"a {type(weights).__name__} on the weights socket")
            return None
        if weights.run == self._run and weights.policy_version <= self._policy_version:
            return None
        if weights.run != self._run:
            self._note_run(weights.run)
        self._run, self._policy_version = weights.run, weights.policy_version
        return Arrival(weights, frame)

    def _note_run(self, run: int) -> None:
        """Warns once of a run that comes back: two learners publish to this subscriber in turn.

        A restarted learner has a new run, and the old one is never heard again.
        """
        if self._run is None:
            return
        if run in self._earlier_runs and not self._warned:
            self._warned = True
            self._log.warning(
                "two learners publish here in turn; stop one of them",
                runs=[f"{one:016x}" for one in (self._run, run)],
            )
        self._earlier_runs.append(self._run)

    def refuse(self, reason: str, detail: str) -> None:
        """Counts and logs unusable weights."""
        self._refused.labels(reason=reason).inc()
        self._log.warning("weights refused", reason=reason, detail=detail)
