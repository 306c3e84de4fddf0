"""The socket roles within one process: same semantics, no network.

For tests and for in-process training, where one thread steps actor and learner or each has a
thread. Thread-safe.
"""

from __future__ import annotations

import threading
from collections import deque

from asyncade_runtime.transport.roles import ConnectionEvent, Envelope, Peer

_HERE = Peer("memory")


class MemoryQueue:
    """A bounded queue with any number of `Outbox` sides and one `Inbox` side.

    As over ZeroMQ, frames are refused while there is no inbox, and closing the inbox loses the
    frames that it has not received.

    Args:
        capacity: frames in the queue at most.
    """

    def __init__(self, capacity: int = 2) -> None:
        self._capacity = capacity
        self._frames: deque[Envelope] = deque()
        self._inboxes = 0
        self._changed = threading.Condition()

    def outbox(self, peer: Peer = _HERE) -> MemoryOutbox:
        """Returns a new sending side, which the inbox knows as `peer`."""
        return MemoryOutbox(self, peer)

    def inbox(self) -> MemoryInbox:
        """Returns the receiving side; frames are accepted from now on."""
        return MemoryInbox(self)

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

    def __init__(self, queue: MemoryQueue, peer: Peer = _HERE) -> None:
        self._queue = queue
        self._peer = peer

    def send(self, frame: bytes, timeout_s: float) -> bool:
        """Queues one frame; returns False if there is no room within `timeout_s` seconds."""
        queue = self._queue
        with queue._changed:
            if not queue._changed.wait_for(queue._has_room, timeout_s):
                return False
            queue._frames.append(Envelope(frame, self._peer))
            queue._changed.notify_all()
            return True


class MemoryInbox(_MemoryRole):
    """The `Inbox` side of a `MemoryQueue`."""

    def __init__(self, queue: MemoryQueue) -> None:
        self._queue = queue
        self._open = True
        with queue._changed:
            queue._inboxes += 1
            queue._changed.notify_all()

    def receive(self, timeout_s: float) -> Envelope | None:
        """Returns the next frame; None if none arrives within `timeout_s` seconds."""
        queue = self._queue
        with queue._changed:
            if not queue._changed.wait_for(lambda: queue._frames, timeout_s):
                return None
            queue._changed.notify_all()
            return queue._frames.popleft()

    def close(self) -> None:
        """Refuses further frames and drops the queued ones. A second call does nothing."""
        if self._open:
            self._open = False
            with self._queue._changed:
                self._queue._inboxes -= 1
                if not self._queue._inboxes:
                    self._queue._frames.clear()


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


class MemoryPublisher(_MemoryRole):
    """The `Publisher` side of a `MemoryBroadcast`."""

    def __init__(self, broadcast: MemoryBroadcast) -> None:
        self._broadcast = broadcast
        self._last_frame: bytes | None = None

    def publish(self, frame: bytes) -> None:
        """Sends `frame` to every subscriber and keeps it for late subscribers. Never blocks."""
        self._last_frame = frame
        with self._broadcast._changed:
            self._broadcast._newest = dict.fromkeys(self._broadcast._newest, frame)
            self._broadcast._changed.notify_all()

    def welcome_joiners(self) -> int:
        """Re-sends the last frame if there are new subscribers; returns their number."""
        with self._broadcast._changed:
            joined, self._broadcast._joined = self._broadcast._joined, 0
        if joined and self._last_frame is not None:
            self.publish(self._last_frame)
        return joined


class MemorySubscriber(_MemoryRole):
    """A `Subscriber` side of a `MemoryBroadcast`."""

    def __init__(self, broadcast: MemoryBroadcast) -> None:
        self._broadcast = broadcast
        with broadcast._changed:
            broadcast._newest[self] = None
            broadcast._joined += 1

    def latest(self, timeout_s: float) -> bytes | None:
        """Returns the newest frame not yet returned; None if none arrives in `timeout_s` s."""
        broadcast = self._broadcast
        with broadcast._changed:
            broadcast._changed.wait_for(lambda: broadcast._newest.get(self) is not None, timeout_s)
            frame = broadcast._newest.get(self)
            if frame is not None:
                broadcast._newest[self] = None
            return frame

    def close(self) -> None:
        """Leaves the broadcast. A second call does nothing."""
        with self._broadcast._changed:
            self._broadcast._newest.pop(self, None)
