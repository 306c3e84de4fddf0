"""Watches the connections of one ZeroMQ socket.

ZeroMQ hides connections by design: a PUSH with a wrong key or a dead peer only looks slow. libzmq
tells the truth on a monitor socket, drained here. Source: libzmq doc/zmq_socket_monitor.adoc.
"""

from __future__ import annotations

import time
import uuid

import zmq
from zmq.utils.monitor import recv_monitor_message

from asyncade_runtime.transport.roles import ConnectionEvent

# Not EVENT_CONNECTED or EVENT_ACCEPTED: those report TCP, before the handshake, which can fail.
_WATCHED = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

_GIVEN_UP_S = 1.0  # libzmq announces a retry within a millisecond


class ConnectionMonitor:
    """The monitor of one socket; lives in the thread that owns that socket."""

    def __init__(self, context: zmq.SyncContext, socket: zmq.SyncSocket) -> None:
        # Never used twice: libzmq frees the name of a closed monitor only some time later.
        address = f"inproc://connection-monitor-{uuid.uuid4()}"
        self._watched = socket
        self._monitor = context.socket(zmq.PAIR)
        # libzmq's I/O thread blocks on a full monitor: with the default limit a socket whose events
        # nobody drained stopped reconnecting after 2,004 of them (measured, libzmq 4.3.5). Without
        # a limit an undrained event costs some bytes, and there is at most one every few seconds.
        # Socket.get_monitor_socket() connects before an option can be set, hence by hand.
        self._monitor.set(zmq.RCVHWM, 0)
        self._monitor.set(zmq.LINGER, 0)
        socket.monitor(address, _WATCHED)
        self._monitor.connect(address)
        self._lost_at: float | None = None

    def drain(self) -> list[ConnectionEvent]:
        """Returns what happened since the last call, oldest first, without blocking."""
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
        """Whether libzmq lost the connection and does not try again.

        After a violation of the protocol, such as a frame above MAXMSGSIZE, the side that notices
        ends its session for good. If that is the connecting side, nobody will connect again.
        Otherwise a retry is announced at once. Only for a socket with one connection.
        """
        return self._lost_at is not None and time.monotonic() - self._lost_at > _GIVEN_UP_S

    def reset(self) -> None:
        """Forgets that libzmq gave up: its owner connected anew."""
        self._lost_at = None

    def close(self) -> None:
        """Stops watching. Call it before the watched socket is closed."""
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
        case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            detail = f"the peer speaks another protocol or none we know (code {int(value):#x})"
        case zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            detail = f"the peer hung up during the handshake (errno {int(value)})"
        case _:
            return None  # MONITOR_STOPPED comes whatever was asked for
    return ConnectionEvent("handshake_failed", endpoint, detail)
