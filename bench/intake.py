"""Env steps per second that a learner takes in: in memory, and while it trains under load.

python -m bench.intake [--seconds 10] [--actors 16] [--seed 1] [--game pong]

The first two figures are one core that decodes recorded trajectories, and that rebuilds their frame
stacks as well. The third is `asyncade learner` under `asyncade loadgen`, which share all cores.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from asyncade_cli.markdown import table as markdown
from asyncade_runtime.cores import available_cores, learner_threads
from bench.harness import timings
from bench.result_files import options, record
from bench.runs import rate_between, running, training
from bench.unit_costs import Work

TARGET: Final = 100_000
"""Env steps/s that one learner core must decode and rebuild, so that intake is no bottleneck."""


@pytest.mark.parametrize("name", ["decode", "rebuild"])
def bench_intake(benchmark: BenchmarkFixture, work: Work, name: str) -> None:
    piece = getattr(work("data"), name)()
    benchmark.extra_info |= {"name": name, "env_steps": piece.env_steps}
    benchmark(piece.run)


def in_memory(seconds: float, game: str, seed: int) -> dict[str, float]:
    """Returns env steps/s of one core without sockets."""
    (found,) = timings("intake", seconds, game=game, seed=seed)
    rates = {one["name"]: one["env_steps"] / one["seconds"] for one in found}
    return {
        "decode_env_steps_per_second": rates["decode"],
        "decode_and_rebuild_env_steps_per_second": rates["rebuild"],
    }


def under_load(seconds: float, game: str, seed: int, actors: int) -> dict[str, Any]:
    """Returns what `asyncade learner` consumes from synthetic actors while it trains."""
    flags = {
        "game": game,
        "seed": seed,
        "upstream-address": "tcp://127.0.0.1:*",
        "weights-address": "tcp://127.0.0.1:*",
        "metrics-port": 0,
    }
    with training(flags, command="learner") as run:
        run.wait_for_row(min_updates=0)
        load = {
            "upstream-address": run.endpoints()["upstream"],
            "weights-address": run.endpoints()["weights"],
            "actors": actors,
            "seconds": 1e6,
            "seed": seed,
        }
        with running("asyncade_cli", ["loadgen"], load, run.root.parent / "loadgen.log"):
            first = run.wait_for_row()
            last = run.wait_for_row(first["seconds"] + seconds)
    return {
        "env_steps_per_second": rate_between(first, last, "env_steps"),
        "updates_per_second": rate_between(first, last, "updates"),
        "messages_dropped": last["messages_dropped"] - first["messages_dropped"],
        "active_actors": last["active_actors"],
        "stage_shares": last["stage_shares"],
    }


def table(result: Mapping[str, Any]) -> str:
    """Returns the three rates as a Markdown table."""
    memory, learner = result["memory"], result["learner"]
    rebuilt = memory["decode_and_rebuild_env_steps_per_second"]
    shares = {name: share for name, share in learner["stage_shares"].items() if share >= 0.01}
    rows: list[list[object]] = [
        ["in memory: decode", memory["decode_env_steps_per_second"], None],
        ["in memory: decode and rebuild the stacks", rebuilt, f"target {TARGET:,}"],
        [
            f"`asyncade learner`, sharing {result['cores']} cores with loadgen",
            learner["env_steps_per_second"],
            ", ".join(f"{name} {share:.0%}" for name, share in shares.items()),
        ],
    ]
    return markdown(["intake", "env steps/s", "learner's time"], rows)


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    parser = options("intake", __doc__, seconds=10.0)
    parser.add_argument("--actors", type=int, default=16, help="synthetic actors")
    asked = parser.parse_args()
    seconds, game, seed = asked.seconds, asked.game, asked.seed
    content = {
        "actors": asked.actors,
        "memory": in_memory(seconds / 4, game, seed),
        "learner": under_load(seconds, game, seed, asked.actors),
    }
    record("intake", "intake", asked, content, table, learner_threads(available_cores()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
