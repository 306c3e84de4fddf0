"""Where the weights that play come from: a running learner, or a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import zmq

from asyncade_proto.codec import decode
from asyncade_proto.messages import Weights
from asyncade_rl.saved_models import SavedModel
from asyncade_runtime.transport.keys import ActorKeys
from asyncade_runtime.transport.zmq_sockets import ZmqSubscriber

if TYPE_CHECKING:
    from asyncade_rl.session import Session

SECONDS_BETWEEN_WEIGHTS: Final = 2.0
"""A learner publishes several versions a second, 1.4 MB of the small network each."""

_FRAMES_QUEUED: Final = 1


@dataclass(frozen=True, eq=False, slots=True)
class Model:
    """A network that can play.

    Attributes:
        game: to play.
        network: a key of `asyncade_rl.choices.NETWORKS`.
        sticky: repeat-action probability.
        load: loads the weights into a session.
        about: what the page shows of it: ``version``, and ``env_steps`` if that is known.
    """

    game: str
    network: str
    sticky: float
    load: Callable[[Session], None]
    about: Mapping[str, Any]


class Source(Protocol):
    """Gives models. One thread uses it."""

    def newer(self) -> Model | None:
        """Returns a model that was not returned yet, or None. Does not block.

        Raises:
            ValueError: what arrived is no model; the message says why. Later ones still come.
        """
        ...

    def close(self) -> None:
        """Frees what it holds; the next `newer` begins anew."""
        ...


class CheckpointSource:
    """The model of a checkpoint.

    Args:
        saved: the model.
        sticky: repeat-action probability of the run.
    """

    def __init__(self, saved: SavedModel, sticky: float) -> None:
        self._saved = saved
        self._sticky = sticky
        self._given = False

    def newer(self) -> Model | None:
        """Returns the model once."""
        if self._given:
            return None
        self._given = True
        saved = self._saved
        return Model(
            game=saved.game,
            network=saved.network,
            sticky=self._sticky,
            load=lambda session: session.load_tensors(saved.tensors()),
            about={"version": saved.policy_version, "env_steps": saved.env_steps},
        )

    def close(self) -> None:
        """Has the model returned again."""
        self._given = False


class LearnerSource:
    """The newest weights of a learner, at most every two seconds.

    Between two looks the subscription is not read: its queues are full after a few frames, and the
    publisher drops what is for it alone. So whatever a learner publishes, only a few frames travel
    for each look, and no other subscriber notices.

    Args:
        context: ZeroMQ context.
        address: returns the learner's address for weights; None while there is no learner. It is
            asked before each look: a restarted learner has another one.
        keys: of an actor; None without encryption.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        context: zmq.SyncContext,
        address: Callable[[], str | None],
        keys: ActorKeys | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context = context
        self._address = address
        self._keys = keys
        self._clock = clock
        self._connected_to: str | None = None
        self._subscriber: ZmqSubscriber | None = None
        self._look_at = 0.0
        self._seen: tuple[int, int] | None = None

    def newer(self) -> Model | None:
        """Returns the newest weights if two seconds have passed and there are some.

        Raises:
            DecodeError: what arrived is no message, or one of another release.
        """
        now = self._clock()
        if now < self._look_at:
            return None
        self._connect(self._address())
        frame = None
        if self._subscriber is not None:
            self._subscriber.events()
            frame = self._subscriber.latest(0)
        if frame is None:
            self._look_at = now + SECONDS_BETWEEN_WEIGHTS / 8  # nothing is there to wait out
            return None
        self._look_at = now + SECONDS_BETWEEN_WEIGHTS
        weights = decode(frame)
        if not isinstance(weights, Weights) or self._seen == (weights.run, weights.policy_version):
            return None
        self._seen = (weights.run, weights.policy_version)
        return _model_of(weights)

    def close(self) -> None:
        """Ends the subscription."""
        self._connect(None)

    def _connect(self, address: str | None) -> None:
        if address == self._connected_to:
            return
        if self._subscriber is not None:
            self._subscriber.close()
            self._subscriber = None
        if address is not None:
            self._subscriber = ZmqSubscriber(
                self._context, address, hwm=_FRAMES_QUEUED, keys=self._keys
            )
        self._connected_to = address
        self._seen = None


def _model_of(weights: Weights) -> Model:
    assignment = weights.assignment
    return Model(
        game=assignment.game,
        network=assignment.network,
        sticky=assignment.repeat_action_probability,
        load=lambda session: session.load(weights),
        about={"version": weights.policy_version},
    )
