"""Several whole trainings one after the other: each is kept as soon as it ends, and never repeated.

A campaign's file holds one entry per seed (or per game and seed). It is written after each, so an
interruption costs one run; what was done at the same commit with the same settings is skipped.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncade_runtime.run_folder import RunFolder
from bench.report import measured_commit, read_result, write_result
from bench.runs import RunFailedError, asyncade, thinned

_STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Campaign:
    """Where a campaign is kept.

    Attributes:
        name: of its JSON file.
        header: what is said above the entries; see `bench.report.about`.
        settings: what decides the outcome; entries made with others are not taken over.
        folder: of the JSON file.
    """

    name: str
    header: Mapping[str, Any]
    settings: Mapping[str, Any]
    folder: Path

    def entries(self) -> list[dict[str, Any]]:
        """Returns what was done at this commit with these settings."""
        found = read_result(self.name, self.folder) or {}
        same = found.get("commit") == self.header["commit"]
        same = same and found.get("settings") == dict(self.settings)
        # A checkout that was changed since its commit is not the same from one moment to the next.
        return list(found.get("runs", [])) if same and "+" not in found["commit"] else []

    def missing(self, wanted: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Returns what of this has not been done yet; each is told by its keys and values."""
        done = self.entries()
        return [one for one in wanted if not any(one.items() <= entry.items() for entry in done)]

    def keep(self, entries: Sequence[Mapping[str, Any]]) -> Path:
        """Writes the file."""
        content = dict(self.header) | {"settings": dict(self.settings), "runs": list(entries)}
        return write_result(self.name, content, self.folder)


def train_and_evaluate(
    root: Path, arguments: Mapping[str, object], episodes: int
) -> dict[str, Any]:
    """Trains to the end, plays with the result, and returns both in short.

    Args:
        root: a new run folder.
        arguments: of `asyncade train`.
        episodes: to evaluate over; 0 for none.

    Raises:
        RunFailedError: there is no run to speak of.
        KeyboardInterrupt: the training was stopped and has ended.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    command = asyncade("train", {"run-dir": root, "display": "lines"} | dict(arguments))
    training = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True)
    try:
        code = training.wait()
    except KeyboardInterrupt:
        training.send_signal(signal.SIGINT)
        training.wait(_STOP_TIMEOUT_S)
        raise
    if code != 0:
        raise RunFailedError(f"asyncade train ended with {code}; see {root}/logs")
    folder = RunFolder.existing(root)
    summary = folder.read_summary() or {}
    return outcome(summary, folder.read_metrics()) | evaluate(root, episodes)


def outcome(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what is kept of a run.

    ``env_steps`` and ``seconds`` are those to the target, where it was reached; ``trained_...``
    those to the end of the cooldown.
    """
    seconds, env_steps = summary["seconds"], summary["env_steps"]
    reached = bool(summary["reached_target"])
    return {
        "reached": reached,
        "env_steps": summary["target_env_steps"] if reached else env_steps,
        "seconds": summary["target_seconds"] if reached else seconds,
        "trained_env_steps": env_steps,
        "trained_seconds": seconds,
        "updates": summary["updates"],
        "episodes": summary["episodes"],
        "mean_return_100": summary["mean_return_100"],
        "env_steps_per_second": round(env_steps / seconds, 1) if seconds else None,
        "bytes_per_env_step": summary["bytes_per_env_step"],
        "ended_by": summary["ended_by"],
        "run_commit": summary.get("commit"),
        "actors": summary.get("actors"),
        "envs_per_actor": summary.get("envs_per_actor"),
        "rows": thinned(rows),
    }


def evaluate(root: Path, episodes: int) -> dict[str, dict[str, Any] | None]:
    """Returns the main figures of `asyncade eval`, by both of its policies, played side by side.

    Returns:
        ``evaluation``, with actions drawn as in training, and ``evaluation_greedy``, with the
        likeliest ones; None if none was asked for, or it failed.
    """
    names = {"evaluation": "sample", "evaluation_greedy": "greedy"}
    if episodes < 1:
        return dict.fromkeys(names)
    playing = {}
    for name, policy in names.items():
        command = [*asyncade("eval", {}), str(root), f"--episodes={episodes}", f"--policy={policy}"]
        playing[name] = subprocess.Popen(command, stdout=subprocess.PIPE)
    return {name: _main_figures(process, root) for name, process in playing.items()}


def _main_figures(playing: subprocess.Popen[bytes], root: Path) -> dict[str, Any] | None:
    report, _ = playing.communicate()
    if playing.returncode != 0:
        print(f"asyncade eval {root} ended with {playing.returncode}", file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads(report)
    wanted = ("episodes", "policy", "mean", "median", "standard_deviation", "min", "max")
    return {name: found[name] for name in wanted}


def commit_note() -> str:
    """Returns a warning where results will not be taken over by the next invocation."""
    return "The code has changes: nothing is skipped." if "+" in measured_commit() else ""
