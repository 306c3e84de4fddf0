"""Env steps and wall time until the mean of the last 100 games passes the target, seed by seed.

python -m bench.time_to_target [--seeds 1,2,3,4,5] [--mode data] [--max-minutes 15]

Writes time-to-target-MODE.json after every seed; run it again to go on where it was interrupted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asyncade_learner.settings import LearnerSettings
from asyncade_runtime.cores import available_cores
from asyncade_runtime.settings import load
from bench.campaign import Campaign, commit_note, train_and_evaluate
from bench.report import RESULTS, about, command_line, markdown_table
from bench.runs import RunFailedError


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Returns medians over all seeds, where a seed that did not reach the target took for ever.

    None where that is the median: half of the seeds or more did not get there.
    """

    def median(key: str) -> float | None:
        values = sorted(run[key] if run["reached"] else float("inf") for run in runs)
        middle = statistics.median(values) if values else float("inf")
        return None if middle == float("inf") else float(middle)

    return {"env_steps": median("env_steps"), "seconds": median("seconds")}


def table(result: Mapping[str, Any]) -> str:
    """Returns the Markdown table of one mode."""
    head = ["seed", "reached", "env steps", "minutes", "env steps/s", "evaluation", "greedy"]
    rows: list[list[object]] = [
        [
            run["seed"],
            bool(run.get("reached")),
            run.get("env_steps"),
            run["seconds"] / 60 if "seconds" in run else None,
            run.get("env_steps_per_second"),
            (run.get("evaluation") or {}).get("mean"),
            (run.get("evaluation_greedy") or {}).get("mean"),
        ]
        for run in result["runs"]
    ]
    finished = [run for run in result["runs"] if "env_steps" in run]
    middle = medians(finished)
    minutes = middle["seconds"] and middle["seconds"] / 60
    reached = f"{sum(r['reached'] for r in finished)} of {len(result['runs'])}"
    rows.append(["**median**", reached, middle["env_steps"], minutes, None, None, None])
    return markdown_table(head, rows)


def run(asked: argparse.Namespace, command: str) -> int:
    """Trains every seed that is missing; returns the exit code."""
    settings = {
        "mode": asked.mode,
        "game": asked.game,
        "actors": asked.actors,
        "max_minutes": asked.max_minutes,
        "max_env_steps": asked.max_env_steps,
        "target": asked.target,
        "episodes": asked.episodes,
    }
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    learner = load(LearnerSettings, [f"--mode={asked.mode}"], {})
    header = about(
        command,
        seed=seeds[0],
        torch_threads=learner.threads(available_cores()),
    )
    header |= {"seeds": seeds}
    campaign = Campaign(f"time-to-target-{asked.mode}", header, settings, Path(asked.results))
    entries = campaign.entries()
    runs = Path(asked.runs or tempfile.mkdtemp(prefix="asyncade-bench-"))
    print(f"run folders in {runs}. {commit_note()}", file=sys.stderr)
    for wanted in campaign.missing([{"seed": seed} for seed in seeds]):
        seed = wanted["seed"]
        arguments = {
            name.replace("_", "-"): value for name, value in settings.items() if name != "episodes"
        }
        root = runs / f"{asked.game}-{asked.mode}-seed-{seed}-{header['commit']}"
        try:
            found = train_and_evaluate(root, arguments | {"seed": seed}, asked.episodes)
        except RunFailedError as error:
            print(error, file=sys.stderr)
            found = {"failed": str(error)}
        except KeyboardInterrupt:
            print(f"interrupted in seed {seed}; those before are kept", file=sys.stderr)
            return 130
        if "failed" not in found:
            entries.append({"seed": seed} | found)
        campaign.keep(entries)
        print(table({"runs": entries}), flush=True)
    return 0 if len(entries) >= len(seeds) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.time_to_target",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--mode", choices=("data", "gradients"), default="data")
    parser.add_argument("--game", default="pong")
    parser.add_argument("--target", type=float, help="default: that of the game")
    parser.add_argument("--actors", type=int, help="default: that of asyncade train")
    parser.add_argument("--max-minutes", type=float, default=15.0)
    parser.add_argument("--max-env-steps", type=int)
    parser.add_argument("--episodes", type=int, default=100, help="of each evaluation")
    parser.add_argument("--runs", help="where run folders go; default: a temporary folder")
    parser.add_argument("--results", default=str(RESULTS), help="where the JSON file goes")
    return run(parser.parse_args(argv), command_line("time_to_target", argv))


if __name__ == "__main__":
    sys.exit(main())
