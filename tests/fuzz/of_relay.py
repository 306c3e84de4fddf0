"""The relay: weights from the learner and frames of its actors in, frames out on both sides."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import Final

import structlog.testing

from asyncade_proto import limits
from asyncade_proto.codec import decode, encode
from asyncade_proto.errors import DecodeError
from asyncade_proto.messages import Gradients, Weights
from fuzz import frames, scripts
from fuzz.targets import Mutation, Target
from rigs.relay import ME, Rig, gradients, trajectory, weights

FRAME, WEIGHTS, TIME, DRAIN = range(4)

MEMORY: Final = 5 * limits.MAX_ARRAY_BYTES
"""A message, its weighted copy, the sum, the mean and the frame it is encoded into."""


class _Relay:
    """A relay, and what went in and came out."""

    def __init__(self) -> None:
        self.rig = Rig(capacity=2)
        self.given: set[bytes] = set()
        self.played = self.reported = 0

    def take(self, frame: bytes) -> None:
        """Lets a frame of an actor arrive."""
        self.given.add(frame)
        try:
            message = decode(frame)
        except DecodeError:
            message = None
        if isinstance(message, Gradients):
            self.played += message.env_steps
        self.rig.step(frame)

    def renew(self, frame: bytes) -> None:
        """Lets a frame of the learner arrive."""
        self.rig.learner.publish(frame)
        self.rig.relay.step()
        newest = self.rig.newest()
        if newest is not None:
            below, above = decode(newest), decode(frame)
            assert isinstance(below, Weights)
            assert isinstance(above, Weights)
            assert (below.run, below.policy_version) == (above.run, above.policy_version)
            assert below.safetensors == above.safetensors

    def drain(self) -> None:
        """Reads as the learner does: what the relay made itself keeps the wire's limits."""
        for frame in self.rig.sent():
            if frame in self.given:
                continue
            message = decode(frame)
            assert isinstance(message, Gradients)
            assert message.actor_id == ME
            self.reported += message.env_steps
        assert self.reported <= self.played
        self.rig.relay.step()


def run(data: bytes) -> None:
    """Plays one script. What the relay logs is for people: printable, and short."""
    with structlog.testing.capture_logs() as lines:
        _play(scripts.read(data))
    for line in lines:
        text = str(line.get("detail", ""))
        assert len(text) < 400
        assert text.isprintable()


def _play(events: Sequence[scripts.Event]) -> None:
    relay = _Relay()
    for kind, content in events:
        match kind:
            case 0:  # FRAME
                relay.take(content)
            case 1:  # WEIGHTS
                relay.renew(content)
            case 2:  # TIME
                relay.rig.clock.now += sum(content[:2]) / 4
                relay.rig.relay.step()
            case 3:  # DRAIN
                relay.drain()
    relay.drain()


@cache
def seeds() -> Sequence[bytes]:
    """Returns a run of each mode, and one that changes from one to the other."""
    averaged = [
        *((WEIGHTS, encode(weights(1))), (FRAME, encode(gradients("a", returns=[1.0])))),
        *((FRAME, encode(gradients("b", samples=20))), (DRAIN, b"")),
        *((WEIGHTS, encode(weights(2, received={ME: 1}))), (FRAME, encode(gradients("a", 1, 2)))),
        *((TIME, b"\x08"), (DRAIN, b""), (TIME, b"\xff")),
    ]
    forwarded = [
        *((FRAME, trajectory("a")), (WEIGHTS, encode(weights(1, "trajectories")))),
        *((FRAME, trajectory("b")), (FRAME, trajectory("a", 1)), (DRAIN, b"")),
    ]
    changed = [*averaged[:3], (WEIGHTS, encode(weights(2, "trajectories", run=8))), (DRAIN, b"")]
    return [scripts.write(events) for events in (averaged, forwarded, changed)]


def mutate(data: bytes, rng: random.Random, plainly: Mutation) -> bytes:
    """Changes one event."""
    return scripts.mutate(data, rng, plainly, seeds=seeds(), kinds=4, content=_content)


def _content(kind: int, content: bytes, rng: random.Random, plainly: Mutation) -> bytes:
    of_frame = kind in (FRAME, WEIGHTS)
    return frames.mutate(content, rng, plainly) if of_frame else plainly(content)


TARGET: Final = Target(run=run, seeds=seeds, mutate=mutate, memory=MEMORY, largest=16 * 2**10)
