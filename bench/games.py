"""Other games than Pong: the default settings within a budget, against random play.

python -m bench.games [--games breakout,freeway,boxing] [--max-env-steps 400000] [--seeds 1]

Writes games.json after each run; run it again to continue after an interruption.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

import numpy as np

from asyncade_cli.markdown import table as markdown
from asyncade_rl.envs import make_environments
from asyncade_rl.evaluation import Round
from bench.campaign import conduct, options_of_runs
from bench.result_files import options
from bench.runs import NEVER

_ENVS: Final = 10


def random_play(game: str, episodes: int, seed: int) -> dict[str, float]:
    """Returns mean and standard deviation of whole games with actions drawn uniformly."""
    generator = np.random.default_rng(seed)
    with closing(make_environments(game, _ENVS)) as environments:
        games = Round(environments, episodes, seed)
        while not games.over:
            games.step(lambda _: generator.integers(environments.num_actions, size=_ENVS))
    return {
        "episodes": len(games.returns),
        "mean": round(statistics.fmean(games.returns), 3),
        "standard_deviation": round(statistics.pstdev(games.returns), 3),
    }


def table(result: Mapping[str, Any]) -> str:
    """Returns the runs as a Markdown table.

    The last column is the distance of the evaluation's mean from random play's, in standard
    deviations of random play's single games.
    """
    header = ["game", "seed", "env steps", "minutes", "random play", "last 100 training games"]
    header += ["evaluation", "deviations above random", "commit"]
    rows: list[list[object]] = []
    for run in result["runs"]:
        chance, mean = run["random_play"], (run.get("evaluation") or {}).get("mean")
        deviation = chance["standard_deviation"]
        rows.append(
            [
                *(run["game"], run["seed"], run["env_steps"], run["seconds"] / 60),
                f"{chance['mean']:g} ± {deviation:g}",
                *(run["mean_return_100"], mean),
                (mean - chance["mean"]) / deviation if deviation and mean is not None else None,
                run["run_commit"],
            ]
        )
    return markdown(header, rows)


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    parser = options("games", __doc__, one_run=False)
    options_of_runs(parser, episodes=30)
    parser.set_defaults(max_env_steps=400_000)
    parser.add_argument("--games", default="breakout,freeway,boxing")
    parser.add_argument("--seeds", default="1")
    asked = parser.parse_args()
    settings = {
        "mode": asked.mode,
        "max-minutes": asked.max_minutes,
        "max-env-steps": asked.max_env_steps,
        "target": NEVER,
    }
    wanted = [
        {"game": game, "seed": int(seed)}
        for game in asked.games.split(",")
        for seed in asked.seeds.split(",")
    ]

    def chance(run: Mapping[str, Any]) -> dict[str, Any]:
        return {"random_play": random_play(run["game"], asked.episodes, 10**6 + run["seed"])}

    return conduct("games", "games", asked, settings, wanted, table, chance)


if __name__ == "__main__":
    sys.exit(main())
