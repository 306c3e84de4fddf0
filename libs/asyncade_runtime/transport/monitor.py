"""Monitors the connections of one ZeroMQ socket.

ZeroMQ hides connections by design: a PUSH socket with a wrong key or a dead peer only looks slow.
libzmq reports connection events on a monitor socket. Source: libzmq doc/zmq_socket_monitor.adoc.
"""

from __future__ import annotations

import errno
import time
import uuid

import zmq
from zmq.utils.monitor import recv_monitor_message

from asyncade_runtime.transport.roles import ConnectionEvent

# Not EVENT_CONNECTED or EVENT_ACCEPTED: they precede the handshake, which can still fail.
_WATCHED = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

_ONE_SIDE_HAS_KEYS = zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
_HANGS_UP = (errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED)  # any other: libzmq's timeout
_GIVEN_UP_S = 1.0  # libzmq announces a retry within a millisecond


class ConnectionMonitor:
    """Monitor of one socket; used by the thread that owns the socket."""

    def __init__(self, context: zmq.SyncContext, socket: zmq.SyncSocket) -> None:
        # A fresh name each time: libzmq frees the name of a closed monitor only later.
        address = f"inproc://connection-monitor-{uuid.uuid4()}"
        self._watched = socket
        self._monitor = context.socket(zmq.PAIR)
        # No limit: libzmq's I/O thread blocks on a full monitor. With the default limit, a socket
        # with undrained events stopped reconnecting after 2,004 of them (libzmq 4.3.5). An event
        # is a few bytes, and there is at most one every few seconds.
        # Socket.get_monitor_socket() connects before options can be set, so it is not used.
        self._monitor.set(zmq.RCVHWM, 0)
        self._monitor.set(zmq.LINGER, 0)
        socket.monitor(address, _WATCHED)
        self._monitor.connect(address)
        self._lost_at: float | None = None

    def drain(self) -> list[ConnectionEvent]:
        """Returns the events since the last call, oldest first, without blocking."""
        events: list[ConnectionEvent] = []
        while True:
            try:
                message = recv_monitor_message(self._monitor, zmq.NOBLOCK)
            except zmq.Again:
                return events
            event = _translated(message["event"], message["value"], message["endpoint"].decode())
            if event is not None:
                events.append(event)
                lost = event.kind in ("disconnected", "handshake_failed", "refused")
                self._lost_at = time.monotonic() if lost else None

    def gave_up(self) -> bool:
        """True if libzmq lost the connection and will not retry.

        After a protocol violation, such as a frame above MAXMSGSIZE, the side that detects it ends
        its session for good. If that is the connecting side, it never reconnects. Otherwise libzmq
        announces a retry at once. Only valid for a socket with one connection.
        """
        return self._lost_at is not None and time.monotonic() - self._lost_at > _GIVEN_UP_S

    def reset(self) -> None:
        """Clears `gave_up` after the owner has reconnected."""
        self._lost_at = None

    def close(self) -> None:
        """Stops monitoring. Call it before closing the monitored socket."""
        self._watched.disable_monitor()
        self._monitor.close()


def _translated(event: int, value: int, endpoint: str) -> ConnectionEvent | None:
    match event:
        case zmq.EVENT_HANDSHAKE_SUCCEEDED:
            return ConnectionEvent("connected", endpoint)
        case zmq.EVENT_DISCONNECTED:
            return ConnectionEvent("disconnected", endpoint)
        case zmq.EVENT_CONNECT_RETRIED:
            return ConnectionEvent("retried", endpoint, f"next attempt in {int(value)} ms")
        case zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            detail = f"the learner does not know the actor's key (ZAP status {int(value)})"
            return ConnectionEvent("refused", endpoint, detail)
        case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL if value == _ONE_SIDE_HAS_KEYS:
            detail = "one side has keys and the other has none"
            return ConnectionEvent("refused", endpoint, detail)
        case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            detail = f"the peer speaks another protocol (code {int(value):#x})"
        case zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL if value not in _HANGS_UP:
            detail = "the peer accepts connections and does not answer"
            return ConnectionEvent("unanswered", endpoint, detail)
        case zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            detail = f"the peer hung up during the handshake (errno {int(value)})"
        case _:
            return None  # libzmq always sends MONITOR_STOPPED
    return ConnectionEvent("handshake_failed", endpoint, detail)
