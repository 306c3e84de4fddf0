"""Base classes of the ZeroMQ roles: socket options, heartbeats, monitoring, closing."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import zmq

from asyncade_runtime.transport.addresses import SocketAddressError
from asyncade_runtime.transport.keys import ActorKeys, LearnerKeys
from asyncade_runtime.transport.monitor import ConnectionMonitor
from asyncade_runtime.transport.roles import ConnectionEvent

HEARTBEAT_TIMEOUT_S = 30.0
"""Seconds of silence after which a peer counts as dead.

Must exceed the longest pause between two calls of `Inbox.receive`. A full PULL socket stops reading
its connections, heartbeats included, and either side then declares the other dead: with a timeout
of 0.6 s, a reader that paused longer lost the connection and every unroll in flight (measured).
"""

_REFUSED_AFTER = 5  # failed handshakes in a row
# Together the longest time that a peer at a new address is not noticed: 10 s.
_CONNECT_TIMEOUT_MS = 3000  # a SYN to a dead address otherwise blocks for two minutes
_REBIND_S = 10.0  # longest wait for a port that was just closed; it takes a few milliseconds
_HANDSHAKE_TIMEOUT_MS = 5000  # whoever accepts for a dead peer never answers; libzmq waits for 30 s
_LONGEST_PAUSE_MS = 2000
_LONGEST_FAMILY_S = 2.0  # time on one address family before trying the other
_NUMERIC = re.compile(r"tcp://(\[.*\]|[\d.]+):")


class ZmqRole:
    """A socket and its monitor. All options are set before bind or connect.

    libzmq silently ignores most options that are set later, so sockets are only created here.

    Args:
        context: ZeroMQ context of the process.
        kind: such as ``zmq.PUSH``.
        attach: binds or connects the socket to an address, and returns the endpoint.
        address: such as ``tcp://learner:5555``.
        heartbeat_timeout_s: see `HEARTBEAT_TIMEOUT_S`.
        keys: see `asyncade_runtime.transport.keys`; None disables encryption.
        options: in addition to those of all roles, or in their place.

    Raises:
        SocketAddressError: the address is malformed, or cannot be bound.
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
        self._context, self._kind, self._attach = context, kind, attach
        heartbeat_ms = milliseconds(heartbeat_timeout_s)
        self._options = {
            zmq.LINGER: 0,
            zmq.HEARTBEAT_IVL: max(1, heartbeat_ms // 6),
            zmq.HEARTBEAT_TIMEOUT: heartbeat_ms,
            zmq.HEARTBEAT_TTL: heartbeat_ms,
            # Detects a peer that lost power, independently of heartbeats.
            zmq.TCP_KEEPALIVE: 1,
            zmq.TCP_KEEPALIVE_IDLE: 30,
            zmq.TCP_KEEPALIVE_INTVL: 5,
            zmq.TCP_KEEPALIVE_CNT: 3,
            zmq.CONNECT_TIMEOUT: _CONNECT_TIMEOUT_MS,
            zmq.HANDSHAKE_IVL: _HANDSHAKE_TIMEOUT_MS,
            # Doubling and randomised: a hundred actors must not reconnect all at once.
            zmq.RECONNECT_IVL: 100,
            zmq.RECONNECT_IVL_MAX: _LONGEST_PAUSE_MS,
            **options,
            **(keys.options() if keys else {}),
        }
        self._open(address)

    def _open(self, address: str) -> None:
        self._socket = self._context.socket(self._kind)
        for option, value in self._options.items():
            self._socket.set(option, value)
        self._monitor = ConnectionMonitor(self._context, self._socket)
        try:
            self.endpoint = self._attach(self._socket, address)
        except SocketAddressError:
            self.close()
            raise

    def events(self) -> list[ConnectionEvent]:
        """Returns the connection events since the last call, without blocking."""
        return self._monitor.drain()

    def close(self) -> None:
        """Closes the socket and its monitor. A second call does nothing."""
        if not self._socket.closed:
            self._monitor.close()
            self._socket.close()


class BindingRole(ZmqRole):
    """A role that binds. When keys are revoked it closes all connections and binds again.

    Peers with other keys connect again by themselves; what was on its way from or to them is lost.
    """

    _revocations = 0

    def events(self) -> list[ConnectionEvent]:
        """Returns the connection events since the last call, without blocking."""
        self._renew()
        return super().events()

    def _open(self, address: str) -> None:
        if isinstance(self._keys, LearnerKeys):
            self._revocations = self._keys.admitted.revocations()
        super()._open(address)

    def _renew(self) -> None:
        """Opens the socket anew if keys were revoked since it was opened."""
        if not isinstance(self._keys, LearnerKeys):
            return
        if self._revocations == self._keys.admitted.revocations():
            return
        self.close()
        deadline = time.monotonic() + _REBIND_S
        while True:
            try:
                self._open(self.endpoint)
            except SocketAddressError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)  # libzmq's thread has yet to release the port
            else:
                return


