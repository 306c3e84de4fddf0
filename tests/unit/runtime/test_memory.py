"""Memory sockets, beyond the contract in tests/integration/test_sockets.py."""

from __future__ import annotations

import threading

import pytest

from asyncade_runtime.transport.memory import MemoryBroadcast, MemoryQueue
from builders import frame_from

DEADLINE_S = 30.0


def test_a_full_queue_refuses_at_once_or_after_the_timeout() -> None:
    queue = MemoryQueue(capacity=2)
    inbox, outbox = queue.inbox(), queue.outbox()
    assert [outbox.send(b"%d" % number, 0) for number in range(3)] == [True, True, False]
    assert not outbox.send(b"3", 0.01)
    assert frame_from(inbox, 0) == b"0"
    assert outbox.send(b"4", 0)
    assert [frame_from(inbox, 0) for _ in range(3)] == [b"1", b"4", None]


@pytest.mark.parametrize("inbox_first", [True, False])
def test_a_waiting_sender_is_woken_by_a_reader(inbox_first: bool) -> None:
    """By one that makes room, or one that opens the inbox."""
    queue = MemoryQueue(capacity=1)
    outbox, frames = queue.outbox(), [b"second"]
    if inbox_first:
        inbox = queue.inbox()
        assert outbox.send(b"first", 0)  # the queue is full
        frames = [b"first", b"second"]
    taken: list[bool] = []
    sender = threading.Thread(target=lambda: taken.append(outbox.send(b"second", DEADLINE_S)))
    sender.start()
    if not inbox_first:
        inbox = queue.inbox()
    assert [frame_from(inbox, DEADLINE_S) for _ in frames] == frames
    sender.join(DEADLINE_S)
    assert taken == [True]


def test_frames_between_threads_arrive_once_and_in_order() -> None:
    queue = MemoryQueue(capacity=3)
    inbox = queue.inbox()

    def send_all(actor: int) -> None:
        outbox = queue.outbox()
        for number in range(100):
            assert outbox.send(b"%d %d" % (actor, number), DEADLINE_S)

    threads = [threading.Thread(target=send_all, args=(actor,)) for actor in range(4)]
    for thread in threads:
        thread.start()
    received = [frame_from(inbox, DEADLINE_S) for _ in range(400)]
    for thread in threads:
        thread.join(DEADLINE_S)
    assert frame_from(inbox, 0) is None
    for actor in range(4):
        mine = [frame for frame in received if frame and frame.startswith(b"%d " % actor)]
        assert mine == [b"%d %d" % (actor, number) for number in range(100)]


def test_closing_an_inbox_loses_its_frames() -> None:
    queue = MemoryQueue()
    inbox, outbox = queue.inbox(), queue.outbox()
    outbox.send(b"lost", 0)
    inbox.close()
    assert not outbox.send(b"refused", 0)
    inbox = queue.inbox()
    assert frame_from(inbox, 0) is None
    assert outbox.send(b"new", 0)
    assert frame_from(inbox, 0) == b"new"


def test_a_waiting_subscriber_is_woken_by_a_publish() -> None:
    broadcast = MemoryBroadcast()
    publisher, subscriber = broadcast.publisher(), broadcast.subscriber()
    got: list[bytes | None] = []
    waiting = threading.Thread(target=lambda: got.append(subscriber.latest(DEADLINE_S)))
    waiting.start()
    publisher.publish(b"v1")
    waiting.join(DEADLINE_S)
    assert got == [b"v1"]


def test_a_late_subscriber_gets_the_last_frame_when_welcomed() -> None:
    broadcast = MemoryBroadcast()
    publisher = broadcast.publisher()
    publisher.publish(b"v1")
    subscriber = broadcast.subscriber()
    assert subscriber.latest(0) is None
    assert publisher.welcome_joiners() == 1
    assert subscriber.latest(0) == b"v1"
    assert subscriber.latest(0) is None


def test_a_closed_subscriber_gets_no_frames() -> None:
    broadcast = MemoryBroadcast()
    publisher, subscriber = broadcast.publisher(), broadcast.subscriber()
    subscriber.close()
    publisher.publish(b"v1")
    assert subscriber.latest(0) is None


def test_memory_roles_have_no_events() -> None:
    queue, broadcast = MemoryQueue(), MemoryBroadcast()
    for role in (queue.outbox(), queue.inbox(), broadcast.publisher(), broadcast.subscriber()):
        assert role.events() == []
