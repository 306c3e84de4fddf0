"""What every ZeroMQ role has: options, heartbeats, a monitor, and an end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import zmq

from asyncade_runtime.transport.addresses import SocketAddressError
from asyncade_runtime.transport.keys import ActorKeys, LearnerKeys
from asyncade_runtime.transport.monitor import ConnectionMonitor
from asyncade_runtime.transport.roles import ConnectionEvent

HEARTBEAT_TIMEOUT_S = 30.0
"""Seconds of silence after which a peer counts as dead.

It must exceed the longest pause between two calls of `Inbox.receive`. A full PULL stops reading its
connections, heartbeats included, and *either* side then takes the other for dead: with a timeout of
0.6 s, a reader that paused longer lost the connection and every unroll in flight (measured).
"""


_REFUSED_AFTER = 5


class ZmqRole:
    """A socket and its monitor. Every option is set here, before bind or connect.

    libzmq ignores most options that are set later, without a word, so this is the one place where
    a socket is made.
    """

    def __init__(
        self,
        context: zmq.SyncContext,
        kind: int,
        attach: Callable[[zmq.SyncSocket, str], str],
        address: str,
        heartbeat_timeout_s: float,
        keys: ActorKeys | LearnerKeys | None,
        options: Mapping[zmq.SocketOption, int],
    ) -> None:
        self._keys = keys
        heartbeat_ms = milliseconds(heartbeat_timeout_s)
        self._socket = context.socket(kind)
        for option, value in {
            zmq.LINGER: 0,
            zmq.HEARTBEAT_IVL: max(1, heartbeat_ms // 6),
            zmq.HEARTBEAT_TIMEOUT: heartbeat_ms,
            zmq.HEARTBEAT_TTL: heartbeat_ms,
            # Finds a connection whose other end lost power, below the heartbeats.
            zmq.TCP_KEEPALIVE: 1,
            zmq.TCP_KEEPALIVE_IDLE: 30,
            zmq.TCP_KEEPALIVE_INTVL: 5,
            zmq.TCP_KEEPALIVE_CNT: 3,
            # Doubling and randomised, so that a hundred actors do not storm a returning learner.
            zmq.RECONNECT_IVL: 100,
            zmq.RECONNECT_IVL_MAX: 5000,
            **options,
            **(keys.options() if keys else {}),
        }.items():
            self._socket.set(option, value)
        self._monitor = ConnectionMonitor(context, self._socket)
        try:
            self.endpoint = attach(self._socket, address)
        except SocketAddressError:
            self.close()
            raise

    def events(self) -> list[ConnectionEvent]:
        """Returns what happened to the connections since the last call, without blocking."""
        return self._monitor.drain()

    def close(self) -> None:
        """Closes the socket and its monitor. A second call does nothing."""
        if not self._socket.closed:
            self._monitor.close()
            self._socket.close()


class ConnectingRole(ZmqRole):
    """A role that connects, and never stops trying, but says when that has become of no use."""

    _failures = 0

    def events(self) -> list[ConnectionEvent]:
        """Returns what happened to the connections since the last call, without blocking."""
        events = super().events()
        events += self._refusals(events)
        if self._monitor.gave_up():
            self._socket.disconnect(self.endpoint)
            self._socket.connect(self.endpoint)
            events.append(
                ConnectionEvent("retried", self.endpoint, "libzmq had given up, connecting anew")
            )
            self._monitor.reset()
        return events

    def _refusals(self, events: list[ConnectionEvent]) -> list[ConnectionEvent]:
        """Tells a learner with another key from one that is just being started again.

        ZeroMQ cannot: whoever has the wrong key of the learner only sees it hang up. A learner that
        goes away does that once in a while, but not in `_REFUSED_AFTER` handshakes in a row.
        """
        for event in events:
            if event.kind == "connected":
                self._failures = 0
            elif event.kind == "handshake_failed":
                self._failures += 1
        if self._keys is None or self._failures < _REFUSED_AFTER:
            return []
        self._failures = 0
        detail = "the learner's key is not the one in our folder of keys, or it uses none"
        return [ConnectionEvent("refused", self.endpoint, detail)]


def wait_for_any(
    readable: Sequence[ZmqRole], writable: Sequence[ZmqRole], timeout_s: float
) -> None:
    """Returns as soon as one role has something to read, or one has room to send; or in time.

    For a thread that owns several roles: waiting for each in turn would delay the others. What a
    role has is then taken with a timeout of 0.

    Args:
        readable: inboxes, subscribers, and publishers, which read subscriptions.
        writable: outboxes; one that nobody is connected to has no room.
        timeout_s: how long at most, in seconds.
    """
    poller = zmq.Poller()
    for role in readable:
        poller.register(role._socket, zmq.POLLIN)
    for role in writable:
        poller.register(role._socket, zmq.POLLOUT)
    poller.poll(milliseconds(timeout_s))


def milliseconds(seconds: float) -> int:
    """Returns a timeout as libzmq wants it; never below zero, as -1 would mean for ever."""
    return max(0, math.ceil(seconds * 1000))
