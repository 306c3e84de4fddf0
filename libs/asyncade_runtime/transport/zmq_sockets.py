"""The socket roles over ZeroMQ: PUSH to PULL for what actors send, XPUB to SUB for weights.

The context may be shared by threads, a socket may not: whoever makes a role object is the only one
to use and close it. Terminate the context last, once every role is closed; it then waits at most
one second for what an `Outbox` still holds.
"""

from __future__ import annotations

import math
import time

import zmq

from asyncade_runtime.transport.addresses import SocketAddressError, bind, connect
from asyncade_runtime.transport.keys import ActorKeys, LearnerKeys
from asyncade_runtime.transport.roles import ConnectionEvent, Inbox, Outbox, Publisher, Subscriber
from asyncade_runtime.transport.zmq_role import (
    HEARTBEAT_TIMEOUT_S,
    ConnectingRole,
    ZmqRole,
    milliseconds,
    wait_for_any,
)

__all__ = [
    "EVERY_VERSION_HWM",
    "HEARTBEAT_TIMEOUT_S",
    "ConnectionEvent",
    "Inbox",
    "Outbox",
    "Publisher",
    "SocketAddressError",
    "Subscriber",
    "ZmqInbox",
    "ZmqOutbox",
    "ZmqPublisher",
    "ZmqSubscriber",
    "wait_for_any",
]

# HWM counts messages, not bytes, and does not know the kernel's buffers: at HWM 2 a PULL that never
# read still took 198 unrolls of 15 kB with the system's buffers, 17 with these (measured).
_KERNEL_BUFFER_BYTES = 64 * 1024
# What a leaving actor may spend on its last unroll: far below any grace period of an orchestrator.
_OUTBOX_LINGER_MS = 1000
# A subscription is one byte: whoever sends the publisher more than this is no actor.
_MAX_SUBSCRIPTION_BYTES = 1024
# When a subscriber's queue is full, XPUB drops the *newest* frame. A publish, a re-send to joiners
# and the next publish can fall into one moment: of such bursts HWM 2 lost the last one every time,
# HWM 4 never (measured with 100 kB frames).
_PUBLISHER_HWM = 4

EVERY_VERSION_HWM = 4
"""`ZmqSubscriber`'s `hwm` for who asks all the time, takes the newest and must not miss one."""


class ZmqOutbox(ConnectingRole):
    """An `Outbox` on a PUSH socket that connects.

    Args:
        context: of this process.
        address: of the learner's inbox, such as ``tcp://learner:5555``. The name is looked up again
            at every attempt, so the learner may move, or not exist yet.
        hwm: frames queued inside this process.
        keys: see `asyncade_runtime.transport.keys`; None encrypts nothing.
        heartbeat_timeout_s: see `HEARTBEAT_TIMEOUT_S`.

    Raises:
        SocketAddressError: the address is wrong as written.
    """

    def __init__(
        self,
        context: zmq.SyncContext,
        address: str,
        *,
        hwm: int = 2,
        keys: ActorKeys | None = None,
        heartbeat_timeout_s: float = HEARTBEAT_TIMEOUT_S,
    ) -> None:
        options = {
            # Refuse while there is no learner; queued, the unrolls would be the stalest data a
            # restarted learner gets.
            zmq.IMMEDIATE: 1,
            zmq.SNDHWM: hwm,
            zmq.SNDBUF: _KERNEL_BUFFER_BYTES,
            zmq.LINGER: _OUTBOX_LINGER_MS,
        }
        super().__init__(context, zmq.PUSH, connect, address, heartbeat_timeout_s, keys, options)

    def send(self, frame: bytes, timeout_s: float) -> bool:
        """Hands over one frame; False when nobody took it for `timeout_s` seconds."""
        self._socket.set(zmq.SNDTIMEO, milliseconds(timeout_s))
        try:
            self._socket.send(frame)
        except zmq.Again:
            return False
        return True


class ZmqInbox(ZmqRole):
    """An `Inbox` on a PULL socket that binds.

    Args:
        context: of this process.
        address: to bind, such as ``tcp://*:5555``; ``tcp://127.0.0.1:*`` takes a free port.
        max_message_bytes: largest frame accepted. An actor that sends a larger one is disconnected
            and comes back; that frame and the few it had queued behind it are lost.
        hwm: frames queued inside this process, per actor.
        keys: see `asyncade_runtime.transport.keys`; None encrypts nothing.
        heartbeat_timeout_s: see `HEARTBEAT_TIMEOUT_S`.

    Raises:
        SocketAddressError: the address is wrong or taken.
    """

    def __init__(
        self,
        context: zmq.SyncContext,
        address: str,
        *,
        max_message_bytes: int,
        hwm: int = 2,
        keys: LearnerKeys | None = None,
        heartbeat_timeout_s: float = HEARTBEAT_TIMEOUT_S,
    ) -> None:
        options = {
            zmq.RCVHWM: hwm,
            zmq.RCVBUF: _KERNEL_BUFFER_BYTES,
            zmq.MAXMSGSIZE: max_message_bytes,
        }
        super().__init__(context, zmq.PULL, bind, address, heartbeat_timeout_s, keys, options)

    def receive(self, timeout_s: float) -> bytes | None:
        """Returns the next frame, or None when there was none for `timeout_s` seconds."""
        return _receive(self._socket, timeout_s)


