"""Latency and CPU time of each kind of message, plain and encrypted with CURVE.

python -m bench.encryption [--seconds 2] [--seed 1] [--game pong]

Messages go over loopback TCP through the services' own sockets, one at a time. Both ends are in
one process, so its CPU time is that of both ends and of ZeroMQ's threads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import pytest
import zmq
from pytest_benchmark.fixture import BenchmarkFixture

from asyncade_cli.markdown import table as markdown
from asyncade_proto.codec import encode
from asyncade_rl.choices import MODES, Mode
from asyncade_runtime.transport import keys as curve
from asyncade_runtime.transport.zmq_sockets import ZmqInbox, ZmqOutbox, ZmqPublisher, ZmqSubscriber
from bench.harness import Clock, timings
from bench.result_files import options, record
from bench.unit_costs import Work

ADDRESS: Final = "tcp://127.0.0.1:*"
TIMEOUT_S: Final = 10.0
CLOCKS: Final[dict[Clock, str]] = {
    "perf_counter": "latency_seconds",
    "process_time": "cpu_seconds",
}


@pytest.fixture(params=["plain", "encrypted"])
def send(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str, bytes], bool]]:
    """A function that sends a message ``up`` or as ``weights`` and waits until it has arrived."""
    server = client = None
    if request.param == "encrypted":
        curve.make_keys(tmp_path)
        server = curve.load_learner_keys(tmp_path / curve.LEARNER)
        client = curve.load_actor_keys(tmp_path / curve.ACTOR)
    with ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        stack.enter_context(curve.authenticating(context, server))
        inbox = stack.enter_context(closing(ZmqInbox(context, ADDRESS, keys=server)))
        publisher = stack.enter_context(closing(ZmqPublisher(context, ADDRESS, keys=server)))
        outbox = stack.enter_context(closing(ZmqOutbox(context, inbox.endpoint, keys=client)))
        subscriber = stack.enter_context(
            closing(ZmqSubscriber(context, publisher.endpoint, keys=client))
        )
        while not publisher.welcome_joiners():
            subscriber.latest(0.01)

        def send_and_receive(way: str, frame: bytes) -> bool:
            if way == "up":
                return outbox.send(frame, TIMEOUT_S) and inbox.receive(TIMEOUT_S) is not None
            publisher.publish(frame)
            return subscriber.latest(TIMEOUT_S) is not None

        yield send_and_receive


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["up", "weights"])
def bench_message(
    benchmark: BenchmarkFixture,
    request: pytest.FixtureRequest,
    send: Callable[[str, bytes], bool],
    work: Work,
    mode: Mode,
    way: str,
) -> None:
    pieces = work(mode)
    frame = encode(pieces.messages[0] if way == "up" else pieces.weights_message())
    benchmark.extra_info |= {
        "mode": mode,
        "way": way,
        "kind": request.node.callspec.params["send"],
        "bytes": len(frame),
        "env_steps_per_message": pieces.unroll,
    }
    assert benchmark(send, way, frame)


def measure(game: str, seed: int, seconds: float) -> dict[str, Any]:
    """Returns latency and CPU time by mode, message, and whether it was encrypted."""
    modes: dict[str, Any] = {mode: {"up": {}, "weights": {}} for mode in MODES}
    for clock, quantity in CLOCKS.items():
        (found,) = timings("encryption", seconds, game=game, seed=seed, clock=clock)
        for one in found:
            mode = modes[one["mode"]]
            mode["env_steps_per_message"] = one["env_steps_per_message"]
            mode[one["way"]]["bytes"] = one["bytes"]
            mode[one["way"]].setdefault(one["kind"], {})[quantity] = one["seconds"]
    return modes


def added_per_env_step(mode: Mapping[str, Any]) -> float:
    """Returns the CPU seconds that encryption adds to an env step, in all processes together.

    An actor receives one weights message for each message that it sends.
    """
    added = sum(
        mode[way]["encrypted"]["cpu_seconds"] - mode[way]["plain"]["cpu_seconds"]
        for way in ("up", "weights")
    )
    return float(added / mode["env_steps_per_message"])


def table(result: Mapping[str, Any]) -> str:
    """Returns latency and CPU time of both modes as a Markdown table."""
    header = ["mode", "message", "kB", "latency ms, plain", "encrypted", "CPU ms, plain"]
    header += ["encrypted", "added per env step, CPU µs"]
    rows: list[list[object]] = []
    for name, mode in result["modes"].items():
        for way in ("up", "weights"):
            kinds = [mode[way][kind] for kind in ("plain", "encrypted")]
            message = {"data": "trajectory", "gradients": "gradient"}[name]
            cells = [kind[quantity] * 1e3 for quantity in CLOCKS.values() for kind in kinds]
            added = added_per_env_step(mode) * 1e6 if way == "weights" else None
            label = message if way == "up" else way
            rows.append([name, label, mode[way]["bytes"] / 1000, *cells, added])
    return markdown(header, rows)


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    asked = options("encryption", __doc__, seconds=2.0).parse_args()
    modes = measure(asked.game, asked.seed, asked.seconds)
    record("encryption", "encryption", asked, {"modes": modes}, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
