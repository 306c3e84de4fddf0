"""The socket roles over ZeroMQ: PUSH to PULL for actors' messages, XPUB to SUB for weights.

Threads may share a context but not a socket: the thread that creates a role uses and closes it.
Terminate the context last, once every role is closed; it then waits at most one second for frames
that an `Outbox` still holds. `ZmqRole` documents the arguments that all roles have.
"""

from __future__ import annotations

import math
import time

import zmq

from asyncade_proto.limits import MAX_MESSAGE_BYTES
from asyncade_runtime.transport.addresses import bind, connect
from asyncade_runtime.transport.keys import ActorKeys, LearnerKeys
from asyncade_runtime.transport.roles import ConnectionEvent, Envelope, Peer
from asyncade_runtime.transport.zmq_role import (
    HEARTBEAT_TIMEOUT_S,
    BindingRole,
    ConnectingRole,
    milliseconds,
)

# HWM counts messages, not bytes, and ignores the kernel's buffers: at HWM 2 a PULL socket that
# never read accepted 198 unrolls of 15 kB with default buffers, and 17 with these (measured).
_KERNEL_BUFFER_BYTES = 64 * 1024
# Time to send the last unroll on exit: far below any orchestrator's grace period.
_OUTBOX_LINGER_MS = 1000
# A subscription is one byte; a peer that sends more than this is not an actor.
_MAX_SUBSCRIPTION_BYTES = 1024
# When a subscriber's queue is full, XPUB drops the *newest* frame. A publish, a re-send to joiners
# and the next publish can coincide: HWM 2 lost the last frame of such bursts every time, HWM 4
# never (measured with 100 kB frames).
_PUBLISHER_HWM = 4
_ASK_AGAIN_S = 1.0  # a welcome takes milliseconds

EVERY_VERSION_HWM = 4
"""Receive high-water mark for subscribers that poll continuously and must see every version."""


