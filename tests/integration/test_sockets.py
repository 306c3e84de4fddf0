"""The socket roles: one contract for ZeroMQ and memory, then what only a network can do."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import pytest
import zmq

from asyncade_runtime.memory import MemoryBroadcast, MemoryQueue
from asyncade_runtime.roles import Inbox, Outbox, Publisher, Subscriber
from asyncade_runtime.sockets import (
    SocketAddressError,
    ZmqInbox,
    ZmqOutbox,
    ZmqPublisher,
    ZmqSubscriber,
)

DEADLINE_S = 30.0  # generous: only a failing test ever waits this long
SHORT_S = 0.02
MAX_BYTES = 1_000_000

T = TypeVar("T")


def eventually(attempt: Callable[[], T | None]) -> T:
    """Repeats an attempt, which waits a moment itself, until it gives something true."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if result := attempt():
            return result
    raise AssertionError("did not happen in time")


class Transport(Protocol):
    """One learner's address and whoever wants to use it."""

    def outbox(self) -> Outbox: ...
    def inbox(self) -> Inbox: ...
    def publisher(self) -> Publisher: ...
    def subscriber(self) -> Subscriber: ...


class ZmqTransport:
    """Fixed free ports, so that either side may start first and come back."""

    def __init__(self, context: zmq.SyncContext) -> None:
        self._context = context
        self._up, self._down = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
        self._roles: list[Outbox | Inbox | Publisher | Subscriber] = []

    def outbox(self) -> ZmqOutbox:
        return self._kept(ZmqOutbox(self._context, self._up))

    def inbox(self, max_message_bytes: int = MAX_BYTES) -> ZmqInbox:
        limit = max_message_bytes
        return self._bound(lambda: ZmqInbox(self._context, self._up, max_message_bytes=limit))

    def publisher(self) -> ZmqPublisher:
        return self._bound(lambda: ZmqPublisher(self._context, self._down, resend_interval_s=0.05))

    def subscriber(self, max_message_bytes: int = MAX_BYTES) -> ZmqSubscriber:
        limit = max_message_bytes
        return self._kept(ZmqSubscriber(self._context, self._down, max_message_bytes=limit))

    def close(self) -> None:
        for role in self._roles:
            role.close()

    def _kept(self, role: T) -> T:
        self._roles.append(role)  # type: ignore[arg-type]
        return role

    def _bound(self, bind: Callable[[], T]) -> T:
        def attempt() -> T | None:
            try:
                return bind()
            except SocketAddressError:  # libzmq frees a closed socket's port a moment later
                return None

        return self._kept(eventually(attempt))


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


@pytest.fixture
def context() -> Iterator[zmq.SyncContext]:
    context = zmq.Context()
    yield context
    ended = threading.Thread(target=context.term, daemon=True)
    ended.start()
    ended.join(DEADLINE_S)
    assert not ended.is_alive(), "a socket was left open, or lingers without limit"


@pytest.fixture
def zeromq(context: zmq.SyncContext) -> Iterator[ZmqTransport]:
    transport = ZmqTransport(context)
    yield transport
    transport.close()


@pytest.fixture(params=["zeromq", "memory"])
def transport(request: pytest.FixtureRequest) -> Transport:
    if request.param == "memory":
        return MemoryTransport()
    zeromq: Transport = request.getfixturevalue("zeromq")
    return zeromq


def deliver(outbox: Outbox, inbox: Inbox, frame: bytes) -> None:
    """Sends `frame` until it has come: one taken by a dying connection is lost, as documented."""

    def exchanged() -> bool:
        outbox.send(frame, SHORT_S)
        return inbox.receive(SHORT_S) == frame

    eventually(exchanged)
    while inbox.receive(SHORT_S) is not None:
        pass  # the repetitions


def welcome(publisher: Publisher, subscriber: Subscriber) -> bytes:
    """Lets `subscriber` join, and returns the first frame it gets."""

    def first() -> bytes | None:
        publisher.welcome_joiners()
        return subscriber.latest(SHORT_S)

    return eventually(first)


def kinds(role: Outbox | Inbox | Publisher | Subscriber) -> set[str]:
    return {event.kind for event in role.events()}


# ---- the contract ----------------------------------------------------------------------------


def test_what_is_sent_arrives_in_order(transport: Transport) -> None:
    inbox, outbox = transport.inbox(), transport.outbox()
    frames = [b"", b"one", bytes(range(256)) * 1000]
    received = []
    for frame in frames:
        assert outbox.send(frame, DEADLINE_S)
        received.append(inbox.receive(DEADLINE_S))
    assert received == frames
    assert inbox.receive(0) is None


