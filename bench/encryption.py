"""What CURVE costs: processor time and latency of each kind of message, plain and encrypted.

python -m bench.encryption [--seconds 2] [--seed 1] [--game pong]

Messages go over loopback TCP through the services' own sockets, one at a time. Both ends are in
this process, so its CPU time is that of both, with ZeroMQ's threads.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq

from asyncade_proto.limits import MAX_MESSAGE_BYTES
from asyncade_runtime.transport.keys import (
    ACTOR,
    LEARNER,
    ActorKeys,
    LearnerKeys,
    authenticating,
    load_actor_keys,
    load_learner_keys,
    make_keys,
)
from asyncade_runtime.transport.zmq_sockets import ZmqInbox, ZmqOutbox, ZmqPublisher, ZmqSubscriber
from bench.report import about, command_line, markdown_table, write_result

ADDRESS = "tcp://127.0.0.1:*"
TIMEOUT_S = 10.0
Keys = tuple[LearnerKeys, ActorKeys] | None


@contextmanager
def upstream(context: zmq.SyncContext, keys: Keys) -> Iterator[Callable[[bytes], bool]]:
    """Yields what sends a frame from an actor to a learner and waits until it is there."""
    inbox = ZmqInbox(context, ADDRESS, max_message_bytes=MAX_MESSAGE_BYTES, keys=keys and keys[0])
    outbox = ZmqOutbox(context, inbox.endpoint, keys=keys and keys[1])
    try:
        yield lambda frame: outbox.send(frame, TIMEOUT_S) and inbox.receive(TIMEOUT_S) is not None
    finally:
        outbox.close()
        inbox.close()


@contextmanager
def downstream(context: zmq.SyncContext, keys: Keys) -> Iterator[Callable[[bytes], bool]]:
    """Yields what publishes a frame and waits until a subscriber has it."""
    publisher = ZmqPublisher(context, ADDRESS, keys=keys and keys[0])
    subscriber = ZmqSubscriber(
        context, publisher.endpoint, max_message_bytes=MAX_MESSAGE_BYTES, keys=keys and keys[1]
    )

    def send(frame: bytes) -> bool:
        publisher.publish(frame)
        return subscriber.latest(TIMEOUT_S) is not None

    try:
        while not publisher.welcome_joiners():
            subscriber.latest(0.01)
        yield send
    finally:
        subscriber.close()
        publisher.close()


def cost(send: Callable[[bytes], bool], frame: bytes, seconds: float) -> dict[str, float]:
    """Returns CPU seconds and median latency of one message."""
    assert send(frame)  # the connection is made, and buffers are there
    latencies: list[float] = []
    cpu, ends = time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < ends:
        since = time.perf_counter()
        assert send(frame)
        latencies.append(time.perf_counter() - since)
    return {
        "cpu_seconds": (time.process_time() - cpu) / len(latencies),
        "latency_seconds": statistics.median(latencies),
    }


def messages(game: str, seed: int) -> dict[str, tuple[bytes, bytes, float]]:
    """Returns for each mode a message up, a weights message, and env steps for one of each."""
    from asyncade_cli.replay import record_messages
    from asyncade_proto.codec import encode
    from asyncade_rl.games import num_actions
    from asyncade_rl.network import make_network
    from asyncade_rl.params import fingerprint, to_safetensors
    from bench.work import Workshop, weights_message

    found = {}
    for mode in ("data", "gradients"):
        shop = Workshop("gradients" if mode == "gradients" else "data", game, seed)
        (message, *_) = record_messages(
            shop.assignment, game=game, envs=shop.envs, count=1, seed=seed
        )
        network = make_network(num_actions(game), shop.settings.network, seed)
        weights = encode(
            weights_message(to_safetensors(network), fingerprint(network), shop.assignment, {})
        )
        found[mode] = (encode(message), weights, shop.env_steps_per_message)
    return found


def measure(game: str, seed: int, seconds: float) -> dict[str, Any]:
    """Returns costs by mode, message and whether it was encrypted."""
    frames = messages(game, seed)
    found: dict[str, Any] = {
        mode: {"env_steps_per_message": steps} for mode, (_, _, steps) in frames.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        make_keys(Path(folder))
        pair = (load_learner_keys(Path(folder) / LEARNER), load_actor_keys(Path(folder) / ACTOR))
        for name, keys in (("plain", None), ("encrypted", pair)):
            with zmq.Context() as context, authenticating(context, keys and keys[0]):
                for mode, (up, weights, _) in frames.items():
                    with upstream(context, keys) as send:
                        found[mode].setdefault("up", {"bytes": len(up)})[name] = cost(
                            send, up, seconds
                        )
                    with downstream(context, keys) as send:
                        found[mode].setdefault("weights", {"bytes": len(weights)})[name] = cost(
                            send, weights, seconds
                        )
    return found


def added_per_env_step(mode: Mapping[str, Any]) -> float:
    """Returns the CPU seconds that encryption adds to an env step, of all processes together.

    For each message up an actor takes one weights message: batches and updates are of one message
    of every actor.
    """
    added = sum(
        mode[part]["encrypted"]["cpu_seconds"] - mode[part]["plain"]["cpu_seconds"]
        for part in ("up", "weights")
    )
    return float(added / mode["env_steps_per_message"])


def table(result: Mapping[str, Any]) -> str:
    """Returns the Markdown table."""
    head = ["mode", "message", "kB", "latency ms, plain", "encrypted", "CPU ms, plain"]
    head += ["encrypted", "adds to an env step, CPU µs"]
    rows: list[list[object]] = []
    for name, mode in result["modes"].items():
        for part in ("up", "weights"):
            plain, encrypted = mode[part]["plain"], mode[part]["encrypted"]
            rows.append(
                [
                    name,
                    {"up": "trajectory" if name == "data" else "gradient"}.get(part, part),
                    mode[part]["bytes"] / 1000,
                    plain["latency_seconds"] * 1e3,
                    encrypted["latency_seconds"] * 1e3,
                    plain["cpu_seconds"] * 1e3,
                    encrypted["cpu_seconds"] * 1e3,
                    added_per_env_step(mode) * 1e6 if part == "weights" else None,
                ]
            )
    return markdown_table(head, rows)


def run(seconds: float, game: str, seed: int, command: str) -> dict[str, Any]:
    """Measures, writes encryption.json, prints the table."""
    result = about(command, seed=seed, torch_threads=1) | {
        "game": game,
        "modes": measure(game, seed, seconds),
    }
    write_result("encryption", result)
    print(table(result), flush=True)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.encryption", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each kind of message")
    parser.add_argument("--game", default="pong")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(argv)
    run(asked.seconds, asked.game, asked.seed, command_line("encryption", argv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