class ZmqOutbox(ConnectingRole):
    """An `Outbox` on a PUSH socket that connects.

    Args:
        address: of the learner's inbox, such as ``tcp://learner:5555``. Every attempt resolves the
            name again, so the learner may move, or not exist yet.
        hwm: frames queued in this process.
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
            # Do not queue while there is no learner: a restarted learner would get stale unrolls.
            zmq.IMMEDIATE: 1,
            zmq.SNDHWM: hwm,
            zmq.SNDBUF: _KERNEL_BUFFER_BYTES,
            zmq.LINGER: _OUTBOX_LINGER_MS,
        }
        super().__init__(context, zmq.PUSH, connect, address, heartbeat_timeout_s, keys, options)

    def send(self, frame: bytes, timeout_s: float) -> bool:
        """Queues one frame; returns False if there is no room within `timeout_s` seconds."""
        self._socket.set(zmq.SNDTIMEO, milliseconds(timeout_s))
        try:
            self._socket.send(frame)
        except zmq.Again:
            return False
        return True


class ZmqInbox(BindingRole):
    """An `Inbox` on a PULL socket that binds.

    Args:
        address: to bind, such as ``tcp://*:5555``; ``tcp://127.0.0.1:*`` picks a free port.
        max_message_bytes: largest frame accepted. An actor that sends a larger one is disconnected
            and reconnects; that frame and the few queued behind it are lost.
        hwm: frames queued in this process, per actor.
    """

    def __init__(
        self,
        context: zmq.SyncContext,
        address: str,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
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

    def receive(self, timeout_s: float) -> Envelope | None:
        """Returns the next frame; None if none arrives within `timeout_s` seconds."""
        if not _readable(self._socket, timeout_s):
            return None
        frame = self._socket.recv(copy=False)
        return Envelope(frame.bytes, _peer_of(frame, encrypted=self._keys is not None))


class ZmqPublisher(BindingRole):
    """A `Publisher` on an XPUB socket that binds, with last-value caching.

    Args:
        address: to bind, such as ``tcp://*:5556``; ``tcp://127.0.0.1:*`` picks a free port.
        resend_interval_s: shortest time between re-sends to joiners, so that a hundred actors
            starting together cost a few broadcasts instead of a hundred.

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
            # Without this option only the first of several subscribers is announced.
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
        """Sends `frame` to every subscriber and keeps it for late subscribers. Never blocks."""
        self._last_frame = frame
        # Reading the events makes libzmq update which queues have room. It skips that update when
        # sends follow each other closely, and then drops frames needlessly: 58 of 300, each
        # published after the previous one had arrived (measured).
        self._socket.get(zmq.EVENTS)
        # XPUB drops frames of slow subscribers instead of blocking, so zmq.Again cannot occur.
        self._socket.send(frame, zmq.NOBLOCK)
        self._joiner_waits = False  # known joiners are subscribed and have received this frame

    def welcome_joiners(self) -> int:
        """Re-sends the last frame if there are new subscribers; returns their number."""
        self._renew()  # between two updates, too: a batch can take minutes
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
        address: of the learner's publisher, such as ``tcp://learner:5556``.
        max_message_bytes: largest frame accepted; a larger frame ends the connection.
        hwm: frames queued in this process, for subscribers that poll continuously and must see
            every version. None keeps only the newest frame (CONFLATE), for subscribers that poll
            rarely. CONFLATE loses a frame that arrives in the instant of a read: 27 of 186,000
            with 256 sockets polled without pause (libzmq 4.3.5, dbuffer.hpp: a write to a locked
            buffer is dropped), 0 of 96,000 with blocking reads or a poll every 2 ms. A queue lost
            0 of 344,000, but holds old frames after a pause (decision 9).
    """

    def __init__(
        self,
        context: zmq.SyncContext,
        address: str,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        hwm: int | None = None,
        keys: ActorKeys | None = None,
        heartbeat_timeout_s: float = HEARTBEAT_TIMEOUT_S,
    ) -> None:
        options = {
            # Keeps only the newest frame, in libzmq's own thread. The alternatives hold old
            # weights: a small RCVHWM keeps the *oldest* frames and makes the publisher drop the
            # newest, a large one holds hundreds of megabytes while the actor plays. CONFLATE
            # breaks multi-part messages; ours have one part.
            **({zmq.CONFLATE: 1} if hwm is None else {zmq.RCVHWM: hwm}),
            zmq.MAXMSGSIZE: max_message_bytes,
        }
        super().__init__(context, zmq.SUB, connect, address, heartbeat_timeout_s, keys, options)
        self._socket.subscribe(b"")
        self._ask_again_at: float | None = None

    def events(self) -> list[ConnectionEvent]:
        """Returns the connection events since the last call, without blocking."""
        events = super().events()
        for event in events:
            connected = event.kind == "connected"
            self._ask_again_at = time.monotonic() + _ASK_AGAIN_S if connected else None
        return events

    def latest(self, timeout_s: float) -> bytes | None:
        """Returns the newest frame not yet returned; None if none arrives in `timeout_s` s."""
        self._ask_again()
        newest = _receive(self._socket, timeout_s)
        if newest is not None:
            self._ask_again_at = None
        # CONFLATE keeps one frame per connection: after a reconnect, the old connection's frame may
        # still precede the new one's.
        while newest is not None and (newer := _receive(self._socket, 0)) is not None:
            newest = newer
        return newest

    def _ask_again(self) -> None:
        """Subscribes anew if a connection has brought nothing yet: its first frame may be lost.

        The publisher sees a new subscription, and sends its last frame again.
        """
        if self._ask_again_at is not None and time.monotonic() >= self._ask_again_at:
            self._ask_again_at = time.monotonic() + _ASK_AGAIN_S
            self._socket.unsubscribe(b"")
            self._socket.subscribe(b"")


def _receive(socket: zmq.SyncSocket, timeout_s: float) -> bytes | None:
    return socket.recv() if _readable(socket, timeout_s) else None


def _readable(socket: zmq.SyncSocket, timeout_s: float) -> bool:
    # Not recv() with a timeout: while one actor always has a frame waiting, recv() checks the
    # other connections only at every hundredth call (inbound_poll_rate in libzmq's config.hpp),
    # and a busy learner starves them for minutes. poll() checks them every time.
    return bool(socket.poll(milliseconds(timeout_s)))


def _peer_of(frame: zmq.Frame, *, encrypted: bool) -> Peer:
    """Returns who sent a frame: what libzmq and the authenticator say, not the frame."""
    try:
        address = str(frame.get("Peer-Address"))
    except zmq.ZMQError:
        address = ""  # inproc:// has none
    # A socket for both families names IPv4 addresses in their IPv6 form; they are one peer.
    address = address.removeprefix("::ffff:")
    return Peer(address, str(frame.get("User-Id")) if encrypted else None)
