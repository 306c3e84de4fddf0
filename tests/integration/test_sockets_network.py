"""The socket roles over ZeroMQ: what can only happen on a network."""

from __future__ import annotations

import select
import socket
import threading
import time
from pathlib import Path

import pytest
import zmq

from asyncade_runtime.transport.addresses import SocketAddressError
from asyncade_runtime.transport.keys import load_actor_keys, make_keys
from asyncade_runtime.transport.roles import ConnectionEvent
from asyncade_runtime.transport.zmq_sockets import ZmqInbox, ZmqOutbox, ZmqPublisher, ZmqSubscriber
from builders import frame_from
from integration.transports import (
    DEADLINE_S,
    MAX_BYTES,
    SHORT_S,
    ZmqTransport,
    deliver,
    eventually,
    kinds,
    port_of,
    welcome,
)


def test_a_fast_sender_does_not_starve_others(zeromq: ZmqTransport) -> None:
    inbox, fast, other = zeromq.inbox(), zeromq.outbox(), zeromq.outbox()
    deliver(other, inbox, b"other")
    deliver(fast, inbox, b"fast")
    fast.send(b"fast", DEADLINE_S)  # from now on one of its frames always waits
    fast.send(b"fast", DEADLINE_S)
    other.send(b"other", DEADLINE_S)
    received = []
    while b"other" not in received and len(received) < 60:
        time.sleep(0.01)  # the learner's work on one message, not a wait for a condition
        received.append(frame_from(inbox, DEADLINE_S))
        fast.send(b"fast", DEADLINE_S)
    # With a plain recv() on the PULL socket it would be about the 101st.
    assert b"other" in received


def test_events_report_a_learner_that_starts_ends_and_restarts(zeromq: ZmqTransport) -> None:
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


def test_a_subscriber_follows_a_restarted_learner(zeromq: ZmqTransport) -> None:
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


def test_a_paused_subscriber_gets_the_newest_although_all_buffers_were_full(
    context: zmq.SyncContext,
) -> None:
    """A full queue stops reading, and then the publisher drops the newest frames."""
    publisher = ZmqPublisher(context, "tcp://127.0.0.1:*", resend_interval_s=0.05)
    limit = 2 * MAX_BYTES
    paused = ZmqSubscriber(context, publisher.endpoint, max_message_bytes=limit)
    pace = ZmqSubscriber(context, publisher.endpoint, max_message_bytes=limit, hwm=100)
    publisher.publish(b"00")
    assert welcome(publisher, paused) == welcome(publisher, pace) == b"00"
    frames = [b"%02d" % number + bytes(MAX_BYTES) for number in range(1, 60)]
    for frame in frames:
        publisher.publish(frame)
        eventually(lambda frame=frame: pace.latest(SHORT_S) == frame)
    seen: list[bytes] = []
    eventually(lambda: seen.append(paused.latest(SHORT_S) or b"") or seen[-1] == frames[-1])
    for role in (publisher, paused, pace):
        role.close()


def test_a_peer_of_another_protocol_is_reported(context: zmq.SyncContext) -> None:
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
            found.wait(4 * DEADLINE_S)  # both connections stay open without traffic

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
    # Each connection makes two events; with the monitor's default limit, 2,004 of them stopped
    # libzmq's thread for good.
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
    eventually(lambda: (outbox.send(b"after", SHORT_S), frame_from(inbox, SHORT_S) == b"after")[1])


def test_oversized_weights_are_refused(zeromq: ZmqTransport) -> None:
    publisher, subscriber = zeromq.publisher(), zeromq.subscriber(max_message_bytes=1000)
    eventually(publisher.welcome_joiners)
    publisher.publish(bytes(1001))
    eventually(lambda: (subscriber.latest(SHORT_S), "disconnected" in kinds(subscriber))[1])
    publisher.publish(b"right size")

    def joined_again() -> bool:
        subscriber.events()  # reconnects, which libzmq itself does not
        publisher.welcome_joiners()
        return subscriber.latest(SHORT_S) == b"right size"

    eventually(joined_again)


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
    assert "tcp://" in str(publisher.value).partition(": ")[2]  # shows a correct address


@pytest.mark.parametrize("address", BAD_TO_CONNECT)
def test_an_address_that_cannot_be_connected_to_is_named(
    context: zmq.SyncContext, address: str
) -> None:
    with pytest.raises(SocketAddressError, match="cannot connect") as outbox:
        ZmqOutbox(context, address)
    with pytest.raises(SocketAddressError, match="cannot connect"):
        ZmqSubscriber(context, address, max_message_bytes=MAX_BYTES)
    assert repr(address) in str(outbox.value)


def test_a_taken_port_is_named(context: zmq.SyncContext) -> None:
    inbox = ZmqInbox(context, "tcp://127.0.0.1:*", max_message_bytes=MAX_BYTES)
    with pytest.raises(SocketAddressError, match=inbox.endpoint):
        ZmqPublisher(context, inbox.endpoint)
    inbox.close()


