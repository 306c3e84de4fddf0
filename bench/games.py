"""Other games than Pong: does the default learn them, within a budget, beyond random play?

python -m bench.games [--games breakout,freeway,boxing] [--max-env-steps 400000] [--seeds 1]

Writes games.json after every run; run it again to go on where it was interrupted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asyncade_learner.settings import LearnerSettings
from asyncade_rl.envs import Environments, make_environments
from asyncade_runtime.cores import available_cores
from asyncade_runtime.settings import load
from bench.campaign import Campaign, commit_note, train_and_evaluate
from bench.report import RESULTS, about, command_line, markdown_table
from bench.runs import RunFailedError

_ENVS = 10


def random_play(environments: Environments, episodes: int, seed: int) -> list[float]:
    """Returns the returns of whole games with actions drawn uniformly.

    Every environment plays its share, or short games would be counted more often than long ones.
    """
    envs = environments.num_envs
    share = [episodes // envs + (n < episodes % envs) for n in range(envs)]
    generator = np.random.default_rng(seed)
    environments.reset(seed)
    score = np.zeros(envs)
    returns: list[float] = []
    while any(share):
        step = environments.step(generator.integers(environments.num_actions, size=envs))
        score += step.rewards
        for env in np.flatnonzero(step.terminated | step.truncated):
            if share[env]:
                share[env] -= 1
                returns.append(float(score[env]))
            score[env] = 0
    return returns


def described(returns: Sequence[float]) -> dict[str, float]:
    """Returns count, mean, deviation and extremes."""
    return {
        "episodes": len(returns),
        "mean": round(statistics.fmean(returns), 3),
        "standard_deviation": round(statistics.pstdev(returns), 3),
        "min": min(returns),
        "max": max(returns),
    }


def above_random(mean: float, chance: Mapping[str, float]) -> float | None:
    """Returns how many deviations of random play's games a mean return lies above its mean."""
    deviation = chance["standard_deviation"]
    return (mean - chance["mean"]) / deviation if deviation > 0 else None


def table(result: Mapping[str, Any]) -> str:
    """Returns the Markdown table."""
    head = [
        "game",
        "seed",
        "env steps",
        "minutes",
        "random play",
        "mean of the last 100 training games",
        "evaluation mean",
        "deviations above random",
        "commit",
    ]
    rows: list[list[object]] = []
    for run in result["runs"]:
        mean = (run["evaluation"] or {}).get("mean", run["mean_return_100"])
        chance = run["random_play"]
        rows.append(
            [
                run["game"],
                run["seed"],
                run["env_steps"],
                run["seconds"] / 60,
                f"{chance['mean']:g} ± {chance['standard_deviation']:g}",
                run["mean_return_100"],
                (run["evaluation"] or {}).get("mean"),
                above_random(mean, chance) if mean is not None else None,
                run["run_commit"],
            ]
        )
    return markdown_table(head, rows)


def run(asked: argparse.Namespace, command: str) -> int:
    """Trains every game and seed that is missing; returns the exit code."""
    settings = {
        "mode": asked.mode,
        "max_env_steps": asked.max_env_steps,
        "max_minutes": asked.max_minutes,
        "episodes": asked.episodes,
        "random_episodes": asked.random_episodes,
    }
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    wanted = [{"game": game, "seed": seed} for game in asked.games.split(",") for seed in seeds]
    learner = load(LearnerSettings, [f"--mode={asked.mode}"], {})
    header = about(
        command,
        seed=seeds[0],
        torch_threads=learner.threads(available_cores()),
    )
    campaign = Campaign("games", header, settings, Path(asked.results))
    entries = campaign.entries()
    runs = Path(asked.runs or tempfile.mkdtemp(prefix="asyncade-bench-"))
    print(f"run folders in {runs}. {commit_note()}", file=sys.stderr)
    failed = 0
    for one in campaign.missing(wanted):
        environments = make_environments(one["game"], min(_ENVS, asked.random_episodes))
        chance = described(random_play(environments, asked.random_episodes, 10**6 + one["seed"]))
        environments.close()
        arguments = {
            "mode": asked.mode,
            "max-env-steps": asked.max_env_steps,
            "max-minutes": asked.max_minutes,
            "target": 1e9,  # to the end of the budget
            **one,
        }
        root = runs / f"{one['game']}-{asked.mode}-seed-{one['seed']}-{header['commit']}"
        try:
            found = train_and_evaluate(root, arguments, asked.episodes)
        except RunFailedError as error:
            print(error, file=sys.stderr)
            failed += 1
            continue
        except KeyboardInterrupt:
            print(f"interrupted in {one}; those before are kept", file=sys.stderr)
            return 130
        entries.append({**one, "random_play": chance} | found)
        campaign.keep(entries)
        print(table({"runs": entries}), flush=True)
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.games",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--games", default="breakout,freeway,boxing")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--mode", choices=("data", "gradients"), default="data")
    parser.add_argument("--max-env-steps", type=int, default=400_000)
    parser.add_argument("--max-minutes", type=float, help="of each run")
    parser.add_argument("--episodes", type=int, default=30, help="of each evaluation")
    parser.add_argument("--random-episodes", type=int, default=30, help="of random play")
    parser.add_argument("--runs", help="where run folders go; default: a temporary folder")
    parser.add_argument("--results", default=str(RESULTS), help="where the JSON file goes")
    return run(parser.parse_args(argv), command_line("games", argv))


if __name__ == "__main__":
    sys.exit(main())
