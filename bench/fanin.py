"""What a gradient's way up costs both ends: to encode and send it, to receive and decode it.

Two processes on this machine, over the services' own sockets, as fast as the learner takes them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from typing import Final

import zmq

from asyncade_proto.codec import decode, encode
from asyncade_proto.limits import MAX_MESSAGE_BYTES
from asyncade_runtime.allocator import keep_freed_memory
from asyncade_runtime.transport.zmq_sockets import ZmqInbox, ZmqOutbox

_ADDRESS: Final = "tcp://127.0.0.1:*"
_TIMEOUT_S: Final = 30.0
_WARM_UP: Final = 20


def measure(frame: bytes, seconds: float) -> dict[str, float]:
    """Returns CPU seconds per message of both processes, and seconds from one to the next.

    Args:
        frame: of a message, as it is encoded.
        seconds: to measure.
    """
    keep_freed_memory()
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    with (
        zmq.Context() as context,
        contextlib.closing(
            ZmqInbox(context, _ADDRESS, max_message_bytes=MAX_MESSAGE_BYTES)
        ) as inbox,
    ):
        sender = spawn.Process(target=_send, args=(theirs, inbox.endpoint, frame), daemon=True)
        sender.start()
        theirs.close()
        try:
            for _ in range(_WARM_UP):
                _take(inbox)
            count, cpu, began = 0, time.process_time(), time.monotonic()
            while time.monotonic() < began + seconds:
                _take(inbox)
                count += 1
            received = (time.process_time() - cpu) / count
            transfer = (time.monotonic() - began) / count
            ours.send(None)
            while not ours.poll():  # it may wait for room to send
                inbox.receive(0.01)
            sent: float = ours.recv()
        finally:
            sender.terminate()
            sender.join()
    return {
        "receive_cpu_seconds": received,
        "send_cpu_seconds": sent,
        "transfer_seconds": transfer,
    }


def _take(inbox: ZmqInbox) -> None:
    frame = inbox.receive(_TIMEOUT_S)
    if frame is None:
        raise TimeoutError(f"no message in {_TIMEOUT_S:g} s")
    decode(frame)


def _send(pipe: Connection, address: str, frame: bytes) -> None:
    """In a process of its own: encodes and sends until told to stop; tells CPU per message."""
    keep_freed_memory()
    message = decode(frame)
    context = zmq.Context()
    outbox = ZmqOutbox(context, address)
    parent = os.getppid()
    count, cpu = 0, time.process_time()
    while os.getppid() == parent and not pipe.poll():
        count += outbox.send(encode(message), 1.0)
        if count == _WARM_UP:
            cpu = time.process_time()
    pipe.send((time.process_time() - cpu) / max(1, count - _WARM_UP))
