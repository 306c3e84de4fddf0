"""Both receivers return the same messages in order; the threaded one decodes ahead."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from asyncade_learner import receiving
from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.receiving import Received, Receiver, ThreadedReceiver
from asyncade_learner.settings import LearnerSettings
from asyncade_proto.codec import decode, encode
from asyncade_proto.errors import DecodeError
from asyncade_proto.messages import Gradients, Message
from asyncade_runtime.admission import Dropped
from asyncade_runtime.transport.memory import MemoryInbox, MemoryQueue
from asyncade_runtime.transport.roles import ConnectionEvent, Envelope, Peer
from builders import gradients

PATIENCE_S = 60.0  # only a failing test waits this long

Make = Callable[..., Receiver]


def stages() -> object:
    return LearnerMetrics(CollectorRegistry()).stages


@pytest.fixture(params=[Receiver, ThreadedReceiver])
def make(request: pytest.FixtureRequest) -> Make:
    return lambda inbox, *shut_out: request.param(inbox, stages(), *shut_out)


def frame(sequence: int) -> bytes:
    return encode(gradients(sequence=sequence))


def filled(queue: MemoryQueue, count: int) -> None:
    outbox = queue.outbox()
    for number in range(count):
        outbox.send(frame(number), PATIENCE_S)


def sequence_of(received: Received | None) -> int:
    assert received is not None
    assert isinstance(received.content, Gradients)
    return received.content.sequence


def test_messages_come_in_order_with_their_size(make: Make) -> None:
    queue = MemoryQueue(10)
    receiver = make(queue.inbox())
    filled(queue, 3)
    received = [receiver.receive(PATIENCE_S) for _ in range(3)]
    assert [sequence_of(one) for one in received] == [0, 1, 2]
    assert {one.size for one in received if one} == {len(frame(0))}
    assert receiver.receive(0.0) is None
    receiver.close()


def test_junk_is_returned_as_an_error_before_the_next_message(make: Make) -> None:
    queue = MemoryQueue(10)
    receiver, outbox = make(queue.inbox()), queue.outbox()
    outbox.send(b"junk", PATIENCE_S)
    outbox.send(frame(7), PATIENCE_S)
    junk = receiver.receive(PATIENCE_S)
    assert junk is not None
    assert isinstance(junk.content, DecodeError)
    assert (junk.size, junk.content.reason) == (4, "not_ours")
    assert sequence_of(receiver.receive(PATIENCE_S)) == 7
    receiver.close()


class Counting(MemoryInbox):
    """Sets `reached` once `expected` frames were taken from it."""

    def __init__(self, queue: MemoryQueue, expected: int) -> None:
        super().__init__(queue)
        self.taken = 0
        self.expected = expected
        self.reached = threading.Event()
        self.threads: set[str] = set()

    def receive(self, timeout_s: float) -> Envelope | None:
        self.threads.add(threading.current_thread().name)
        found = super().receive(timeout_s)
        self.taken += found is not None
        if self.taken == self.expected:
            self.reached.set()
        return found


def test_a_thread_decodes_ahead_of_receive() -> None:
    """Four decoded frames wait, and one more is about to: more would only become stale."""
    queue = MemoryQueue(100)
    inbox = Counting(queue, expected=5)
    filled(queue, 20)
    receiver = ThreadedReceiver(inbox, stages())
    assert inbox.reached.wait(PATIENCE_S)  # before the first receive
    assert [sequence_of(receiver.receive(PATIENCE_S)) for _ in range(20)] == list(range(20))
    assert inbox.threads == {"receiver"}
    receiver.close()
    assert receiver.receive(0.0) is None


def test_a_thread_leaves_further_frames_in_the_socket() -> None:
    queue = MemoryQueue(100)
    inbox = Counting(queue, expected=5)
    filled(queue, 20)
    receiver = ThreadedReceiver(inbox, stages())
    assert inbox.reached.wait(PATIENCE_S)
    receiver.close()  # joins the thread
    assert inbox.taken == 5


def test_an_error_in_the_thread_is_raised_by_receive() -> None:
    class Broken(MemoryInbox):
        def receive(self, timeout_s: float) -> Envelope | None:
            raise RuntimeError("the socket is gone")

    receiver = ThreadedReceiver(Broken(MemoryQueue(1)), stages())
    with pytest.raises(RuntimeError, match="the socket is gone"):
        receiver.receive(PATIENCE_S)
    receiver.close()


def test_connection_events_are_passed_on(make: Make) -> None:
    event = ConnectionEvent("connected", "tcp://x:1")

    class Eventful(MemoryInbox):
        returned = False

        def events(self) -> list[ConnectionEvent]:
            first, self.returned = not self.returned, True
            return [event] if first else []

    queue = MemoryQueue(1)
    receiver = make(Eventful(queue))
    queue.outbox().send(frame(0), PATIENCE_S)
    assert sequence_of(receiver.receive(PATIENCE_S)) == 0  # the thread has asked for events
    assert receiver.events() == [event]
    assert receiver.events() == []
    receiver.close()


@pytest.mark.parametrize(
    ("setting", "device", "ahead"),
    [(None, "cpu", False), (None, "cuda", True), (True, "cpu", True), (False, "cuda", False)],
)
def test_a_gpu_learner_decodes_ahead_by_default(
    setting: bool | None, device: str, ahead: bool
) -> None:
    assert LearnerSettings(decode_ahead=setting).decodes_ahead(device) is ahead


def test_frames_of_a_peer_that_is_shut_out_are_not_decoded(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = MemoryQueue(10)
    inbox = queue.inbox()
    good, bad = Peer("10.0.0.1"), Peer("10.0.0.2", "k" * 40)
    for number, peer in enumerate((bad, good, bad)):
        queue.outbox(peer).send(frame(number), PATIENCE_S)
    seen = list[bytes]()

    def decoded(data: bytes) -> Message:
        seen.append(data)
        return decode(data)

    monkeypatch.setattr(receiving, "decode", decoded)
    receiver = make(inbox, lambda peer: peer == bad)
    received = [one for _ in range(3) if (one := receiver.receive(PATIENCE_S))]
    assert [one.peer for one in received] == [bad, good, bad]
    reasons = [one.content.reason for one in received if isinstance(one.content, Dropped)]
    assert reasons == ["shut_out", "shut_out"]
    assert seen == [frame(1)]
    receiver.close()


def test_a_frame_that_cannot_be_decoded_still_names_its_sender(make: Make) -> None:
    queue = MemoryQueue(10)
    receiver, outbox = make(queue.inbox()), queue.outbox()
    outbox.send(frame(0)[:-1], PATIENCE_S)
    outbox.send(b"junk", PATIENCE_S)
    received = [one for _ in range(2) if (one := receiver.receive(PATIENCE_S))]
    assert [one.actor_id for one in received] == [gradients().actor_id, None]
    receiver.close()
