"""What `asyncade train` reaches, in both modes, against the ceiling of this machine.

And data mode once more with actors that play ahead: by default they wait for the learner.

python -m bench.pipeline [--seconds 45] [--seed 1] [--game pong] [--modes data,gradients]

The ceiling is measured before, between and after the runs: of one minute, it is worth little.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from asyncade_runtime.cores import learner_threads
from bench import ceiling, scrape
from bench.report import MODES, about, command_line, markdown_table, write_result
from bench.runs import (
    START_TIMEOUT_S,
    WatchedRun,
    efficiency,
    rate_between,
    settled_training,
)

NEVER: Final = 1e9
"""A target that no game reaches: the run goes on until it is stopped."""

AHEAD: Final = {
    "ASYNCADE_LEARNER_MESSAGES_IN_FLIGHT": "2",
    "ASYNCADE_LEARNER_TORCH_THREADS": "1",
}
"""Data mode with nobody waiting: actors play the next unroll while the learner trains.

By default they take turns, so that all data are of the present weights. What that costs in rate is
the difference between the two."""

LATENCY: Final = "asyncade_actor_weights_latency_seconds"
LAG: Final = "asyncade_learner_policy_lag_versions"


def measure(
    mode: str,
    seconds: float,
    game: str,
    seed: int,
    *,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Trains for a while and returns what the part after calibration was like."""
    arguments = {"mode": mode, "game": game, "seed": seed, "target": NEVER}
    with settled_training(arguments, environment) as (run, first):
        before = histograms(run)
        wait = seconds + START_TIMEOUT_S
        last = run.wait_for_row(first["seconds"] + seconds, wait, trained=True)
        after = histograms(run)
    return {
        "env_steps_per_second": rate_between(first, last),
        "seconds": last["seconds"] - first["seconds"],
        "env_steps": last["env_steps"] - first["env_steps"],
        "updates_per_second": (last["updates"] - first["updates"])
        / (last["seconds"] - first["seconds"]),
        "bytes_per_env_step": last["bytes_per_env_step"],
        "messages_dropped": last["messages_dropped"] - first["messages_dropped"],
        "messages_lost": last["messages_lost"] - first["messages_lost"],
        "learner_stage_shares": last["stage_shares"],
        **distributions(before, after),
    }


def histograms(run: WatchedRun) -> dict[str, dict[float, float]]:
    """Returns the histograms of interest by page; those that a service has not are left out."""
    pages = [(LATENCY, page) for page in run.actor_pages()]
    learner = run.learner_page()
    if learner is not None:
        pages.append((LAG, learner))
    found: dict[str, dict[float, float]] = {}
    for name, page in pages:
        try:
            histogram = scrape.histogram(scrape.read_page(page), name)
        except OSError:
            continue  # an actor that was started again has another port
        if histogram is not None:
            found[f"{name} {page}"] = histogram
    return found


def distributions(
    before: Mapping[str, Mapping[float, float]], after: Mapping[str, Mapping[float, float]]
) -> dict[str, Any]:
    """Returns policy lag and weights latency between two readings; None where there is none."""

    def of(name: str) -> dict[float, float] | None:
        return scrape.together(
            scrape.since(before.get(key), histogram)
            for key, histogram in after.items()
            if key.startswith(f"{name} ")
        )

    lag, latency = of(LAG), of(LATENCY)
    return {
        "policy_lag_counts": scrape.counts(lag) if lag else None,
        "weights_latency_seconds": {
            "median": scrape.quantile(latency, 0.5),
            "p95": scrape.quantile(latency, 0.95),
            "counts": scrape.counts(latency),
        }
        if latency
        else None,
    }


def against(modes: Mapping[str, dict[str, Any]], best: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the modes with their efficiency, and the ratio between them."""
    found: dict[str, Any] = {
        "modes": {
            mode: held_against(measured, best["modes"][mode]) for mode, measured in modes.items()
        },
        "gradients_over_data": None,
    }
    if {"data", "gradients"} <= modes.keys():
        found["gradients_over_data"] = efficiency(
            modes["gradients"]["env_steps_per_second"], modes["data"]["env_steps_per_second"]
        )
    return found


def held_against(measured: Mapping[str, Any], limits: Mapping[str, float]) -> dict[str, Any]:
    """Returns what was measured, with the mode's ceilings and the parts of them it reaches."""
    rate = measured["env_steps_per_second"]
    return {
        **measured,
        "ceiling": limits["ceiling"],
        "ceiling_all_cores_busy": limits["ceiling_all_cores_busy"],
        "efficiency": efficiency(rate, limits["ceiling"]),
        "efficiency_all_cores_busy": efficiency(rate, limits["ceiling_all_cores_busy"]),
    }


def table(result: Mapping[str, Any]) -> str:
    """Returns the Markdown table."""
    head = [
        "mode",
        "env steps/s",
        "ceiling",
        "efficiency",
        "with all cores busy",
        "bytes per env step",
        "policy lag",
        "weights latency, median ms",
    ]
    rows = []
    measured = dict(result["modes"])
    if ahead := result.get("ahead"):
        measured["data, actors ahead"] = ahead
    for mode, found in measured.items():
        latency = found["weights_latency_seconds"]
        rows.append(
            [
                mode,
                found["env_steps_per_second"],
                found["ceiling"],
                found["efficiency"],
                found["efficiency_all_cores_busy"],
                found["bytes_per_env_step"],
                shown_counts(found["policy_lag_counts"]),
                (latency and latency["median"] is not None and latency["median"] * 1000) or None,
            ]
        )
    text = markdown_table(head, rows)
    ratio = result["gradients_over_data"]
    return text + (f"\ngradients over data: {ratio:.2f}\n" if ratio is not None else "")


def shown_counts(counts: Mapping[str, float] | None) -> str | None:
    """Returns a distribution as shares, such as ``1: 96%, 2: 4%``."""
    if not counts:
        return None
    total = sum(counts.values())
    return ", ".join(f"{bound}: {100 * count / total:.0f}%" for bound, count in counts.items())


def run(
    seconds: float,
    ceiling_seconds: float,
    game: str,
    seed: int,
    command: str,
    modes: Sequence[str] = MODES,
) -> dict[str, Any]:
    """Measures, writes ceiling.json and pipeline.json, prints their tables."""
    turns = [ceiling.measure(ceiling_seconds, game, seed)]

    def in_turn(mode: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
        found = measure(mode, seconds, game, seed, environment=environment)
        turns.append(ceiling.measure(ceiling_seconds, game, seed))
        return found

    measured = {mode: in_turn(mode) for mode in modes}
    ahead = in_turn("data", AHEAD) if "data" in modes else None
    best = ceiling.report(turns, game, seed, command)
    header = about(command, seed=seed, torch_threads=learner_threads(best["cores"]))
    result = header | {"game": game} | against(measured, best)
    if ahead:
        result["ahead"] = held_against(ahead, best["modes"]["data"])
    write_result("pipeline", result)
    print(table(result), flush=True)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.pipeline", description=__doc__)
    parser.add_argument("--seconds", type=float, default=45.0, help="watched, in each mode")
    parser.add_argument(
        "--ceiling-seconds", type=float, default=2.0, help="as in bench.ceiling, each time"
    )
    parser.add_argument("--modes", default="data,gradients")
    parser.add_argument("--game", default="pong")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(argv)
    command, modes = command_line("pipeline", argv), asked.modes.split(",")
    run(asked.seconds, asked.ceiling_seconds, asked.game, asked.seed, command, modes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