def test_an_actor_may_start_before_the_learner(transport: Transport) -> None:
    outbox = transport.outbox()
    assert not outbox.send(b"too early", SHORT_S)
    inbox = transport.inbox()
    assert outbox.send(b"in time", DEADLINE_S)
    assert inbox.receive(DEADLINE_S) == b"in time"  # what was refused has not been queued


def test_a_returning_learner_is_found_again(transport: Transport) -> None:
    outbox, inbox = transport.outbox(), transport.inbox()
    deliver(outbox, inbox, b"before")
    inbox.close()
    inbox = transport.inbox()
    deliver(outbox, inbox, b"after")


def test_many_actors_share_one_inbox(transport: Transport) -> None:
    inbox = transport.inbox()
    for number in range(5):
        deliver(transport.outbox(), inbox, b"actor %d" % number)


def test_a_reader_that_never_reads_stops_the_sender(transport: Transport) -> None:
    inbox, outbox = transport.inbox(), transport.outbox()
    deliver(outbox, inbox, b"connected")
    accepted = 0
    # 200 ms: long enough for libzmq's thread to move what can be moved.
    while accepted < 200 and outbox.send(bytes(15_000), 0.2):
        accepted += 1
    # With the kernel's default buffers it is just under 200.
    assert accepted < 60
    eventually(lambda: inbox.receive(SHORT_S))
    eventually(lambda: inbox.receive(SHORT_S) is None)
    assert outbox.send(b"room again", DEADLINE_S)


def test_a_late_subscriber_gets_the_last_value(transport: Transport) -> None:
    publisher = transport.publisher()
    publisher.publish(b"v1")
    publisher.publish(b"v2")
    for _ in range(3):
        assert welcome(publisher, transport.subscriber()) == b"v2"
    assert publisher.welcome_joiners() == 0


def test_joiners_before_the_first_value_get_it_when_it_comes(transport: Transport) -> None:
    publisher, subscriber = transport.publisher(), transport.subscriber()
    eventually(publisher.welcome_joiners)
    assert subscriber.latest(SHORT_S) is None
    publisher.publish(b"v1")
    assert subscriber.latest(DEADLINE_S) == b"v1"


def test_every_joiner_is_counted_and_gets_what_follows(transport: Transport) -> None:
    publisher = transport.publisher()
    subscribers = [transport.subscriber() for _ in range(3)]
    joined = 0

    def all_joined() -> bool:
        nonlocal joined
        joined += publisher.welcome_joiners()
        return joined == 3

    eventually(all_joined)
    publisher.publish(b"v1")
    assert [subscriber.latest(DEADLINE_S) for subscriber in subscribers] == [b"v1"] * 3


def test_a_joiner_during_the_pause_between_re_sends_is_not_forgotten(
    context: zmq.SyncContext,
) -> None:
    publisher = ZmqPublisher(context, "tcp://127.0.0.1:*", resend_interval_s=0.3)
    publisher.publish(b"v1")
    for _ in range(3):
        subscriber = ZmqSubscriber(context, publisher.endpoint, max_message_bytes=MAX_BYTES)
        assert welcome(publisher, subscriber) == b"v1"
        subscriber.close()
    publisher.close()


def test_a_slow_subscriber_gets_the_newest_of_many(transport: Transport) -> None:
    publisher, slow, pace = transport.publisher(), transport.subscriber(), transport.subscriber()
    publisher.publish(b"000")
    assert welcome(publisher, slow) == welcome(publisher, pace) == b"000"
    for frame in [b"%03d" % number for number in range(1, 101)]:
        publisher.publish(frame)  # the next when this one is there, so none is dropped
        while pace.latest(DEADLINE_S) == b"000":
            pass  # re-sends to joiners
    seen: list[bytes] = []
    while not seen or seen[-1] < b"100":
        seen.append(eventually(lambda: slow.latest(SHORT_S)))
    assert seen == sorted(seen)
    assert len(seen) < 10  # of a hundred; usually one


def test_nothing_to_get_is_none(transport: Transport) -> None:
    assert transport.inbox().receive(SHORT_S) is None
    assert transport.subscriber().latest(SHORT_S) is None
    transport.publisher().publish(b"to nobody")


def test_waiting_below_zero_is_not_for_ever(transport: Transport) -> None:
    assert transport.inbox().receive(-1) is None
    assert transport.subscriber().latest(-1) is None
    transport.outbox().send(b"x", -1)


def test_close_may_be_repeated(transport: Transport) -> None:
    roles = (
        transport.outbox(),
        transport.inbox(),
        transport.publisher(),
        transport.subscriber(),
    )
    for role in roles:
        role.close()
        role.close()


# ---- what only a network can do --------------------------------------------------------------


