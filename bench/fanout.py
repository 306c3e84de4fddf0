"""How long weights take to many subscribers, and what that costs the learner that sends them.

A publisher in this process, subscribers in another one on the same machine, frames of a weights
message's size, one at a time: the next is published when the last subscriber has this one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final

import zmq

from asyncade_proto.limits import MAX_MESSAGE_BYTES
from asyncade_runtime.allocator import keep_freed_memory
from asyncade_runtime.transport.zmq_sockets import ZmqPublisher, ZmqSubscriber

_ADDRESS: Final = "tcp://127.0.0.1:*"
_TIMEOUT_S: Final = 60.0
_AGAIN_S: Final = 5.0
_FEWEST: Final = 5
"""Publications that are measured at least."""

Frames = Callable[[int], bytes]
"""Frame of the n-th publication. All are alike but for the low byte of n, always at one place."""

Starter = Callable[[str, int], contextlib.AbstractContextManager[Sequence[str]]]
"""Starts so many relays of a publisher's address; yields the addresses that they publish on."""


def blank(size: int) -> Frames:
    """Returns frames of so many bytes; no relay would pass them on."""

    def frame(number: int) -> bytes:
        return bytes([number % 256]) + bytes(size - 1)

    return frame


def measure(
    subscribers: int,
    frames: Frames,
    seconds: float,
    relays: int = 0,
    start: Starter | None = None,
) -> dict[str, Any]:
    """Returns CPU time of a publication here, and how long until the last subscriber has it.

    Args:
        subscribers: how many.
        frames: to publish. With relays, weights of rising versions: a relay passes nothing else on.
        seconds: to measure, or a few publications if they take longer.
        relays: between publisher and subscribers; they are processes of their own.
        start: starts them.
    """
    _allow_files(4 * subscribers + 256)
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        publisher = stack.enter_context(contextlib.closing(ZmqPublisher(context, _ADDRESS)))
        addresses: Sequence[str] = [publisher.endpoint]
        if relays:
            assert start is not None
            addresses = stack.enter_context(start(publisher.endpoint, relays))
        pipe = stack.enter_context(_subscribed(subscribers, addresses, _mark(frames)))
        last = _until_all_are_there(publisher, pipe, frames)
        return _timed(publisher, pipe, frames, seconds, last) | {
            "subscribers": subscribers,
            "relays": relays,
        }


def _mark(frames: Frames) -> int:
    """Returns where a frame has its number."""
    pairs = enumerate(zip(frames(0), frames(1), strict=True))
    return next(at for at, (before, after) in pairs if before != after)


def _until_all_are_there(publisher: ZmqPublisher, pipe: Connection, frames: Frames) -> int:
    """Publishes until every subscriber has had a frame; returns the number of the last one."""
    number, again = 0, time.monotonic() + _AGAIN_S
    deadline = time.monotonic() + _TIMEOUT_S
    publisher.publish(frames(0))
    while not pipe.poll(0.05):  # connections come up; whoever joins gets the last frame
        publisher.welcome_joiners()
        now = time.monotonic()
        if now > deadline:
            raise TimeoutError(f"not all subscribers are there in {_TIMEOUT_S:g} s")
        if now > again:  # a subscriber may have lost it, as below
            number, again = number + 1, now + _AGAIN_S
            publisher.publish(frames(number))
    pipe.recv()
    return number


def _timed(
    publisher: ZmqPublisher, pipe: Connection, frames: Frames, seconds: float, number: int
) -> dict[str, float]:
    """Measures publications, from the one after `number`."""
    latencies: list[float] = []
    sent: list[float] = []
    received: list[float] = []
    ends = time.monotonic() + seconds
    give_up = ends + _TIMEOUT_S
    while len(latencies) < _FEWEST or time.monotonic() < ends:
        number += 1
        frame, lost = frames(number), False
        cpu, since = time.process_time(), time.monotonic()
        publisher.publish(frame)
        while (report := _report(pipe, number)) is None:
            # XPUB may drop a frame, CONFLATE may lose it. As a learner would, publish the next: a
            # relay has passed this one on, and will not do so again.
            if time.monotonic() > give_up:
                raise TimeoutError(f"frames do not reach everybody in {_TIMEOUT_S:g} s")
            number, lost = number + 1, True
            publisher.publish(frames(number))
        if not lost:
            at, spent = report
            latencies.append(at - since)
            sent.append(time.process_time() - cpu)
            received.append(spent)
    return {
        "publications": len(latencies),
        "cpu_seconds": statistics.median(sent),
        "receivers_cpu_seconds": statistics.median(received),
        "latency_seconds": statistics.median(latencies),
    }


def _report(pipe: Connection, number: int) -> tuple[float, float] | None:
    """Returns when all had a frame and the CPU time it took them; None if that takes too long."""
    while pipe.poll(_AGAIN_S):
        of, at, spent = pipe.recv()
        if of == number:
            return at, spent
    return None


@contextlib.contextmanager
def _subscribed(subscribers: int, addresses: Sequence[str], mark: int) -> Iterator[Connection]:
    """Starts the subscribers' process; the pipe tells when all of them have the next frame."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    args = (theirs, subscribers, addresses, mark)
    process = spawn.Process(target=_subscribe, args=args, daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.terminate()
        process.join()


def _subscribe(pipe: Connection, subscribers: int, addresses: Sequence[str], mark: int) -> None:
    """In a process of its own: tells when the last one has a frame or a newer one, and CPU time."""
    keep_freed_memory()  # as an actor does
    _allow_files(4 * subscribers + 256)
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4 * subscribers + 64)
    roles = [
        ZmqSubscriber(
            context, addresses[number % len(addresses)], max_message_bytes=MAX_MESSAGE_BYTES
        )
        for number in range(subscribers)
    ]
    parent = os.getppid()
    newest = [-1] * subscribers
    awaited, cpu = 0, time.process_time()
    while os.getppid() == parent:
        for index, role in enumerate(roles):
            while newest[index] < awaited:
                role.events()
                frame = role.latest(1.0)
                if frame is not None:
                    newest[index] = awaited + (frame[mark] - awaited + 128) % 256 - 128
                if os.getppid() != parent:
                    return
        pipe.send((awaited, time.monotonic(), time.process_time() - cpu))
        cpu = time.process_time()
        awaited += 1


def _allow_files(wanted: int) -> None:
    """Raises this process's limit of open files, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
