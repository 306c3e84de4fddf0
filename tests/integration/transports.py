"""ZeroMQ and memory transports for tests of the socket roles, and exchanges between roles."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import zmq

from asyncade_runtime.transport.addresses import SocketAddressError
from asyncade_runtime.transport.memory import MemoryBroadcast, MemoryQueue
from asyncade_runtime.transport.roles import Inbox, Outbox, Publisher, Subscriber
from asyncade_runtime.transport.zmq_sockets import ZmqInbox, ZmqOutbox, ZmqPublisher, ZmqSubscriber
from builders import frame_from

DEADLINE_S = 60.0  # only a failing test waits this long
SHORT_S = 0.02
MAX_BYTES = 1_000_000

T = TypeVar("T")


def eventually(attempt: Callable[[], T | None], what: str = "a result") -> T:
    """Repeats an attempt until its result is true, and returns the result."""
    deadline = time.monotonic() + DEADLINE_S
    while not (result := attempt()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.01)
    return result


def when_free(bind: Callable[[], T]) -> T:
    """Repeats `bind` until it succeeds: a port is free only a moment after its last use."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return bind()
        except SocketAddressError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class Transport(Protocol):
    """Makes any number of roles at one learner's addresses."""

    def outbox(self) -> Outbox: ...
    def inbox(self) -> Inbox: ...
    def publisher(self) -> Publisher: ...
    def subscriber(self) -> Subscriber: ...


class ZmqTransport:
    """Uses fixed free ports, so that either side may start first and restart."""

    def __init__(self, context: zmq.SyncContext) -> None:
        self._context = context
        self._up, self._down = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
        self._roles: list[Outbox | Inbox | Publisher | Subscriber] = []

    def outbox(self) -> ZmqOutbox:
        return self._kept(ZmqOutbox(self._context, self._up))

    def inbox(self, max_message_bytes: int = MAX_BYTES) -> ZmqInbox:
        limit = max_message_bytes
        return self._kept(
            when_free(lambda: ZmqInbox(self._context, self._up, max_message_bytes=limit))
        )

    def publisher(self) -> ZmqPublisher:
        return self._kept(
            when_free(lambda: ZmqPublisher(self._context, self._down, resend_interval_s=0.05))
        )

    def subscriber(self, max_message_bytes: int = MAX_BYTES) -> ZmqSubscriber:
        limit = max_message_bytes
        return self._kept(ZmqSubscriber(self._context, self._down, max_message_bytes=limit))

    def close(self) -> None:
        for role in self._roles:
            role.close()

    def _kept(self, role: T) -> T:
        self._roles.append(role)  # type: ignore[arg-type]
        return role


class MemoryTransport:
    def __init__(self) -> None:
        queue, broadcast = MemoryQueue(), MemoryBroadcast()
        self.outbox, self.inbox = queue.outbox, queue.inbox
        self.publisher, self.subscriber = broadcast.publisher, broadcast.subscriber


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def port_of(role: Inbox | Publisher) -> int:
    return int(role.endpoint.rpartition(":")[2])


def deliver(outbox: Outbox, inbox: Inbox, frame: bytes) -> None:
    """Sends `frame` until it arrives: a closing connection loses frames."""

    def exchanged() -> bool:
        outbox.send(frame, SHORT_S)
        return frame_from(inbox, SHORT_S) == frame

    eventually(exchanged)
    while inbox.receive(SHORT_S) is not None:
        pass  # the repetitions


def welcome(publisher: Publisher, subscriber: Subscriber) -> bytes:
    """Welcomes `subscriber` and returns its first frame."""

    def first() -> bytes | None:
        publisher.welcome_joiners()
        return subscriber.latest(SHORT_S)

    return eventually(first)


def kinds(role: Outbox | Inbox | Publisher | Subscriber) -> set[str]:
    return {event.kind for event in role.events()}
