"""Claims about learning: N seeds of M arms on the virtual cluster, and what they say.

python -m bench.recipe add base                           the first arm: the others' measure
python -m bench.recipe add fast --set learning_rate=2e-3  an arm of settings
python -m bench.recipe add shifts --branch random-shifts  an arm of a branch
python -m bench.recipe run --seeds 1-8                    plays what is missing
python -m bench.recipe table

Runs are kept in results/MACHINE/recipe.json as they end; stop and go on at any time. An arm that is
clearly behind the base after four seeds is not played on. Choose on seeds 1 to 16, report on 101 to
116: an arm chosen for its luck does not keep it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from asyncade_cli.markdown import table as markdown
from asyncade_learner.settings import LearnerSettings
from asyncade_rl.choices import MODES
from bench.cluster.arms import interval, measured_costs, ratio, settings_of
from bench.recipe.queue import MEASURE, behind, missing
from bench.recipe.run import MEASURES
from bench.result_files import ROOT, about, options, read_result, write_result

RESULT: Final = "recipe"


def main() -> int:
    """Runs a subcommand; returns the exit code."""
    parser = options("recipe", __doc__, one_run=False)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="an arm")
    add.add_argument("arm")
    add.add_argument("--why", default="", help="what it is expected to do")
    add.add_argument("--mode", choices=MODES, default="data")
    add.add_argument("--actors", type=int, default=2)
    add.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="learner settings")
    add.add_argument("--branch", help="commit or branch to play with, instead of this tree")
    run = commands.add_parser("run", help="what is missing")
    run.add_argument("--seeds", type=seeds, default=seeds("1-8"), help="such as 1-8")
    run.add_argument("--jobs", type=int, default=2, help="runs at a time, one core each")
    run.add_argument("--max-env-steps", type=int, default=300_000)
    commands.add_parser("table", help="all arms beside the first")
    asked = parser.parse_args()
    if asked.command == "add":
        return _add(asked, add)
    if asked.command == "run":
        return _run(asked)
    print(table(_read(asked.machine)))
    return 0


def seeds(text: str) -> list[int]:
    """Returns the seeds of ``1-8`` or ``3``."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def _read(machine: str) -> dict[str, Any]:
    return read_result(RESULT, machine) or {"arms": {}}


def _add(asked: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    result = _read(asked.machine)
    if asked.arm in result["arms"]:
        parser.error(f"there is an arm {asked.arm}; choose another name")
    try:
        settings = dict(settings_of(asked.set))
        if asked.branch is None:  # a branch may have settings of its own
            LearnerSettings(**settings)
    except ValueError as error:
        parser.error(f"--set takes NAME=VALUE, settings of the learner, values as JSON: {error}")
    arm = {name: getattr(asked, name) for name in ("why", "mode", "actors", "branch")}
    result["arms"][asked.arm] = {"arm": {**arm, "settings": settings}, "runs": []}
    write_result(RESULT, asked.machine, result)
    return 0


def _run(asked: argparse.Namespace) -> int:
    costs = measured_costs(asked.machine)
    if costs is None:
        return 2
    under_way: dict[Future[dict[str, Any]], tuple[str, int]] = {}
    with ThreadPoolExecutor(asked.jobs) as pool:
        while True:
            result = _read(asked.machine)
            runs = {name: entry["runs"] for name, entry in result["arms"].items()}
            following = missing(list(runs), asked.seeds, runs, list(under_way.values()))
            if following is not None and len(under_way) < asked.jobs:
                arm = result["arms"][following[0]]["arm"]
                task = {**arm, "costs": costs[arm["mode"]], "seed": following[1]}
                task |= {"max_env_steps": asked.max_env_steps}
                under_way[pool.submit(_play, task)] = following
                continue
            if not under_way:
                break
            for done in wait(under_way, return_when=FIRST_COMPLETED).done:
                name, _ = under_way.pop(done)
                _keep(asked, name, done.result())
    print(table(_read(asked.machine)))
    return 0


def _keep(asked: argparse.Namespace, name: str, outcome: Mapping[str, Any]) -> None:
    result = _read(asked.machine)
    entry = result["arms"][name]
    played = {**about("recipe", seed=outcome["seed"], torch_threads=1), **outcome}
    played["max_env_steps"] = asked.max_env_steps
    entry["runs"] = sorted([*entry["runs"], played], key=lambda one: one["seed"])
    write_result(RESULT, asked.machine, result)
    shown = {key: value for key, value in outcome.items() if key != "curve"}
    print(name, shown, flush=True)


def _play(task: Mapping[str, Any]) -> dict[str, Any]:
    with _tree(task["branch"]) as tree:
        parts = [
            tree / "proto",
            tree / "libs",
            tree / "cli",
            *sorted(tree.glob("services/*")),
            tree,
        ]
        path = os.pathsep.join(map(str, parts))
        done = subprocess.run(
            [sys.executable, "-m", "bench.recipe.run"],
            input=json.dumps(dict(task)),
            stdout=subprocess.PIPE,
            text=True,
            cwd=tree,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            check=True,
        )
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


@contextmanager
def _tree(branch: str | None) -> Iterator[Path]:
    """Yields a tree of the branch; this one if there is none."""
    if branch is None:
        yield ROOT
        return
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory(prefix="recipe-") as folder:
        tree = Path(folder) / "tree"
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), branch], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def table(result: Mapping[str, Any]) -> str:
    """Returns all arms as a Markdown table; ratios are to the first arm."""
    header = [
        "arm",
        "seeds",
        "met",
        "median",
        "slowest",
        "ratio (90%)",
        "20 games",
        "100 games",
        "",
    ]
    rows, runs = list[list[object]](), {n: e["runs"] for n, e in result["arms"].items()}
    base = next(iter(runs), "")
    for name, played in runs.items():
        steps = {measure: [one[measure] for one in played] for measure in MEASURES}
        of_base = [one[MEASURE] for one in runs[base]]
        judged = name != base and min(len(played), len(of_base)) > 1
        rows.append(
            [
                name,
                len(played),
                sum(MEASURE in one["met"] for one in played),
                statistics.median(steps[MEASURE]) if played else "",
                max(steps[MEASURE], default=""),
                interval(ratio(steps[MEASURE], of_base)) if judged else "",
                *(statistics.median(steps[m]) if played else "" for m in MEASURES[1:]),
                "stopped: behind" if behind(runs, name, base) else "",
            ]
        )
    return markdown(header, rows)


if __name__ == "__main__":
    sys.exit(main())