class ZmqPublisher(ZmqRole):
    """A `Publisher` on an XPUB socket that binds, with last-value caching.

    Args:
        context: of this process.
        address: to bind, such as ``tcp://*:5556``; ``tcp://127.0.0.1:*`` takes a free port.
        resend_interval_s: at most one re-send to joiners in this many seconds, so that a hundred
            actors starting together cost a few broadcasts and not a hundred.
        keys: see `asyncade_runtime.transport.keys`; None encrypts nothing.
        heartbeat_timeout_s: see `HEARTBEAT_TIMEOUT_S`.

    Raises:
        SocketAddressError: the address is wrong or taken.

    Source: zguide chapter 5, "Last Value Caching".
    """

    def __init__(
        self,
        context: zmq.SyncContext,
        address: str,
        *,
        resend_interval_s: float = 0.25,
        keys: LearnerKeys | None = None,
        heartbeat_timeout_s: float = HEARTBEAT_TIMEOUT_S,
    ) -> None:
        options = {
            # Without it only the first of several subscribers is announced.
            zmq.XPUB_VERBOSE: 1,
            zmq.SNDHWM: _PUBLISHER_HWM,
            zmq.MAXMSGSIZE: _MAX_SUBSCRIPTION_BYTES,
        }
        super().__init__(context, zmq.XPUB, bind, address, heartbeat_timeout_s, keys, options)
        self._resend_interval_s = resend_interval_s
        self._resent_at = -math.inf
        self._last_frame: bytes | None = None
        self._joiner_waits = False

    def publish(self, frame: bytes) -> None:
        """Sends `frame` to every subscriber and keeps it for late ones. Never blocks."""
        self._last_frame = frame
        # Asking for the events makes libzmq notice which queues have room again. It saves itself
        # that work when sends follow each other closely, and then drops frames for nothing: 58 of
        # 300 that were published one after the other's arrival (measured).
        self._socket.get(zmq.EVENTS)
        # XPUB drops for a slow subscriber instead of blocking, so this cannot raise zmq.Again.
        self._socket.send(frame, zmq.NOBLOCK)
        self._joiner_waits = False  # joiners seen so far are subscribed and got this very frame

    def welcome_joiners(self) -> int:
        """Sends the last frame once more if anybody subscribed; returns how many did."""
        joined = 0
        while (subscription := _receive(self._socket, 0)) is not None:
            joined += subscription.startswith(b"\x01")  # \x00 is a subscriber leaving
        self._joiner_waits = self._joiner_waits or joined > 0
        now = time.monotonic()
        due = now - self._resent_at >= self._resend_interval_s
        if self._joiner_waits and self._last_frame is not None and due:
            self._resent_at = now
            self.publish(self._last_frame)
        return joined


class ZmqSubscriber(ConnectingRole):
    """A `Subscriber` on a SUB socket that connects.

    Args:
        context: of this process.
        address: of the learner's publisher, such as ``tcp://learner:5556``.
        max_message_bytes: largest frame accepted; a publisher that sends a larger one is left.
        hwm: frames queued inside this process, for who asks for the newest all the time and must
            not miss one; by default only the newest is kept (CONFLATE), which suits who asks
            seldom. CONFLATE loses a frame that comes in the very instant in which the socket is
            asked: 27 of 186,000, where 256 sockets were asked without pause (measured; libzmq
            4.3.5, dbuffer.hpp: a write that finds the buffer locked is not made up for); none of
            96,000, where it was waited for or asked every 2 ms. An ordinary queue lost none of
            344,000, but holds old frames after a pause: decision 9.
        keys: see `asyncade_runtime.transport.keys`; None encrypts nothing.
        heartbeat_timeout_s: see `HEARTBEAT_TIMEOUT_S`.

    Raises:
        SocketAddressError: the address is wrong as written.
    """

    def __init__(
        self,
        context: zmq.SyncContext,
        address: str,
        *,
        max_message_bytes: int,
        hwm: int | None = None,
        keys: ActorKeys | None = None,
        heartbeat_timeout_s: float = HEARTBEAT_TIMEOUT_S,
    ) -> None:
        options = {
            # Keep only the newest frame, in libzmq's own thread. The alternatives hold old weights:
            # a small RCVHWM keeps the *oldest* frames and makes the publisher drop the newest, a
            # large one holds hundreds of megabytes while the actor plays. CONFLATE breaks messages
            # of several parts; ours have one.
            **({zmq.CONFLATE: 1} if hwm is None else {zmq.RCVHWM: hwm}),
            zmq.MAXMSGSIZE: max_message_bytes,
        }
        super().__init__(context, zmq.SUB, connect, address, heartbeat_timeout_s, keys, options)
        self._socket.subscribe(b"")

    def latest(self, timeout_s: float) -> bytes | None:
        """Returns the newest frame not yet returned; None when none came in `timeout_s` s."""
        newest = _receive(self._socket, timeout_s)
        # CONFLATE keeps one frame per connection, and after a reconnect the old connection's may
        # still be there, before the new one's.
        while newest is not None and (newer := _receive(self._socket, 0)) is not None:
            newest = newer
        return newest


def _receive(socket: zmq.SyncSocket, timeout_s: float) -> bytes | None:
    # Not recv() with a timeout: while one actor always has a frame waiting, recv() looks for news
    # of the others only at every hundredth call (inbound_poll_rate in libzmq's config.hpp), and a
    # busy learner starves them for minutes. poll() looks every time.
    return socket.recv() if socket.poll(milliseconds(timeout_s)) else None
