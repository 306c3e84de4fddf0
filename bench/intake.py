"""Transitions/s that one learner core takes in from synthetic actors, without and with training.

python -m bench.intake [--seconds 10] [--actors 16] [--seed 1] [--game pong]

memory    decode, then decode and rebuild, of recorded messages, with no socket
socket    the same over TCP, one core to receive, decode, decide and rebuild; loadgen on another
learner   `asyncade learner` under `asyncade loadgen`: what a learner that trains consumes
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from asyncade_runtime.allocator import keep_freed_memory
from asyncade_runtime.cores import available_cores, learner_threads
from asyncade_runtime.run_folder import RunFolder
from bench.report import about, command_line, markdown_table, write_result
from bench.runs import START_TIMEOUT_S, WatchedRun, asyncade, rate_between

TARGET: Final = 100_000
"""Transitions/s per learner core, without training."""

IN_FLIGHT: Final = 64
"""Credit of a synthetic actor where the wire is measured: its broadcast must not be what limits."""


def in_memory(seconds: float, game: str, seed: int) -> dict[str, float]:
    """Returns env steps/s of one core that decodes, and that decodes and rebuilds the stacks."""
    from asyncade_cli.replay import record_messages
    from asyncade_proto.codec import decode, encode
    from asyncade_proto.messages import Trajectory
    from asyncade_rl.batch import batch_of
    from bench.clock import cost_of
    from bench.work import Workshop

    keep_freed_memory()  # as a learner does
    shop = Workshop("data", game, seed)
    messages = record_messages(shop.assignment, game=game, envs=shop.envs, count=4, seed=seed)
    frames = itertools.cycle([encode(message) for message in messages])
    discount = shop.assignment.objective.discount

    def rebuild() -> None:
        message = decode(next(frames))
        assert isinstance(message, Trajectory)
        batch_of([message], discount)

    decoding = cost_of(lambda: decode(next(frames)), seconds)
    both = cost_of(rebuild, seconds)
    return {
        "decode_env_steps_per_second": shop.unroll / decoding.seconds,
        "decode_and_rebuild_env_steps_per_second": shop.unroll / both.seconds,
        "cpu_share": both.cpu_share,
    }


def over_sockets(seconds: float, game: str, seed: int, actors: int) -> dict[str, Any]:
    """Returns what a core takes in without training, from loadgen on the other cores."""
    from bench.sink import sink_process
    from bench.work import Workshop

    assignment = replace(Workshop("data", game, seed).assignment, messages_in_flight=IN_FLIGHT)
    here = sorted(os.sched_getaffinity(0))
    others = set(here[1:]) or set(here)
    with sink_process(seconds, assignment, here[0]) as pipe:
        upstream, weights = pipe.recv()
        sender = start_loadgen(upstream, weights, actors, seed, others)
        try:
            found: dict[str, Any] = dict(pipe.recv())
        finally:
            report = end_loadgen(sender)
    return found | {"loadgen": report, "reached": found["env_steps_per_second"] >= TARGET}


def with_training(seconds: float, game: str, seed: int, actors: int) -> dict[str, Any]:
    """Returns what `asyncade learner` consumes while it trains on everything it takes in."""
    with loaded_learner({"game": game, "seed": seed}, actors, seed) as loaded:
        first = loaded.run.wait_for_row(0.0, START_TIMEOUT_S, trained=True)
        timeout = seconds + START_TIMEOUT_S
        last = loaded.run.wait_for_row(first["seconds"] + seconds, timeout, trained=True)
    return consumed(first, last) | {"loadgen": loaded.report}


@dataclass(slots=True)
class Loaded:
    """A learner under load.

    Attributes:
        run: of the learner.
        report: loadgen's, once it has ended.
    """

    run: WatchedRun
    report: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def loaded_learner(
    flags: Mapping[str, object], actors: int, seed: int, **load: object
) -> Iterator[Loaded]:
    """Runs `asyncade learner` under `asyncade loadgen` until the block ends.

    Args:
        flags: of the learner; addresses and folder are chosen here.
        actors: synthetic ones.
        seed: of the replayed play.
        load: further flags of loadgen.
    """
    folder = Path(tempfile.mkdtemp(prefix="asyncade-bench-"))
    own = {
        "run-dir": folder / "run",
        "upstream-address": "tcp://127.0.0.1:*",
        "weights-address": "tcp://127.0.0.1:*",
        "metrics-port": 0,
    }
    learner = subprocess.Popen(
        asyncade("learner", dict(flags) | own),
        stderr=subprocess.DEVNULL,
    )
    loaded = Loaded(WatchedRun(learner, folder / "run"))
    sender = None
    try:
        loaded.run.wait_for_row(0.0, START_TIMEOUT_S, trained=False)
        endpoints = RunFolder.existing(loaded.run.root).read_endpoints() or {}
        everywhere = set(os.sched_getaffinity(0))
        upstream, weights = endpoints["upstream"], endpoints["weights"]
        sender = start_loadgen(upstream, weights, actors, seed, everywhere, **load)
        yield loaded
    finally:
        loaded.report = end_loadgen(sender) if sender is not None else {}
        learner.send_signal(signal.SIGTERM)
        learner.wait()
        shutil.rmtree(folder, ignore_errors=True)


def consumed(first: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a learner used between two rows: told of, less what it dropped."""
    told = rate_between(first, last)
    messages = last["policy_version"] - first["policy_version"]
    return {
        "env_steps_per_second": told,
        "messages_dropped": last["messages_dropped"] - first["messages_dropped"],
        "updates_per_second": (last["updates"] - first["updates"])
        / (last["seconds"] - first["seconds"]),
        "publications": messages,
        "policy_lag_mean": last["policy_lag_mean"],
        "active_actors": last["active_actors"],
        "stage_shares": last["stage_shares"],
    }


