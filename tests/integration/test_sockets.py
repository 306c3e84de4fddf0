"""The socket roles: one contract for ZeroMQ and memory."""

from __future__ import annotations

import zmq

from asyncade_runtime.transport.zmq_sockets import ZmqPublisher, ZmqSubscriber
from builders import frame_from
from integration.transports import (
    DEADLINE_S,
    MAX_BYTES,
    SHORT_S,
    Transport,
    deliver,
    eventually,
    welcome,
)


def test_frames_arrive_in_order(transport: Transport) -> None:
    inbox, outbox = transport.inbox(), transport.outbox()
    frames = [b"", b"one", bytes(range(256)) * 1000]
    received = []
    for frame in frames:
        assert outbox.send(frame, DEADLINE_S)
        received.append(frame_from(inbox, DEADLINE_S))
    assert received == frames
    assert inbox.receive(0) is None


def test_an_actor_may_start_before_the_learner(transport: Transport) -> None:
    outbox = transport.outbox()
    assert not outbox.send(b"too early", SHORT_S)
    inbox = transport.inbox()
    assert outbox.send(b"in time", DEADLINE_S)
    assert frame_from(inbox, DEADLINE_S) == b"in time"  # the refused frame was not queued


def test_a_restarted_learner_is_found_again(transport: Transport) -> None:
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
    # 200 ms: enough for libzmq's thread to fill all buffers.
    while accepted < 200 and outbox.send(bytes(15_000), 0.2):
        accepted += 1
    # With the kernel's default buffers it would be just under 200.
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


def test_a_subscriber_that_joins_between_two_re_sends_is_welcomed(
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
        publisher.publish(frame)  # one at a time, so none is dropped
        while pace.latest(DEADLINE_S) == b"000":
            pass  # re-sends to joiners
    seen: list[bytes] = []
    while not seen or seen[-1] < b"100":
        seen.append(eventually(lambda: slow.latest(SHORT_S)))
    assert seen == sorted(seen)
    assert len(seen) < 10  # of a hundred; usually one


def test_without_a_frame_receiving_returns_none(transport: Transport) -> None:
    assert transport.inbox().receive(SHORT_S) is None
    assert transport.subscriber().latest(SHORT_S) is None
    transport.publisher().publish(b"to nobody")


def test_a_negative_timeout_does_not_wait(transport: Transport) -> None:
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
