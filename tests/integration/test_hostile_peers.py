"""What an admitted peer that floods, lies about its name or repeats itself costs the others.

The hostile peer has an address of its own: 127.0.0.9, from which it connects to the learner.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
import structlog
import zmq

from asyncade_proto.codec import encode
from asyncade_runtime.entrance import ACTORS_PER_PEER
from builders import trajectory
from integration.services import learning, playing, thread
from integration.transports import eventually

HOSTILE = "127.0.0.9"
ENOUGH = 2_000  # frames that are dropped unread


class Hostile:
    """Sends frames without end, as fast as the learner takes them, and counts them."""

    def __init__(self, context: zmq.SyncContext, upstream: str, frames: Iterator[bytes]) -> None:
        self.context, self.frames, self.sent = context, frames, 0
        self.upstream = upstream.replace("tcp://", f"tcp://{HOSTILE}:0;")

    def run(self, stop: threading.Event) -> None:
        with self.context.socket(zmq.PUSH) as socket:
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.SNDTIMEO, 100)
            socket.connect(self.upstream)
            frame = next(self.frames)
            while not stop.is_set():
                with suppress(zmq.Again):
                    socket.send(frame)
                    self.sent += 1
                    frame = next(self.frames)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Logs warnings only, as a learner does: every dropped message has a line at level debug."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    yield
    structlog.reset_defaults()


def junk() -> Iterator[bytes]:
    while True:
        yield b"junk"


def a_new_id_each() -> Iterator[bytes]:
    for number in count():
        yield encode(trajectory(actor_id=f"fake-{number}", steps=1, side=84))


def the_honest_actors_id() -> Iterator[bytes]:
    for number in count():
        yield encode(trajectory(actor_id="honest", sequence=number, steps=1, side=84))


def the_same_message() -> Iterator[bytes]:
    frame = encode(trajectory(actor_id="again", steps=1, side=84))
    while True:
        yield frame


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (junk, "not_ours"),
        (a_new_id_each, "crowded"),
        (the_honest_actors_id, "identity"),
        (the_same_message, "replay"),
    ],
)
def test_a_flood_of_tiny_messages_stops_nobody_and_ends_unread(
    context: zmq.SyncContext, tmp_path: Path, frames: Callable[[], Iterator[bytes]], reason: str
) -> None:
    with (
        learning(context, tmp_path) as (service, learner),
        playing(context, service, "honest"),
    ):
        eventually(lambda: service.metric("learner_updates_total") > 4, "updates before the flood")
        hostile = Hostile(context, service.upstream, frames())
        with thread(hostile.run):

            def shut_out() -> bool:
                return service.metric("learner_messages_dropped_total", reason="shut_out") > ENOUGH

            eventually(shut_out, f"a flood of {reason} is shut out")
            # The learner goes on while the flood does.
            updates, sent = service.metric("learner_updates_total"), hostile.sent
            eventually(lambda: service.metric("learner_updates_total") > updates + 8, "updates")
            assert hostile.sent > sent
        assert service.metric("learner_messages_dropped_total", reason=reason) > 0
        assert service.metric("learner_shut_out", who="peer") == 1
        assert service.metric("learner_messages_lost_total") == 0
        assert service.metric("learner_active_actors") <= 1 + ACTORS_PER_PEER
        assert learner.progress.env_steps == service.metric("learner_env_steps_total")