def test_an_eager_actor_starves_no_other(zeromq: ZmqTransport) -> None:
    inbox, eager, other = zeromq.inbox(), zeromq.outbox(), zeromq.outbox()
    deliver(other, inbox, b"other")
    deliver(eager, inbox, b"eager")
    eager.send(b"eager", DEADLINE_S)  # from here on one of its frames always waits
    eager.send(b"eager", DEADLINE_S)
    other.send(b"other", DEADLINE_S)
    received = []
    while b"other" not in received and len(received) < 60:
        time.sleep(0.01)  # the learner's work on one message; not there to wait for anything
        received.append(inbox.receive(DEADLINE_S))
        eager.send(b"eager", DEADLINE_S)
    # With a plain recv() on the PULL it is the 101st or so.
    assert b"other" in received


def test_events_tell_of_a_learner_that_comes_goes_and_returns(zeromq: ZmqTransport) -> None:
    outbox = zeromq.outbox()
    eventually(lambda: (outbox.send(b"x", SHORT_S), "retried" in kinds(outbox))[1])
    inbox = zeromq.inbox()
    deliver(outbox, inbox, b"before")
    assert "connected" in kinds(outbox)
    assert "connected" in kinds(inbox)
    inbox.close()
    eventually(lambda: (outbox.send(b"x", SHORT_S), "disconnected" in kinds(outbox))[1])
    inbox = zeromq.inbox()
    deliver(outbox, inbox, b"after")
    assert "connected" in kinds(outbox)


def test_a_subscriber_follows_a_returning_learner(zeromq: ZmqTransport) -> None:
    publisher, subscriber = zeromq.publisher(), zeromq.subscriber()
    publisher.publish(b"old")
    assert welcome(publisher, subscriber) == b"old"
    publisher.publish(b"old, never read")
    publisher.close()
    publisher = zeromq.publisher()
    publisher.publish(b"new")
    eventually(lambda: (publisher.welcome_joiners(), subscriber.latest(SHORT_S) == b"new")[1])
    eventually(lambda: subscriber.latest(SHORT_S) is None)
    assert {"connected", "disconnected"} <= kinds(subscriber)


def test_something_that_is_no_learner_is_reported(context: zmq.SyncContext) -> None:
    def answer_like_a_web_server() -> None:
        while True:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                if connection.recv(1) == b"q":
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        thread = threading.Thread(target=answer_like_a_web_server, daemon=True)
        thread.start()
        outbox = ZmqOutbox(context, f"tcp://127.0.0.1:{address[1]}")
        eventually(lambda: (outbox.send(b"x", SHORT_S), "handshake_failed" in kinds(outbox))[1])
        outbox.close()
        with socket.create_connection(address) as quit_now:
            quit_now.sendall(b"q")
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def test_a_silent_peer_is_found_by_heartbeats(context: zmq.SyncContext) -> None:
    found = threading.Event()
    cut = threading.Event()

    def pass_bytes_until_cut() -> None:
        near, _ = wire.accept()
        with near, socket.create_connection(("127.0.0.1", port_of(inbox))) as far:
            while not cut.is_set():
                for source in select.select([near, far], [], [], SHORT_S)[0]:
                    (far if source is near else near).sendall(source.recv(65536))
            found.wait(4 * DEADLINE_S)  # both connections stay open, and nothing passes

    inbox = ZmqInbox(context, "tcp://127.0.0.1:*", max_message_bytes=999, heartbeat_timeout_s=0.5)
    with socket.create_server(("127.0.0.1", 0)) as wire:
        passing = threading.Thread(target=pass_bytes_until_cut, daemon=True)
        passing.start()
        address = f"tcp://127.0.0.1:{wire.getsockname()[1]}"
        outbox = ZmqOutbox(context, address, heartbeat_timeout_s=0.5)
        deliver(outbox, inbox, b"connected")
        cut.set()
        eventually(lambda: (inbox.receive(SHORT_S), "disconnected" in kinds(inbox))[1])
        eventually(lambda: (outbox.send(b"x", SHORT_S), "disconnected" in kinds(outbox))[1])
        found.set()
        passing.join(DEADLINE_S)
        assert not passing.is_alive()
    inbox.close()
    outbox.close()


def test_undrained_events_do_not_stop_reconnecting(context: zmq.SyncContext) -> None:
    # A stranger that comes and goes makes two events each time; 2,004 of them stopped libzmq's
    # thread for good when the monitor had its default limit.
    inbox = ZmqInbox(context, "tcp://127.0.0.1:*", max_message_bytes=MAX_BYTES)
    address = ("127.0.0.1", port_of(inbox))
    for _ in range(1100):
        with socket.create_connection(address, timeout=DEADLINE_S) as stranger:
            assert stranger.recv(1)  # libzmq's greeting: it is still listening
    outbox = ZmqOutbox(context, inbox.endpoint)
    deliver(outbox, inbox, b"still here")
    outbox.close()
    inbox.close()


