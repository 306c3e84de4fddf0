"""Env steps and wall time until the mean of the last 100 games is above the target, seed by seed.

python -m bench.time_to_target [--seeds 1,2,3,4,5] [--mode data] [--max-minutes 15]

Writes time-to-target-MODE.json after each seed; run it again to continue after an interruption.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from asyncade_cli.markdown import table as markdown
from bench.campaign import conduct, options_of_runs
from bench.result_files import options

HEADER: Final = [
    *("mode", "seeds", "env steps", "minutes", "slowest seed", "with cooldown", "env steps/s"),
    *("evaluation, sampled", "evaluation, greedy"),
]


def median(runs: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Returns a median over all seeds; None if half of them or more did not reach the target.

    A seed that did not reach the target counts as infinite.
    """
    found = statistics.median(run[name] if run["reached"] else float("inf") for run in runs)
    return None if found == float("inf") else found


def summary(result: Mapping[str, Any]) -> list[object]:
    """Returns the row of a mode, with the columns of `HEADER`.

    Medians of env steps and minutes; rate as the mean over seeds; evaluations as worst, median and
    best seed.
    """
    runs = result["runs"]
    env_steps, seconds = median(runs, "env_steps"), median(runs, "seconds")
    whole = statistics.median(run.get("trained_seconds", run["seconds"]) for run in runs)
    return [
        result["settings"]["mode"],
        f"{sum(run['reached'] for run in runs)} of {len(runs)}",
        None if env_steps is None else round(env_steps),
        _minutes(seconds),
        _minutes(max(run["seconds"] for run in runs)),
        _minutes(whole),
        round(statistics.fmean(run["env_steps"] / run["seconds"] for run in runs)),
        _spread(runs, "evaluation"),
        _spread(runs, "evaluation_greedy"),
    ]


def _minutes(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds / 60:.1f}"


def _spread(runs: Sequence[Mapping[str, Any]], name: str) -> str | None:
    means = sorted(run[name]["mean"] for run in runs if run.get(name))
    if not means:
        return None
    return f"{means[0]:.2f}, {statistics.median(means):.2f}, {means[-1]:.2f}"


def table(result: Mapping[str, Any]) -> str:
    """Returns the row of a mode as a Markdown table."""
    return markdown(HEADER, [summary(result)])


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    parser = options("time_to_target", __doc__, one_run=False)
    options_of_runs(parser, episodes=100)
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--game", default="pong")
    parser.add_argument("--target", type=float, help="default: the game's own")
    parser.add_argument("--actors", type=int, help="default: as in asyncade train")
    asked = parser.parse_args()
    settings = {
        "mode": asked.mode,
        "game": asked.game,
        "actors": asked.actors,
        "max-minutes": asked.max_minutes,
        "max-env-steps": asked.max_env_steps,
        "target": asked.target,
    }
    wanted = [{"seed": int(seed)} for seed in asked.seeds.split(",")]
    name = f"time-to-target-{asked.mode}"
    return conduct("time_to_target", name, asked, settings, wanted, table)


if __name__ == "__main__":
    sys.exit(main())
