"""The socket roles within one process: same semantics, no network.

For tests and for in-process training, where one thread steps actor and learner or each has a
thread. Thread-safe.
"""

from __future__ import annotations

import threading
from collections import deque

from asyncade_runtime.transport.roles import ConnectionEvent


class MemoryQueue:
    """A bounded queue with any number of `Outbox` sides and one `Inbox` side.

    As over ZeroMQ, frames are refused while there is no inbox, and closing the inbox loses the
    frames that it has not received.

    Args:
        capacity: frames in the queue at most.
    """

    def __init__(self, capacity: int = 2) -> None:
        self._capacity = capacity
        self._frames: deque[bytes] = deque()
        self._inboxes = 0
        self._changed = threading.Condition()

    def outbox(self) -> MemoryOutbox:
        """Returns a new sending side."""
        return MemoryOutbox(self)

    def inbox(self) -> MemoryInbox:
        """Returns the receiving side; frames are accepted from now on."""
        return MemoryInbox(self)

    def _open(self) -> None:
        with self._changed:
            self._inboxes += 1
            self._changed.notify_all()

    def _close(self) -> None:
        with self._changed:
            self._inboxes -= 1
            if not self._inboxes:
                self._frames.clear()

    def _put(self, frame: bytes, timeout_s: float) -> bool:
        with self._changed:
            if not self._changed.wait_for(self._has_room, timeout_s):
                return False
            self._frames.append(frame)
            self._changed.notify_all()
            return True

    def _take(self, timeout_s: float) -> bytes | None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._frames, timeout_s):
                return None
            self._changed.notify_all()
            return self._frames.popleft()

    def _has_room(self) -> bool:
        return self._inboxes > 0 and len(self._frames) < self._capacity


class _MemoryRole:
    """Has no connections, so no events."""

    endpoint = "memory"

    def events(self) -> list[ConnectionEvent]:
        """Returns an empty list."""
        return []

    def close(self) -> None:
        """Closes the role. A second call does nothing."""


class MemoryOutbox(_MemoryRole):
    """The `Outbox` side of a `MemoryQueue`."""

    def __init__(self, queue: MemoryQueue) -> None:
        self._queue = queue

    def send(self, frame: bytes, timeout_s: float) -> bool:
        """Queues one frame; returns False if there is no room within `timeout_s` seconds."""
        return self._queue._put(frame, timeout_s)


class MemoryInbox(_MemoryRole):
    """The `Inbox` side of a `MemoryQueue`."""

    def __init__(self, queue: MemoryQueue) -> None:
        self._queue = queue
        self._open = True
        queue._open()

    def receive(self, timeout_s: float) -> bytes | None:
        """Returns the next frame; None if none arrives within `timeout_s` seconds."""
        return self._queue._take(timeout_s)

    def close(self) -> None:
        """Refuses further frames and drops the queued ones. A second call does nothing."""
        if self._open:
            self._open = False
            self._queue._close()


class MemoryBroadcast:
    """A `Publisher` side and any number of `Subscriber` sides."""

    def __init__(self) -> None:
        self._newest: dict[MemorySubscriber, bytes | None] = {}
        self._joined = 0
        self._changed = threading.Condition()

    def publisher(self) -> MemoryPublisher:
        """Returns the publishing side."""
        return MemoryPublisher(self)

    def subscriber(self) -> MemorySubscriber:
        """Returns a new subscriber; `welcome_joiners` sends it the last frame."""
        return MemorySubscriber(self)

    def _subscribe(self, subscriber: MemorySubscriber) -> None:
        with self._changed:
            self._newest[subscriber] = None
            self._joined += 1

    def _unsubscribe(self, subscriber: MemorySubscriber) -> None:
        with self._changed:
            self._newest.pop(subscriber, None)

    def _count_joined(self) -> int:
        with self._changed:
            joined, self._joined = self._joined, 0
            return joined

    def _send(self, frame: bytes) -> None:
        with self._changed:
            self._newest = dict.fromkeys(self._newest, frame)
            self._changed.notify_all()

    def _take(self, subscriber: MemorySubscriber, timeout_s: float) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest.get(subscriber) is not None, timeout_s)
            frame = self._newest.get(subscriber)
            if frame is not None:
                self._newest[subscriber] = None
            return frame


class MemoryPublisher(_MemoryRole):
    """The `Publisher` side of a `MemoryBroadcast`."""

    def __init__(self, broadcast: MemoryBroadcast) -> None:
        self._broadcast = broadcast
        self._last_frame: bytes | None = None

    def publish(self, frame: bytes) -> None:
        """Sends `frame` to every subscriber and keeps it for late subscribers. Never blocks."""
        self._last_frame = frame
        self._broadcast._send(frame)

    def welcome_joiners(self) -> int:
        """Re-sends the last frame if there are new subscribers; returns their number."""
        joined = self._broadcast._count_joined()
        if joined and self._last_frame is not None:
            self._broadcast._send(self._last_frame)
        return joined


class MemorySubscriber(_MemoryRole):
    """A `Subscriber` side of a `MemoryBroadcast`."""

    def __init__(self, broadcast: MemoryBroadcast) -> None:
        self._broadcast = broadcast
        broadcast._subscribe(self)

    def latest(self, timeout_s: float) -> bytes | None:
        """Returns the newest frame not yet returned; None if none arrives in `timeout_s` s."""
        return self._broadcast._take(self, timeout_s)

    def close(self) -> None:
        """Leaves the broadcast. A second call does nothing."""
        self._broadcast._unsubscribe(self)
