"""From the inbox to messages: in the learner's thread, or ahead of it in a thread of its own.

A learner on a CPU gains nothing from a second thread. With a GPU, the next messages are received,
decompressed and checked while it updates, so no update waits for that.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from asyncade_proto.codec import decode, sender_of
from asyncade_proto.errors import DecodeError
from asyncade_proto.messages import Upstream, Weights
from asyncade_runtime.admission import Dropped
from asyncade_runtime.stages import Stages
from asyncade_runtime.transport.roles import ConnectionEvent, Envelope, Inbox, Peer

_AHEAD: Final = 4
"""Decoded messages that may wait; more stay in the sockets, which hold the actors back."""

_NOT_READ: Final = Dropped("shut_out", "a frame of a peer that is shut out")

_POLL_S: Final = 0.1
"""Longest time in seconds that the thread blocks, and so delays its end."""


@dataclass(frozen=True, slots=True)
class Received:
    """One frame from the inbox.

    Attributes:
        size: of the frame, in bytes.
        content: the message, or why the frame is none that actors send, or was not read.
        peer: that sent it.
        actor_id: as the frame claims; None if it names none.
    """

    size: int
    content: Upstream | DecodeError | Dropped
    peer: Peer
    actor_id: str | None


class Receiver:
    """The learner's source of messages. Decodes in the caller's thread.

    Args:
        inbox: used by this thread only.
        stages: accounts for the caller's time.
        shut_out: true of a peer whose frames are not to be read.
    """

    def __init__(
        self, inbox: Inbox, stages: Stages, shut_out: Callable[[Peer], bool] = lambda peer: False
    ) -> None:
        self._inbox = inbox
        self._stages = stages
        self._shut_out = shut_out

    def receive(self, timeout_s: float) -> Received | None:
        """Returns the next frame, decoded; None if none arrived within `timeout_s` seconds."""
        self._stages.enter("wait")
        envelope = self._inbox.receive(timeout_s)
        self._stages.enter("decode")
        return None if envelope is None else self._read(envelope)

    def events(self) -> list[ConnectionEvent]:
        """Returns connection events since the last call, without blocking."""
        return self._inbox.events()

    def close(self) -> None:
        """Releases the inbox, which stays open. A second call does nothing."""

    def _read(self, envelope: Envelope) -> Received:
        frame, peer = envelope.frame, envelope.peer
        if self._shut_out(peer):
            return Received(len(frame), _NOT_READ, peer, None)
        try:
            message = decode(frame)
        except DecodeError as error:
            return Received(len(frame), error, peer, _claimed(frame))
        if isinstance(message, Weights):
            misplaced = DecodeError("malformed", "weights on the upstream socket")
            return Received(len(frame), misplaced, peer, None)
        return Received(len(frame), message, peer, message.actor_id)


class ThreadedReceiver(Receiver):
    """Decodes ahead in a thread of its own, the only one to use the inbox until `close`."""

    def __init__(
        self, inbox: Inbox, stages: Stages, shut_out: Callable[[Peer], bool] = lambda peer: False
    ) -> None:
        super().__init__(inbox, stages, shut_out)
        self._decoded: queue.Queue[Received | BaseException] = queue.Queue(_AHEAD)
        self._events: queue.SimpleQueue[ConnectionEvent] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)
        self._thread.start()

    def receive(self, timeout_s: float) -> Received | None:
        """Returns the oldest decoded frame.

        Raises:
            Exception: whatever ended the thread.
        """
        self._stages.enter("wait")
        try:
            found = self._decoded.get(timeout=max(timeout_s, 0.0))
        except queue.Empty:
            return None
        finally:
            self._stages.enter("decode")
        if isinstance(found, BaseException):
            raise found
        return found

    def events(self) -> list[ConnectionEvent]:
        """Returns the events that the thread has taken from the inbox."""
        return [self._events.get() for _ in range(self._events.qsize())]

    def close(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                for event in self._inbox.events():
                    self._events.put(event)
                envelope = self._inbox.receive(_POLL_S)
                if envelope is not None:
                    self._hand_over(self._read(envelope))
        except BaseException as error:
            self._hand_over(error)

    def _hand_over(self, found: Received | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._decoded.put(found, timeout=_POLL_S)
            except queue.Full:
                continue
            return


def _claimed(frame: bytes) -> str | None:
    """Returns the id of a frame that cannot be decoded: behind a relay, the peer is not to blame.

    None if it names none; a relay forwards no such frame.
    """
    try:
        return sender_of(frame).actor_id
    except DecodeError:
        return None