def test_an_oversized_message_costs_only_itself(zeromq: ZmqTransport) -> None:
    inbox, outbox = zeromq.inbox(max_message_bytes=1000), zeromq.outbox()
    deliver(outbox, inbox, b"before")
    eventually(lambda: outbox.send(bytes(1001), SHORT_S))
    eventually(lambda: "disconnected" in kinds(inbox))
    eventually(lambda: (outbox.send(b"after", SHORT_S), inbox.receive(SHORT_S) == b"after")[1])


def test_oversized_weights_are_not_taken(zeromq: ZmqTransport) -> None:
    publisher, subscriber = zeromq.publisher(), zeromq.subscriber(max_message_bytes=1000)
    eventually(publisher.welcome_joiners)
    publisher.publish(bytes(1001))
    eventually(lambda: (subscriber.latest(SHORT_S), "disconnected" in kinds(subscriber))[1])
    publisher.publish(b"right size")

    def joined_again() -> bool:
        subscriber.events()  # where the connection is made anew: libzmq itself would not
        publisher.welcome_joiners()
        return subscriber.latest(SHORT_S) == b"right size"

    eventually(joined_again)


def test_endpoint_has_the_real_port(context: zmq.SyncContext) -> None:
    inbox = ZmqInbox(context, "tcp://127.0.0.1:*", max_message_bytes=MAX_BYTES)
    publisher = ZmqPublisher(context, "tcp://127.0.0.1:*")
    for role in (inbox, publisher):
        assert role.endpoint == f"tcp://127.0.0.1:{port_of(role)}"
        role.close()


BAD_TO_BIND = [
    "tcp://127.0.0.1",
    "127.0.0.1:5555",
    "tcp://127.0.0.1:99999",
    "tcp://:5555",
    "foo://x",
]
BAD_TO_CONNECT = [*BAD_TO_BIND, "tcp://127.0.0.1:*", "tcp://127.0.0.1:0", "tcp://learner:port", ""]


@pytest.mark.parametrize("address", [*BAD_TO_BIND, "tcp://192.0.2.1:5555", "tcp://nowhere0:5555"])
def test_an_address_that_cannot_be_bound_is_named(context: zmq.SyncContext, address: str) -> None:
    with pytest.raises(SocketAddressError, match="cannot bind") as inbox:
        ZmqInbox(context, address, max_message_bytes=MAX_BYTES)
    with pytest.raises(SocketAddressError, match="cannot bind") as publisher:
        ZmqPublisher(context, address)
    assert repr(address) in str(inbox.value)
    assert "tcp://" in str(publisher.value).partition(": ")[2]  # the cure shows a right one


@pytest.mark.parametrize("address", BAD_TO_CONNECT)
def test_an_address_that_cannot_be_connected_to_is_named(
    context: zmq.SyncContext, address: str
) -> None:
    with pytest.raises(SocketAddressError, match="cannot connect") as outbox:
        ZmqOutbox(context, address)
    with pytest.raises(SocketAddressError, match="cannot connect"):
        ZmqSubscriber(context, address, max_message_bytes=MAX_BYTES)
    assert repr(address) in str(outbox.value)


def test_a_taken_port_says_so(context: zmq.SyncContext) -> None:
    inbox = ZmqInbox(context, "tcp://127.0.0.1:*", max_message_bytes=MAX_BYTES)
    with pytest.raises(SocketAddressError, match=f"{inbox.endpoint}.*taken.*another port"):
        ZmqPublisher(context, inbox.endpoint)
    inbox.close()


def test_an_unknown_host_is_retried_not_refused(context: zmq.SyncContext) -> None:
    outbox = ZmqOutbox(context, "tcp://learner.invalid:5555")
    assert not outbox.send(b"x", SHORT_S)
    outbox.close()


def test_unsent_frames_do_not_hold_up_the_end(context: zmq.SyncContext) -> None:
    for_ever = 3600.0  # or heartbeats would free the sender in the end
    inbox = ZmqInbox(
        context, "tcp://127.0.0.1:*", max_message_bytes=MAX_BYTES, heartbeat_timeout_s=for_ever
    )
    actors = zmq.Context()
    outbox = ZmqOutbox(actors, inbox.endpoint, hwm=1000, heartbeat_timeout_s=for_ever)
    for _ in range(1000):  # more than all buffers between the two hold
        assert outbox.send(bytes(15_000), DEADLINE_S)
    outbox.close()
    ended = threading.Thread(target=actors.term, daemon=True)
    ended.start()
    ended.join(DEADLINE_S)
    assert not ended.is_alive()
    inbox.close()
