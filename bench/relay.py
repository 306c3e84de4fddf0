"""Latency of weights to many subscribers, from the learner directly and through relays.

python -m bench.relay [--subscribers 1,16,64,256] [--relays 0,1,4] [--versions 20] [--seed 1]

One process publishes and subscribes, each relay is a process, and all share this machine: relays
compete with subscribers for its cores. What relays save is the learner's network: it sends one copy
per relay instead of one per subscriber, which tests/integration/test_relay.py checks.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import zmq

from asyncade_cli.markdown import table as markdown
from asyncade_proto.codec import encode
from asyncade_proto.messages import Weights
from asyncade_runtime.transport.zmq_sockets import ZmqPublisher
from bench.pieces import Pieces
from bench.result_files import options, record
from bench.runs import logged, running, wait_until

ANY_PORT: Final = "tcp://127.0.0.1:*"
_DEADLINE_S: Final = 60.0
_QUIET_S: Final = 1.0
"""If nothing arrives for this long, all repetitions for joining subscribers have arrived."""


class Subscribers:
    """Subscribers in one thread, and the time at which each receives a frame.

    They queue, unlike an actor's subscriber, which keeps the newest frame only: every version that
    is measured must arrive.
    """

    def __init__(self, context: zmq.SyncContext, count: int, addresses: Sequence[str]) -> None:
        self._sockets = [context.socket(zmq.SUB) for _ in range(count)]
        self._poller = zmq.Poller()
        for number, one in enumerate(self._sockets):
            one.set(zmq.LINGER, 0)
            one.subscribe(b"")
            one.connect(addresses[number % len(addresses)])
            self._poller.register(one, zmq.POLLIN)

    def close(self) -> None:
        """Closes all sockets."""
        for one in self._sockets:
            one.close()

    def join(self, welcome: Callable[[], object]) -> None:
        """Waits until every subscriber has received a frame and no more frames arrive.

        Args:
            welcome: called repeatedly, to make the publisher send to those who have joined.
        """
        joined: set[zmq.SyncSocket] = set()
        give_up = time.monotonic() + _DEADLINE_S
        last_frame = time.monotonic()
        while len(joined) < len(self._sockets) or time.monotonic() - last_frame < _QUIET_S:
            if time.monotonic() > give_up:
                raise TimeoutError(f"{len(joined)} of {len(self._sockets)} subscribers joined")
            welcome()
            for one, _ in self._poller.poll(10):
                one.recv()
                joined.add(one)
                last_frame = time.monotonic()

    def receive(self, since: float) -> list[float]:
        """Returns the seconds from `since` until each subscriber has the next frame, in order."""
        seconds: list[float] = []
        while len(seconds) < len(self._sockets):
            ready = self._poller.poll(int(_DEADLINE_S * 1000))
            if not ready:
                raise TimeoutError(f"{len(seconds)} of {len(self._sockets)} received the version")
            for one, _ in ready:
                one.recv()
                seconds.append(time.perf_counter() - since)
        return seconds


@contextmanager
def relay_process(learner_weights: str, folder: Path, number: int) -> Iterator[str]:
    """Runs a relay until the block ends; yields the address of its weights."""
    flags = {
        "learner-weights-address": learner_weights,
        "learner-upstream-address": "tcp://127.0.0.1:9",  # nothing is sent up
        "upstream-address": ANY_PORT,
        "weights-address": ANY_PORT,
        "metrics-port": 0,
        "log-format": "json",
    }
    log = folder / f"relay-{number}.log"

    def address() -> str | None:
        return next((str(line["weights"]) for line in logged(log) if line["event"] == "up"), None)

    with running("asyncade_relay", [], flags, log) as service:
        yield wait_until(address, service)


def measure(weights: Weights, relays: int, subscribers: int, versions: int) -> dict[str, Any]:
    """Publishes versions, each after all subscribers have the last one; returns latencies."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        context = stack.enter_context(zmq.Context())
        context.set(zmq.MAX_SOCKETS, 4096)
        publisher = stack.enter_context(closing(ZmqPublisher(context, ANY_PORT)))
        publisher.publish(encode(weights))
        addresses = [
            stack.enter_context(relay_process(publisher.endpoint, folder, number))
            for number in range(relays)
        ]
        receivers = Subscribers(context, subscribers, addresses or [publisher.endpoint])
        stack.enter_context(closing(receivers)).join(publisher.welcome_joiners)
        medians, lasts = [], []
        for version in range(2, 2 + versions):
            frame = encode(replace(weights, policy_version=version))
            since = time.perf_counter()
            publisher.publish(frame)
            seconds = receivers.receive(since)
            medians.append(statistics.median(seconds))
            lasts.append(seconds[-1])
    return {
        "relays": relays,
        "subscribers": subscribers,
        "median_subscriber_seconds": statistics.median(medians),
        "last_subscriber_seconds": statistics.median(lasts),
        "slowest_version_seconds": max(lasts),
    }


def table(result: Mapping[str, Any]) -> str:
    """Returns the latencies as a Markdown table."""
    header = ["subscribers", "relays", "median subscriber, ms", "last subscriber, ms"]
    header += ["last subscriber of the slowest version, ms"]
    columns = ("median_subscriber_seconds", "last_subscriber_seconds", "slowest_version_seconds")
    return markdown(
        header,
        [
            [point["subscribers"], point["relays"], *(point[name] * 1000 for name in columns)]
            for point in result["points"]
        ],
    )


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    parser = options("relay", __doc__)
    parser.add_argument("--subscribers", default="1,16,64,256")
    parser.add_argument("--relays", default="0,1,4", help="0: subscribers of the learner itself")
    parser.add_argument("--versions", type=int, default=20, help="published for each point")
    asked = parser.parse_args()
    weights = Pieces("data", asked.game, asked.seed).weights_message()
    points = [
        measure(weights, relays, subscribers, asked.versions)
        for subscribers in map(int, asked.subscribers.split(","))
        for relays in map(int, asked.relays.split(","))
        if relays <= subscribers
    ]
    content = {"weights_bytes": len(encode(weights)), "points": points}
    record("relay", "relay", asked, content, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
