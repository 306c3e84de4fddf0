"""Weights to many subscribers, from the learner's publisher directly and through relays.

python -m bench.relay [--subscribers 1,16,64,256] [--relays 0,1,4] [--versions 20] [--seed 1]

One process publishes and subscribes, each relay is a process of its own, all on this machine: so
latencies are what its cores and its loopback give, and relays compete with the subscribers for
them. The learner's bytes are counted by the kernel, and do not depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import zmq

from asyncade_proto.codec import encode
from asyncade_proto.messages import Weights
from asyncade_runtime.transport.zmq_sockets import ZmqPublisher
from bench.report import about, command_line, markdown_table, write_result
from bench.tcp_bytes import bytes_sent_from

ANY: Final = "tcp://127.0.0.1:*"
_DEADLINE_S: Final = 60.0
_QUIET_S: Final = 1.0
"""Without a frame for so long, no repetition for a joiner is on its way any more."""


class Subscribers:
    """Many of them in one thread, and when each got what.

    Unlike an actor's they queue: what is measured must arrive (see `ZmqSubscriber` on CONFLATE).
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
        """Closes all."""
        for one in self._sockets:
            one.close()

    def join(self, publisher: ZmqPublisher) -> None:
        """Waits until all have got something, and nothing comes any more."""
        heard: set[zmq.SyncSocket] = set()
        give_up = time.monotonic() + _DEADLINE_S
        quiet_since = time.monotonic()
        while len(heard) < len(self._sockets) or time.monotonic() - quiet_since < _QUIET_S:
            if time.monotonic() > give_up:
                raise TimeoutError(f"{len(heard)} of {len(self._sockets)} subscribers got weights")
            publisher.welcome_joiners()
            for one, _ in self._poller.poll(10):
                one.recv()
                heard.add(one)
                quiet_since = time.monotonic()

    def receive(self, frame_bytes: int, since: float) -> list[float]:
        """Returns each one's seconds from `since` to the frame, in order."""
        seconds: list[float] = []
        while len(seconds) < len(self._sockets):
            ready = self._poller.poll(int(_DEADLINE_S * 1000))
            if not ready:
                raise TimeoutError(f"{len(seconds)} of {len(self._sockets)} got the version")
            for one, _ in ready:
                assert len(one.recv()) == frame_bytes
                seconds.append(time.perf_counter() - since)
        return seconds


@contextmanager
def relay_process(learner_weights: str) -> Iterator[str]:
    """Starts a relay; yields where it publishes."""
    flags = {
        "learner-weights-address": learner_weights,
        "learner-upstream-address": "tcp://127.0.0.1:9",  # nothing goes up
        "upstream-address": ANY,
        "weights-address": ANY,
        "metrics-port": 0,
        "log-format": "json",
    }
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        command = [
            sys.executable,
            "-m",
            "asyncade_relay",
            *(f"--{k}={v}" for k, v in flags.items()),
        ]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield _weights_address(Path(log.name), process)
        finally:
            process.terminate()
            process.wait()


@contextmanager
def relayed(learner_weights: str, relays: int) -> Iterator[Sequence[str]]:
    """Starts so many relays; yields where they publish. For `bench.fanout`."""
    with ExitStack() as stack:
        yield [stack.enter_context(relay_process(learner_weights)) for _ in range(relays)]


def _weights_address(log: Path, process: subprocess.Popen[bytes]) -> str:
    give_up = time.monotonic() + _DEADLINE_S
    while time.monotonic() < give_up and process.poll() is None:
        for line in log.read_text().splitlines():
            said = json.loads(line)
            if said["event"] == "up":
                return str(said["weights"])
        time.sleep(0.05)
    raise TimeoutError(f"the relay did not start: {log.read_text()}")


def measure(weights: Weights, relays: int, subscribers: int, versions: int) -> dict[str, Any]:
    """Publishes versions one after the other's arrival everywhere; returns times and bytes."""
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4096)
    with ExitStack() as stack:
        stack.callback(context.term)
        publisher = stack.enter_context(closing(ZmqPublisher(context, ANY)))
        publisher.publish(encode(weights))
        addresses = stack.enter_context(relayed(publisher.endpoint, relays)) or [publisher.endpoint]
        everybody = stack.enter_context(closing(Subscribers(context, subscribers, addresses)))
        everybody.join(publisher)
        before = bytes_sent_from(publisher.endpoint)
        medians, lasts = [], []
        for version in range(2, 2 + versions):
            frame = encode(replace(weights, policy_version=version))
            began = time.perf_counter()
            publisher.publish(frame)
            seconds = everybody.receive(len(frame), began)
            medians.append(statistics.median(seconds))
            lasts.append(seconds[-1])
        sent = bytes_sent_from(publisher.endpoint) - before
    return {
        "relays": relays,
        "subscribers": subscribers,
        "bytes_out_per_version": sent / versions,
        "frames_out_per_version": sent / versions / len(frame),
        "median_subscriber_seconds": statistics.median(medians),
        "last_subscriber_seconds": statistics.median(lasts),
        "slowest_version_seconds": max(lasts),
    }


def real_weights(game: str, seed: int, request: str) -> Weights:
    """Returns weights as a learner publishes them, of the real size."""
    from asyncade_rl.games import num_actions
    from asyncade_rl.network import make_network
    from asyncade_rl.params import fingerprint, to_safetensors
    from bench.work import Workshop, weights_message

    shop = Workshop("gradients" if request == "gradients" else "data", game, seed)
    network = make_network(num_actions(game), shop.settings.network, seed)
    return weights_message(to_safetensors(network), fingerprint(network), shop.assignment, {})


def table(result: Mapping[str, Any]) -> str:
    """Returns the Markdown table."""
    head = [
        "subscribers",
        "relays",
        "learner's MB per version",
        "frames",
        "median subscriber, ms",
        "last subscriber, ms",
        "last, slowest version, ms",
    ]
    rows = [
        [
            r["subscribers"],
            r["relays"],
            r["bytes_out_per_version"] / 1e6,
            r["frames_out_per_version"],
            r["median_subscriber_seconds"] * 1000,
            r["last_subscriber_seconds"] * 1000,
            r["slowest_version_seconds"] * 1000,
        ]
        for r in result["points"]
    ]
    return markdown_table(head, rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description=__doc__)
    parser.add_argument("--subscribers", default="1,16,64,256")
    parser.add_argument("--relays", default="0,1,4", help="0 is the learner alone")
    parser.add_argument("--versions", type=int, default=20, help="published for each point")
    parser.add_argument(
        "--request",
        choices=("trajectories", "gradients"),
        default="trajectories",
        help="with gradients a relay writes a new header",
    )
    parser.add_argument("--game", default="pong")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(argv)
    weights = real_weights(asked.game, asked.seed, asked.request)
    points = [
        measure(weights, relays, subscribers, asked.versions)
        for subscribers in map(int, asked.subscribers.split(","))
        for relays in map(int, asked.relays.split(","))
        if relays <= subscribers
    ]
    result = about(command_line("relay", argv), seed=asked.seed, torch_threads=1) | {
        "request": asked.request,
        "weights_bytes": len(encode(weights)),
        "points": points,
    }
    write_result("relay", result)
    print(table(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