def start_loadgen(
    upstream: str, weights: str, actors: int, seed: int, cores: set[int], **load: object
) -> subprocess.Popen[bytes]:
    """Starts `asyncade loadgen` on some cores; it goes on until `end_loadgen`."""
    flags = {
        "upstream-address": upstream,
        "weights-address": weights,
        "actors": actors,
        "seconds": 1e6,
        "seed": seed,
    }
    return subprocess.Popen(
        asyncade("loadgen", flags | load),
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )


def end_loadgen(sender: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Ends it and returns its report; empty if it made none."""
    sender.send_signal(signal.SIGTERM)
    output, _ = sender.communicate()
    try:
        found: dict[str, Any] = json.loads(output)
    except json.JSONDecodeError:
        return {}
    return found


def table(result: Mapping[str, Any]) -> str:
    """Returns the Markdown table."""
    memory, socket, learner = result["memory"], result["socket"], result["learner"]
    rows: list[list[object]] = [
        ["in memory: decode", memory["decode_env_steps_per_second"], None],
        [
            "in memory: decode and rebuild the stacks",
            memory["decode_and_rebuild_env_steps_per_second"],
            f"target {TARGET:,}",
        ],
        ["over TCP, no training", socket["env_steps_per_second"], shown_shares(socket)],
        [
            f"`asyncade learner`, {result['cores']} cores shared with loadgen",
            learner["env_steps_per_second"],
            ", ".join(
                f"{name} {share:.0%}"
                for name, share in learner["stage_shares"].items()
                if share >= 0.01
            ),
        ],
    ]
    return markdown_table(["intake", "env steps/s", "where the time goes"], rows)


def shown_shares(found: Mapping[str, Any]) -> str:
    """Returns shares of the time, such as ``decode 40%, rebuild 60%``."""
    shares = {k.removeprefix("share_"): v for k, v in found.items() if k.startswith("share_")}
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.01)


def run(seconds: float, game: str, seed: int, actors: int, command: str) -> dict[str, Any]:
    """Measures, writes intake.json, prints the table."""
    found = {
        "memory": in_memory(seconds / 4, game, seed),
        "socket": over_sockets(seconds, game, seed, actors),
        "learner": with_training(seconds, game, seed, actors),
    }
    threads = learner_threads(available_cores())
    result = about(command, seed=seed, torch_threads=threads)
    result |= {"game": game, "actors": actors, "target": TARGET} | found
    write_result("intake", result)
    print(table(result), flush=True)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.intake",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="for each measurement")
    parser.add_argument("--actors", type=int, default=16, help="synthetic ones")
    parser.add_argument("--game", default="pong")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(argv)
    command = command_line("intake", argv)
    run(asked.seconds, asked.game, asked.seed, asked.actors, command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
