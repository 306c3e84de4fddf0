"""From the inbox to messages: in the learner's own thread, or ahead of it in another one.

A processor that trains gains nothing from a second thread. A GPU does: while it updates, the next
messages are received, decompressed and checked, so that no update waits for that.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import Final, Protocol

from asyncade_proto.codec import decode
from asyncade_proto.errors import DecodeError
from asyncade_proto.messages import Message
from asyncade_runtime.stages import Stages
from asyncade_runtime.transport.roles import ConnectionEvent, Inbox

_AHEAD: Final = 4
"""Messages decoded and not yet asked for; more wait in the sockets, which hold the actors back."""

_POLL_S: Final = 0.1
"""How long the thread blocks at a time: what the end of it waits for at most."""


@dataclass(frozen=True, slots=True)
class Received:
    """One frame that came in.

    Attributes:
        size: of the frame, in bytes.
        content: the message, or what is wrong with the frame.
    """

    size: int
    content: Message | DecodeError


class Receiver(Protocol):
    """Where the learner takes its messages from."""

    def receive(self, timeout_s: float) -> Received | None:
        """Returns the next frame's content; None when there was none for `timeout_s` seconds."""
        ...

    def events(self) -> list[ConnectionEvent]:
        """Returns what happened to the connections since the last call, without blocking."""
        ...

    def close(self) -> None:
        """Lets go of the inbox, which stays open. A second call does nothing."""
        ...


class InlineReceiver:
    """Decodes in the caller's thread.

    Args:
        inbox: used by this thread alone.
        stages: told what the time goes into.
    """

    def __init__(self, inbox: Inbox, stages: Stages) -> None:
        self._inbox = inbox
        self._stages = stages

    def receive(self, timeout_s: float) -> Received | None:
        """Waits for a frame and decodes it."""
        self._stages.enter("wait")
        frame = self._inbox.receive(timeout_s)
        self._stages.enter("decode")
        return None if frame is None else _read(frame)

    def events(self) -> list[ConnectionEvent]:
        """Returns the inbox's."""
        return self._inbox.events()

    def close(self) -> None:
        """Nothing to let go of."""


class ThreadedReceiver:
    """Decodes ahead, in a thread of its own. That thread alone uses the inbox until `close`.

    Args:
        inbox: handed over to the thread.
        stages: told of the caller's waiting.
    """

    def __init__(self, inbox: Inbox, stages: Stages) -> None:
        self._inbox = inbox
        self._stages = stages
        self._decoded: queue.Queue[Received | BaseException] = queue.Queue(_AHEAD)
        self._events: queue.SimpleQueue[ConnectionEvent] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)
        self._thread.start()

    def receive(self, timeout_s: float) -> Received | None:
        """Returns what was decoded first.

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
        """Returns those that the thread has seen."""
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
                frame = self._inbox.receive(_POLL_S)
                if frame is not None:
                    self._hand_over(_read(frame))
        except BaseException as error:
            self._hand_over(error)

    def _hand_over(self, found: Received | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._decoded.put(found, timeout=_POLL_S)
            except queue.Full:
                continue
            return


def _read(frame: bytes) -> Received:
    try:
        return Received(len(frame), decode(frame))
    except DecodeError as error:
        return Received(len(frame), error)