def test_unsent_frames_do_not_delay_termination(context: zmq.SyncContext) -> None:
    never = 3600.0  # otherwise heartbeats would free the sender
    inbox = ZmqInbox(
        context, "tcp://127.0.0.1:*", max_message_bytes=MAX_BYTES, heartbeat_timeout_s=never
    )
    actors = zmq.Context()
    outbox = ZmqOutbox(actors, inbox.endpoint, hwm=1000, heartbeat_timeout_s=never)
    for _ in range(1000):  # more than all buffers hold
        assert outbox.send(bytes(15_000), DEADLINE_S)
    outbox.close()
    ended = threading.Thread(target=actors.term, daemon=True)
    ended.start()
    ended.join(DEADLINE_S)
    assert not ended.is_alive()
    inbox.close()


def test_a_subscriber_without_a_welcome_subscribes_again(context: zmq.SyncContext) -> None:
    with context.socket(zmq.XPUB) as publisher:
        publisher.set(zmq.LINGER, 0)
        publisher.set(zmq.XPUB_VERBOSE, 1)
        publisher.bind("tcp://127.0.0.1:*")
        subscriber = ZmqSubscriber(
            context, publisher.get_string(zmq.LAST_ENDPOINT), max_message_bytes=MAX_BYTES
        )

        def subscription() -> bool:
            subscriber.events()
            assert subscriber.latest(0) is None
            return bool(publisher.poll(20)) and publisher.recv() == b"\x01"

        eventually(subscription)  # unanswered: the welcome is lost
        eventually(subscription)
        publisher.send(b"weights")
        assert subscriber.latest(DEADLINE_S) == b"weights"
        subscriber.close()


def test_an_unanswered_connect_is_retried(context: zmq.SyncContext) -> None:
    """A listener with a full backlog drops the SYN, as a dead address does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        outbox = ZmqOutbox(context, f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        # By default the kernel would repeat the SYN for two minutes.
        eventually(lambda: "retried" in kinds(outbox))
        outbox.close()
        for one in waiting:
            one.close()


def test_a_peer_that_accepts_and_says_nothing_is_neither_refusal_nor_swap(
    context: zmq.SyncContext, tmp_path: Path
) -> None:
    """The kernel accepts for a stopped learner: actors once ended, as if it had another key."""
    make_keys(tmp_path / "keys")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        roles = [
            ZmqOutbox(context, address),
            ZmqOutbox(context, address, keys=load_actor_keys(tmp_path / "keys/actor")),
        ]
        for role in roles:
            role._socket.set(zmq.HANDSHAKE_IVL, 20)
            role._reconnect()
            events: list[ConnectionEvent] = []

            def unanswered(role=role, events=events) -> bool:  # type: ignore[no-untyped-def]
                events.extend(role.events())
                return sum(event.kind == "unanswered" for event in events) > 12

            eventually(unanswered)
            assert {event.kind for event in events} == {"unanswered", "disconnected", "retried"}
            role.close()


def test_a_peer_at_a_new_address_is_found_within_twelve_seconds(context: zmq.SyncContext) -> None:
    """A connect, or a handshake, that never completes, and the pause after it."""
    outbox = ZmqOutbox(context, "tcp://127.0.0.1:9")
    limits = (zmq.CONNECT_TIMEOUT, zmq.HANDSHAKE_IVL, zmq.RECONNECT_IVL_MAX)
    assert sum(outbox._socket.get(limit) for limit in limits) <= 12_000
    outbox.close()


@pytest.mark.parametrize(
    ("bound", "host"),
    [("tcp://[::1]:*", "[::1]"), ("tcp://*:*", "[::1]"), ("tcp://*:*", "127.0.0.1")],
)
def test_both_ip_versions_connect(context: zmq.SyncContext, bound: str, host: str) -> None:
    inbox = ZmqInbox(context, bound, max_message_bytes=MAX_BYTES)
    outbox = ZmqOutbox(context, f"tcp://{host}:{port_of(inbox)}")
    deliver(outbox, inbox, b"x")
    outbox.close()
    inbox.close()


def test_an_unresolved_name_is_tried_in_both_ip_versions(context: zmq.SyncContext) -> None:
    outbox = ZmqOutbox(context, "tcp://no-such-name.invalid:5555")
    seen = set()
    eventually(lambda: (outbox.events(), seen.add(outbox._socket.get(zmq.IPV6)), len(seen) == 2)[2])
    outbox.close()


def test_events_name_the_address_of_the_settings(context: zmq.SyncContext) -> None:
    """libzmq writes the address that the name had at first, also after the learner has moved."""
    inbox = ZmqInbox(context, "tcp://127.0.0.1:*", max_message_bytes=MAX_BYTES)
    address = f"tcp://localhost:{port_of(inbox)}"
    outbox = ZmqOutbox(context, address)
    events: list[ConnectionEvent] = []

    def happened(kind: str) -> bool:
        events.extend(outbox.events())
        return kind in {event.kind for event in events}

    eventually(lambda: happened("connected"))
    inbox.close()
    eventually(lambda: happened("disconnected") and happened("retried"))
    assert {event.endpoint for event in events} == {address}
    outbox.close()


def test_swapped_addresses_are_suspected(zeromq: ZmqTransport) -> None:
    publisher = zeromq.publisher()
    outbox = ZmqOutbox(zeromq._context, publisher.endpoint)
    try:
        eventually(
            lambda: any(
                event.kind == "handshake_failed" and "swapped" in event.detail
                for event in outbox.events()
            )
        )
    finally:
        outbox.close()