class ConnectingRole(ZmqRole):
    """A role that connects. It reconnects forever, and reports when retrying is pointless."""

    _failures = 0
    _hang_ups = 0
    _next_family_at = 0.0
    _family_s = 0.5

    def events(self) -> list[ConnectionEvent]:
        """Returns the connection events since the last call, without blocking."""
        # libzmq names the resolved address, and a stale one after the peer has moved.
        events = [replace(event, endpoint=self.endpoint) for event in super().events()]
        events += self._refusals(events)
        if self._monitor.gave_up():
            self._reconnect()
            events.append(
                ConnectionEvent("retried", self.endpoint, "libzmq had given up; reconnecting")
            )
            self._monitor.reset()
        self._alternate_families(events)
        return events

    def _reconnect(self) -> None:
        self._socket.disconnect(self.endpoint)
        self._socket.connect(self.endpoint)

    def _alternate_families(self, events: list[ConnectionEvent]) -> None:
        """While a host name does not answer, tries its IPv4 and IPv6 addresses in turn.

        libzmq resolves a name to one family only, and never tries the other.
        """
        if _NUMERIC.match(self.endpoint) or not self.endpoint.startswith("tcp://"):
            return
        for event in events:
            if event.kind == "connected":
                self._family_s = ConnectingRole._family_s
            elif event.kind == "retried" and time.monotonic() >= self._next_family_at:
                self._next_family_at = time.monotonic() + self._family_s
                self._family_s = min(2 * self._family_s, _LONGEST_FAMILY_S)
                self._socket.set(zmq.IPV6, int(not self._socket.get(zmq.IPV6)))
                self._reconnect()

    def _refusals(self, events: list[ConnectionEvent]) -> list[ConnectionEvent]:
        """Distinguishes a learner with another key from one that is restarting.

        With the wrong learner key, ZeroMQ only reports that the peer hung up. A restarting learner
        also hangs up now and then, but not in `_REFUSED_AFTER` handshakes in a row. One that is
        paused hangs up never: its kernel accepts, and the handshake times out.
        """
        for event in events:
            if event.kind == "connected":
                self._failures = self._hang_ups = 0
            elif event.kind == "unanswered":
                self._hang_ups -= 1  # the disconnect that follows is ours
            elif event.kind == "handshake_failed":
                self._failures += 1
            elif event.kind == "disconnected":
                self._hang_ups += 1
        if self._hang_ups - self._failures >= _REFUSED_AFTER:
            self._hang_ups = self._failures
            detail = "the peer hangs up at once; are the upstream and weights addresses swapped?"
            return [ConnectionEvent("handshake_failed", self.endpoint, detail)]
        if self._keys is None or self._failures < _REFUSED_AFTER:
            return []
        self._failures = 0
        detail = "the learner has another key than the one in our folder of keys, or has none"
        return [ConnectionEvent("refused", self.endpoint, detail)]


def wait_for_any(
    readable: Sequence[ZmqRole], writable: Sequence[ZmqRole], timeout_s: float
) -> None:
    """Blocks until a role can be read or written, or until the timeout.

    For a thread that owns several roles: waiting for one at a time would delay the others. Call
    the ready role with a timeout of 0.

    Args:
        readable: inboxes, subscribers, and publishers, which read subscriptions.
        writable: outboxes; an unconnected outbox has no room.
        timeout_s: in seconds.
    """
    poller = zmq.Poller()
    for role in readable:
        poller.register(role._socket, zmq.POLLIN)
    for role in writable:
        poller.register(role._socket, zmq.POLLOUT)
    poller.poll(milliseconds(timeout_s))


def milliseconds(seconds: float) -> int:
    """Converts a timeout for libzmq; never negative, as -1 would mean forever."""
    return max(0, math.ceil(seconds * 1000))
