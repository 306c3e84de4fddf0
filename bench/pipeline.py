"""Rate and efficiency of `asyncade train` in both modes, against the ceiling of this machine.

python -m bench.pipeline [--seconds 45] [--seed 1] [--game pong]

Data mode runs a second time with actors that play ahead instead of waiting for new weights. Unit
costs are measured before, between and after the runs, because the speed of a shared machine drifts.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from asyncade_cli.markdown import table as markdown
from asyncade_rl.choices import MODES
from asyncade_runtime.cores import available_cores, learner_threads
from bench import scrape, unit_costs
from bench.result_files import options, record
from bench.runs import NEVER, Training, rate_between, training

AHEAD: Final = {
    "ASYNCADE_LEARNER_MESSAGES_IN_FLIGHT": "2",
    "ASYNCADE_LEARNER_TORCH_THREADS": "1",
}
"""Settings under which actors play the next unroll while the learner trains."""

LATENCY: Final = "asyncade_actor_weights_latency_seconds"
LAG: Final = "asyncade_learner_policy_lag_updates"

_SETTLE_S: Final = 5.0
"""Time after the first update that is not measured."""


def measure(
    mode: str, seconds: float, game: str, seed: int, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Trains, and returns the figures of `seconds` seconds after calibration."""
    flags = {"mode": mode, "game": game, "seed": seed, "target": NEVER}
    with training(flags, environment) as run:
        started = run.wait_for_row()
        first = run.wait_for_row(started["seconds"] + _SETTLE_S)
        before = _histograms(run)
        last = run.wait_for_row(first["seconds"] + seconds)
        latency, lag = (new - old for new, old in zip(_histograms(run), before, strict=True))
    return {
        "env_steps_per_second": rate_between(first, last, "env_steps"),
        "updates_per_second": rate_between(first, last, "updates"),
        "seconds": last["seconds"] - first["seconds"],
        "bytes_per_env_step": last["bytes_per_env_step"],
        "messages_dropped": last["messages_dropped"] - first["messages_dropped"],
        "messages_lost": last["messages_lost"] - first["messages_lost"],
        "learner_stage_shares": last["stage_shares"],
        "policy_lag_counts": scrape.counts(lag),
        "weights_latency_seconds": {"median": scrape.quantile(latency, 0.5)},
    }


def _histograms(run: Training) -> tuple[scrape.Histogram, scrape.Histogram]:
    """Returns weights latency and policy lag of all updates so far."""
    latency = scrape.histogram(run.actor_pages(), LATENCY)
    return latency, scrape.histogram([run.endpoints()["metrics"]], LAG)


def with_efficiency(measured: Mapping[str, Any], ceilings: Mapping[str, float]) -> dict[str, Any]:
    """Returns the figures of a mode with its ceilings and the parts of them that it reaches."""
    rate = measured["env_steps_per_second"]
    return {
        **measured,
        "ceiling": ceilings["ceiling"],
        "ceiling_all_cores_busy": ceilings["ceiling_all_cores_busy"],
        "efficiency": rate / ceilings["ceiling"],
        "efficiency_all_cores_busy": rate / ceilings["ceiling_all_cores_busy"],
    }


def table(result: Mapping[str, Any]) -> str:
    """Returns the figures as a Markdown table, one row per run."""
    header = ["mode", "env steps/s", "ceiling", "efficiency", "with all cores busy"]
    header += ["bytes per env step", "policy lag", "weights latency, median ms"]
    rows: list[list[object]] = []
    ahead = {"data, actors ahead": result["ahead"]} if "ahead" in result else {}
    for mode, found in (result["modes"] | ahead).items():
        latency = found["weights_latency_seconds"]["median"]
        rows.append(
            [
                mode,
                found["env_steps_per_second"],
                found["ceiling"],
                found["efficiency"],
                found["efficiency_all_cores_busy"],
                found["bytes_per_env_step"],
                _shares(found["policy_lag_counts"]),
                None if latency is None else latency * 1000,
            ]
        )
    return markdown(header, rows)


def _shares(counts: Mapping[str, float]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{versions}: {count / total:.0%}" for versions, count in counts.items())


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    parser = options("pipeline", __doc__, seconds=45.0)
    parser.add_argument("--piece-seconds", type=float, default=1.0, help="as in bench.unit_costs")
    asked = parser.parse_args()
    game, seed = asked.game, asked.seed
    turns = [unit_costs.measure(asked.piece_seconds, game, seed)]
    runs: dict[str, dict[str, Any]] = {}
    for name, mode, environment in (*((m, m, {}) for m in MODES), ("ahead", "data", AHEAD)):
        runs[name] = measure(mode, asked.seconds, game, seed, environment)
        turns.append(unit_costs.measure(asked.piece_seconds, game, seed))
    best = unit_costs.with_ceilings(turns)
    record("pipeline", "unit-costs", asked, {"modes": best}, unit_costs.table)
    content = {
        "modes": {mode: with_efficiency(runs[mode], best[mode]) for mode in MODES},
        "ahead": with_efficiency(runs["ahead"], best["data"]),
    }
    record("pipeline", "pipeline", asked, content, table, learner_threads(available_cores()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
