"""A cluster on a virtual clock: how soon N actors are at the target.

python -m bench.cluster measure                       what the stages cost on this machine
python -m bench.cluster run --arm NAME --actors 16    eight seeds of one arm, two at a time
python -m bench.cluster table                         all arms beside the first one

``--fault-every 5`` makes an arm of random faults: about every five virtual seconds an actor dies or
stands still, the learner dies about every two minutes, and one message in a hundred is lost.

An arm is a set of learner settings (``--set name=value``) and a cluster. Its runs are kept in
results/MACHINE/cluster.json as they end, and are not repeated.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from asyncade_cli.markdown import table as markdown
from asyncade_learner.settings import LearnerSettings
from asyncade_rl.choices import MODES, Mode
from bench.cluster import arms
from bench.cluster.cluster import Cluster, Plan, temporary_folder
from bench.result_files import about, options, read_result, write_result

RESULT: Final = "cluster"

_ALONE: Final = {"actors": 1, "passes": 1, "minibatch_size": 4096}
"""One actor beside a learner that hardly works: its data stay in the cache, as on its own core."""

_MEASURED: Final[dict[Mode, tuple[dict[str, Any], ...]]] = {
    "data": (
        *({**_ALONE, "envs": games, "batch_samples": 64 * games} for games in (1, 2, 4, 8)),
        {"actors": 2, "envs": 8},
    ),
    "gradients": tuple(
        {"actors": 1, "envs": games, "batch_samples": 64 * games} for games in (1, 2, 4, 8)
    ),
}
"""Clusters whose stages are measured, a later one replacing what an earlier one measured."""


def main() -> int:
    """Runs a subcommand; returns the exit code."""
    parser = options("cluster", __doc__, one_run=False)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("measure").add_argument(
        "--env-steps", type=int, default=600, help="of each game"
    )
    run = commands.add_parser("run")
    run.add_argument("--arm", required=True, help="name of the arm in the result")
    run.add_argument("--mode", choices=MODES, default="data")
    run.add_argument("--actors", type=int, required=True)
    run.add_argument("--envs", type=int, default=8, help="games that an actor has")
    run.add_argument("--seeds", type=int, nargs="+", default=list(range(1, 9)))
    run.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="learner settings")
    run.add_argument("--update-ms", type=float, help="assumed time of an optimiser step, instead")
    run.add_argument("--slow", type=float, help="actor 0 takes this many times as long")
    run.add_argument("--kill", type=int, default=0, help="actors killed and replaced, one a while")
    run.add_argument(
        "--fault-every",
        type=float,
        metavar="SECONDS",
        help="kill or pause an actor this often, lose messages, restart the learner, at random",
    )
    run.add_argument("--max-env-steps", type=int, default=400_000)
    run.add_argument("--jobs", type=int, default=2, help="runs at a time, one core each")
    commands.add_parser("table")
    asked = parser.parse_args()
    if asked.command == "run":
        try:
            asked.set = dict(arms.settings_of(asked.set))
            LearnerSettings(**asked.set)
        except ValueError as error:
            run.error(f"--set takes NAME=VALUE, settings of the learner, values as JSON: {error}")
    if asked.command == "measure":
        return _measure(asked)
    if asked.command == "run":
        return _run(asked)
    print(table(read_result(RESULT, asked.machine) or {"arms": {}}))
    return 0


def _measure(asked: argparse.Namespace) -> int:
    arms.use_one_core()
    costs: dict[str, dict[str, dict[str, dict[str, float]]]] = {mode: {} for mode in MODES}
    for mode, plans in _MEASURED.items():
        for one in plans:
            settings = {"mode": mode, **one, "checkpoint_seconds": 1e9, "seed": 1}
            settings["calibration_env_steps"] = 0
            actors, envs = settings.pop("actors"), settings.pop("envs")
            with temporary_folder() as folder:
                plan = Plan(actors=actors, envs=envs, settings={**settings, "run_dir": folder})
                cluster = Cluster(plan, Path(folder))
                limit = envs * actors * asked.env_steps
                cluster.run(lambda learner, limit=limit: learner.progress.env_steps >= limit)  # type: ignore[misc]
            for name, seconds in cluster.record.table().items():
                role, stage = name.split("/")
                if stage != "wait":
                    costs[mode].setdefault(role, {}).setdefault(stage, {}).update(seconds)
    write_result(
        arms.COSTS, asked.machine, {**about("cluster", seed=1, torch_threads=1), "costs": costs}
    )
    print(json.dumps(costs, indent=1))
    return 0


def _run(asked: argparse.Namespace) -> int:
    costs = arms.measured_costs(asked.machine)
    if costs is None:
        return 2
    arm = {
        "mode": asked.mode,
        "actors": asked.actors,
        "envs": asked.envs,
        "settings": asked.set,
        "update_ms": asked.update_ms,
        "slow": asked.slow,
        "kill": asked.kill,
        "max_env_steps": asked.max_env_steps,
    }
    if asked.fault_every is not None:
        arm["fault_every_s"] = asked.fault_every
    result = read_result(RESULT, asked.machine) or {"arms": {}}
    kept = result["arms"].get(asked.arm, {"runs": []})
    runs = kept["runs"] if kept.get("arm") == arm else []
    missing = [seed for seed in asked.seeds if seed not in {one["seed"] for one in runs}]
    tasks = [(arm, costs[asked.mode], seed) for seed in missing]
    with multiprocessing.get_context("spawn").Pool(asked.jobs, maxtasksperchild=1) as pool:
        for outcome in pool.imap_unordered(arms.outcome_of, tasks):
            runs.append(outcome)
            # Read again: another arm may have been run meanwhile.
            result = read_result(RESULT, asked.machine) or {"arms": {}}
            entry = {**about("cluster", seed=runs[0]["seed"], torch_threads=1), "arm": arm}
            result["arms"][asked.arm] = {**entry, "runs": sorted(runs, key=lambda one: one["seed"])}
            write_result(RESULT, asked.machine, result)
            print({name: value for name, value in outcome.items() if name != "marks"}, flush=True)
    print(table(result))
    return 0


def table(result: Mapping[str, Any]) -> str:
    """Returns all arms as a Markdown table; ratios are to the first arm of the same mode."""
    header = ["arm", "seeds", "reached", "env steps to 0.75", "ratio", "virtual s", "speed-up"]
    header += ["env steps/s", "bytes up, down per env step"]
    rows, first, interval = list[list[object]](), dict[str, Any](), arms.interval
    for name, entry in result["arms"].items():
        runs = entry["runs"]
        base = first.setdefault(entry["arm"]["mode"], runs)
        env_steps, seconds = ([one[key] for one in runs] for key in ("env_steps", "seconds"))
        many = min(len(runs), len(base)) > 1
        rows.append(
            [
                name,
                len(runs),
                sum(one["reached"] for one in runs),
                round(arms.geometric_mean(env_steps)),
                interval(arms.ratio(env_steps, [o["env_steps"] for o in base])) if many else "",
                round(arms.geometric_mean(seconds), 1),
                interval(arms.ratio([o["seconds"] for o in base], seconds)) if many else "",
                round(sum(env_steps) / sum(seconds)),
                ", ".join(
                    str(round(sum(one[key] for one in runs) / sum(env_steps)))
                    for key in ("bytes_up", "bytes_down")
                ),
            ]
        )
    return markdown(header, rows)


if __name__ == "__main__":
    sys.exit(main())
