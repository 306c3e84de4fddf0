"""Several complete trainings in a row, each followed by an evaluation.

The result file is written after each run, so an interruption costs one run. Runs that the file
already has, from the same commit with the same settings, are skipped.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from asyncade_learner.settings import LearnerSettings
from asyncade_rl.choices import MODES
from asyncade_runtime.cores import available_cores
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.settings import load
from bench.result_files import about, read_result, write_result
from bench.runs import RunFailedError, running, wait_for_end

COLUMNS: Final = ("seconds", "env_steps", "mean_return_100", "env_steps_per_second")
"""Columns of metrics.jsonl that are kept of a run."""

_ROWS: Final = 60
_POLICIES: Final = {"evaluation": "sample", "evaluation_greedy": "greedy"}


def conduct(
    module: str,
    name: str,
    asked: argparse.Namespace,
    settings: Mapping[str, object],
    wanted: Sequence[Mapping[str, Any]],
    table: Callable[[Mapping[str, Any]], str],
    extra: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda run: {},
) -> int:
    """Makes the runs that are missing, and prints the table after each; returns the exit code.

    Args:
        module: module of the benchmark.
        name: name of the result.
        asked: command line, with the options of `options` and `options_of_runs`.
        settings: flags of `asyncade train` for every run.
        wanted: flags that tell the runs apart, such as the seed.
        table: renders the result.
        extra: returns further content of a run's entry.
    """
    threads = load(LearnerSettings, [f"--mode={asked.mode}"], {}).threads(available_cores())
    result = about(module, seed=wanted[0]["seed"], torch_threads=threads)
    result |= {"settings": {**settings, "episodes": asked.episodes}}
    result["runs"] = entries = _kept(name, asked.machine, result)
    folder = Path(asked.runs or tempfile.mkdtemp(prefix="asyncade-bench-"))
    print(f"run folders are in {folder}", file=sys.stderr)
    failed = False
    for run in wanted:
        if any(run.items() <= entry.items() for entry in entries):
            continue
        root = folder / "-".join(map(str, [name, *run.values(), result["commit"]]))
        try:
            found = _train(root, {**settings, **run}) | _evaluate(root, asked.episodes)
        except RunFailedError as error:
            print(error, file=sys.stderr)
            failed = True
            continue
        entries.append({**run, **extra(run), **found})
        write_result(name, asked.machine, result)
        print(table(result), flush=True)
    return 1 if failed else 0


def _kept(name: str, machine: str, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the runs of the present file that need not be repeated."""
    found = read_result(name, machine) or {}
    same = all(found.get(key) == result[key] for key in ("commit", "settings"))
    # A checkout with changes may have other code the next time.
    return list(found["runs"]) if same and "+" not in result["commit"] else []


def options_of_runs(parser: argparse.ArgumentParser, episodes: int) -> None:
    """Adds the options that all campaigns have."""
    parser.add_argument("--mode", choices=MODES, default="data")
    parser.add_argument("--max-minutes", type=float, help="time limit of each run")
    parser.add_argument("--max-env-steps", type=int, help="limit of each run")
    parser.add_argument("--episodes", type=int, default=episodes, help="games per evaluation")
    parser.add_argument("--runs", help="where run folders go; default: a temporary folder")


def _train(root: Path, flags: Mapping[str, object]) -> dict[str, Any]:
    """Trains to the end in a new run folder; returns what is kept of the run."""
    flags = {"run-dir": root, **flags}
    with running("asyncade_cli", ["train"], flags, root.with_suffix(".log")) as service:
        wait_for_end(service)
    folder = RunFolder.existing(root)
    return outcome(folder.read_summary() or {}, folder.read_metrics())


def outcome(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what is kept of a run.

    ``env_steps`` and ``seconds`` are those until the target, if it was reached; ``trained_...``
    those until the end of the cooldown.
    """
    reached = bool(summary["reached_target"])
    copied = ("updates", "episodes", "mean_return_100", "bytes_per_env_step", "ended_by")
    return {
        "reached": reached,
        "env_steps": summary["target_env_steps" if reached else "env_steps"],
        "seconds": summary["target_seconds" if reached else "seconds"],
        "trained_env_steps": summary["env_steps"],
        "trained_seconds": summary["seconds"],
        "env_steps_per_second": round(summary["env_steps"] / summary["seconds"], 1),
        **{name: summary[name] for name in copied},
        "run_commit": summary.get("commit"),
        "rows": thinned(rows),
    }


def thinned(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the main columns of at most `_ROWS` rows, including the first and the last one."""
    if len(rows) > _ROWS:
        last = len(rows) - 1
        rows = [rows[round(number * last / (_ROWS - 1))] for number in range(_ROWS)]
    return [{name: row.get(name) for name in COLUMNS} for row in rows]


def _evaluate(root: Path, episodes: int) -> dict[str, dict[str, Any]]:
    """Evaluates a run with sampled and with the most likely actions, at the same time."""
    if episodes < 1:
        return {}
    logs = {name: root.with_suffix(f".{name}.log") for name in _POLICIES}
    with ExitStack() as stack:
        for name, policy in _POLICIES.items():
            flags = {"episodes": episodes, "policy": policy}
            command = running("asyncade_cli", ["eval", str(root), "--json"], flags, logs[name])
            stack.callback(wait_for_end, stack.enter_context(command))
    found = {}
    for name, log in logs.items():
        text = log.read_text()
        found[name], _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
    return found
