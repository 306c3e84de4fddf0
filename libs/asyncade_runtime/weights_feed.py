"""Weights as all who listen to a learner take them: decoded, and not had before."""

from __future__ import annotations

from typing import Any, NamedTuple

from prometheus_client import Counter

from asyncade_proto.codec import decode
from asyncade_proto.errors import DecodeError
from asyncade_proto.messages import Weights
from asyncade_runtime.stages import Stages
from asyncade_runtime.transport.roles import Subscriber


class Arrival(NamedTuple):
    """Weights, and the frame that they came in."""

    weights: Weights
    frame: bytes


class WeightsFeed:
    """The newest weights, where a subscription brings frames.

    Args:
        subscriber: to a learner, or to a relay.
        stages: entered at ``weights`` when a frame is there, before it is decoded.
        refused: counts what cannot be used, by the label ``reason``.
        log: told why.
    """

    def __init__(self, subscriber: Subscriber, stages: Stages, refused: Counter, log: Any) -> None:
        self._subscriber = subscriber
        self._stages = stages
        self._refused = refused
        self._log = log
        self._run: int | None = None
        self._policy_version = 0

    def newer(self, timeout_s: float) -> Arrival | None:
        """Returns weights that have not been returned yet, if there are any.

        A frame that was sent again for somebody who joined is passed over; one that is no weights
        is counted and logged. A learner that restarted has another run: its versions count anew.

        Args:
            timeout_s: how long to wait for a frame, in seconds.
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
        self._run, self._policy_version = weights.run, weights.policy_version
        return Arrival(weights, frame)

    def refuse(self, reason: str, detail: str) -> None:
        """Counts and logs weights that cannot be used."""
        self._refused.labels(reason=reason).inc()
        self._log.warning("weights refused", reason=reason, detail=detail)
