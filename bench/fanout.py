"""CPU time that a version of the weights costs the learner, by its number of subscribers.

python -m bench.fanout [--subscribers 16,64,256] [--versions 20] [--seed 1] [--game pong]

This process publishes over loopback TCP, another one receives. Measured is this process with
ZeroMQ's thread and the kernel's work for it, on loopback also what a network card and receivers
do elsewhere. The first figure is a version's preparation, for all. float32 is for comparison.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import safetensors.torch
import zmq

from asyncade_cli.markdown import table as markdown
from asyncade_proto.codec import encode
from asyncade_rl.games import num_actions
from asyncade_rl.network import make_network
from asyncade_runtime.file_limit import raise_file_limit
from asyncade_runtime.transport.zmq_sockets import ZmqPublisher
from bench.pieces import Pieces
from bench.relay import ANY_PORT, Subscribers
from bench.result_files import options, record


def subscribe(address: str, count: int, versions: int, report: Connection) -> None:
    """Receives versions with `count` subscribers; reports when all have joined, and each time."""
    with zmq.Context() as context:
        context.set(zmq.MAX_SOCKETS, 4096)
        with closing(Subscribers(context, count, [address])) as receivers:
            receivers.join(lambda: None)
            report.send("joined")
            for _ in range(versions):
                receivers.receive(time.perf_counter())
                report.send("received")


def cpu_seconds(action: Callable[[], object], times: int) -> float:
    """Returns the median CPU time of this process, all threads, for one call."""
    taken = []
    for _ in range(times):
        since = time.process_time()
        action()
        taken.append(time.process_time() - since)
    return statistics.median(taken)


def measure(frame: bytes, subscribers: int, versions: int) -> float:
    """Returns CPU seconds per version, each published after all subscribers have the last one."""
    with ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        publisher = stack.enter_context(closing(ZmqPublisher(context, ANY_PORT)))
        publisher.publish(frame)
        spawn = multiprocessing.get_context("spawn")
        reports, report = spawn.Pipe(duplex=False)
        arguments = (publisher.endpoint, subscribers, versions, report)
        process = spawn.Process(target=subscribe, args=arguments)
        process.start()
        report.close()  # so that the end of the other process ends every wait for it
        stack.callback(process.join)
        stack.callback(process.terminate)
        while not reports.poll(0.01):  # the other process gives up and ends if they do not join
            publisher.welcome_joiners()
        reports.recv()

        def publish() -> None:
            publisher.publish(frame)
            reports.recv()

        return cpu_seconds(publish, versions)


def table(result: Mapping[str, Any]) -> str:
    """Returns the CPU time per version as a Markdown table."""
    header = ["weights", "kB", "subscribers", "CPU ms per version", "CPU µs per subscriber"]
    rows: list[list[object]] = [["prepared", None, None, result["prepare_cpu_seconds"] * 1e3, None]]
    for point in result["points"]:
        seconds, subscribers = point["cpu_seconds"], point["subscribers"]
        cells = [seconds * 1e3, seconds / subscribers * 1e6]
        rows.append([point["dtype"], point["bytes"] / 1000, subscribers, *cells])
    return markdown(header, rows)


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    parser = options("fanout", __doc__)
    parser.add_argument("--subscribers", default="16,64,256")
    parser.add_argument("--versions", type=int, default=20, help="published for each point")
    asked = parser.parse_args()
    raise_file_limit()
    pieces = Pieces("data", asked.game, asked.seed)
    weights = pieces.weights_message()
    network = make_network(num_actions(asked.game), weights.assignment.network, asked.seed)
    whole = replace(weights, safetensors=safetensors.torch.save(network.state_dict()))
    points = [
        {
            "dtype": dtype,
            "bytes": len(frame),
            "subscribers": subscribers,
            "cpu_seconds": measure(frame, subscribers, asked.versions),
        }
        for dtype, frame in {"bfloat16": encode(weights), "float32": encode(whole)}.items()
        for subscribers in map(int, asked.subscribers.split(","))
    ]
    prepare = cpu_seconds(lambda: encode(pieces.weights_message(network)), asked.versions)
    record("fanout", "fanout", asked, {"prepare_cpu_seconds": prepare, "points": points}, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
