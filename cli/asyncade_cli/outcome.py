"""The outcome of a run: completes its folder, prints it, and reads it again."""

from __future__ import annotations

import contextlib
import platform
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TypeAlias

from asyncade_cli.plot import draw_curves
from asyncade_cli.settings import TrainSettings
from asyncade_cli.words import counted
from asyncade_learner.settings import diverged
from asyncade_runtime.files import RunFolderError
from asyncade_runtime.run_folder import CLAIMED, RunFolder

Row: TypeAlias = Mapping[str, Any]

GAMES_OF_A_MEAN: Final = 100
"""Games that must have ended before their mean return is compared with a target."""


def complete(settings: TrainSettings, folder: RunFolder, ended_by: str) -> list[str]:
    """Completes summary.json, draws the curve, and returns the lines to print.

    Args:
        settings: of the run.
        folder: of the run.
        ended_by: written to the summary if the learner has written none.
    """
    last = folder.last_metrics() or {}
    summary = folder.read_summary() or last_reported(folder.read_config(), last, ended_by)
    summary |= {
        "actors": settings.actors,
        "envs_per_actor": settings.envs,
        "processor": processor(),
        "versions": versions(),
    }
    title = f"{settings.game}, {settings.mode} mode, {settings.actors} actors, seed {settings.seed}"
    target = summary.get("target")
    lines = []
    try:
        folder.write_summary(summary)
        draw_curves({settings.mode: [folder.metrics]}, title, folder.curve, target)
    except (RunFolderError, OSError) as error:  # the outcome is printed all the same
        lines.append(f"the run folder is incomplete: {error}")
    if skipped := last.get("updates_skipped"):
        lines.append(
            f"{skipped:,} updates were skipped, for gradients not finite or absurdly large"
        )
    if back := last.get("roll_backs"):
        lines.append(f"the model diverged, and went back to a checkpoint: {counted(back, 'time')}")
    if summary.get("ended_by") == "diverged":
        lines.append(diverged(settings.learning_rate))
    return [*lines, *_figures(summary), *_confirmed(folder, summary), *_what_next(folder, summary)]


def _confirmed(folder: RunFolder, summary: Row) -> list[str]:
    """Returns a line about what an evaluation says, beside what actors have claimed."""
    if summary.get("mean_return_100") is None or not folder.checkpoint_files():
        return []
    if (found := last_evaluation(folder.evaluations)) is None:
        root = shlex.quote(str(folder.root))
        return [f"not confirmed by an evaluation yet:  asyncade eval {root}"]
    return [
        f"confirmed by an evaluation: mean return {found['mean']:g} of"
        f" {counted(found['episodes'], 'game')}, after {found['env_steps']:,} env steps"
    ]


def last_evaluation(evaluations: Iterable[Row]) -> Row | None:
    """Returns the newest evaluation in which games ended."""
    return max(
        (one for one in evaluations if one.get("episodes")),
        key=lambda one: one.get("unix_time", 0),
        default=None,
    )


def _figures(summary: Row) -> list[str]:
    """Returns lines about what there are figures of."""
    done = {"env step": "env_steps", "game": "episodes", "update": "updates"}
    lines = [
        f"ended by {summary.get('ended_by')} after {summary.get('seconds', 0):.0f} s: "
        + ", ".join(counted(summary.get(name, 0), thing) for thing, name in done.items())
    ]
    target, reached = summary.get("target"), "not reached"
    if summary.get("reached_target"):
        env_steps, minutes = summary["target_env_steps"], summary["target_seconds"] / 60
        reached = f"reached after {env_steps:,} env steps, {minutes:.1f} minutes"
    if (mean := summary.get("mean_return_100")) is not None:
        about_target = f" (target {target:g} {reached})" if target is not None else ""
        lines.append(f"mean return of the last 100 games, as actors claim: {mean}{about_target}")
    if (size := summary.get("bytes_per_env_step")) is not None:
        lines.append(f"bytes on the wire per env step: {size}")
    return lines


def _what_next(folder: RunFolder, summary: Row) -> list[str]:
    """Returns lines that say where everything is, and what to type next."""
    root = shlex.quote(str(folder.root))
    parts = {
        "checkpoints/": bool(folder.checkpoint_files()),
        "curve.png": folder.curve.exists(),
        "metrics.jsonl": folder.last_metrics() is not None,
        "logs/": folder.logs.exists(),
    }
    there = ", ".join(name for name, exists in parts.items() if exists)
    lines = [f"run folder: {folder.root}" + (f" ({there})" if there else "")]
    if folder.checkpoint_files():
        if summary.get("ended_by") != "target":
            lower = " --learning-rate LOWER" if summary.get("ended_by") == "diverged" else ""
            lines.append(f"to continue:  asyncade train --resume{lower} --run-dir {root}")
        if not summary.get("updates"):
            return lines  # nothing was learned
        lines.append(f"to see it play:  asyncade watch {root} --open")
        lines.append(f"to share it:  asyncade report {root}, asyncade export {root} DIR")
    return lines


def last_reported(config: Row, last: Row, ended_by: str) -> dict[str, Any]:
    """Returns a summary made from the last row, for a learner that could not write one.

    Args:
        config: content of config.json.
        last: row of metrics.jsonl; empty if there is none.
        ended_by: cause of the end.
    """
    learner = config.get("learner", config.get("train", {}))
    from_config = ("mode", "game", "seed", "commit", "cores", "torch_threads", "target")
    counters = ("env_steps", "seconds", "updates", "episodes")
    measured = ("mean_return_100", "bytes_per_env_step")
    # The row may be of an earlier sitting, which had another target.
    same = last.get("target") == learner.get("target")
    target = {n: last.get(n) if same else None for n in ("target_env_steps", "target_seconds")}
    return {
        **{name: learner.get(name) for name in from_config},
        "reached_target": target["target_seconds"] is not None,
        **target,
        **{name: last.get(name) for name in measured},
        **{name: last.get(name, 0) for name in counters},
        "returns": CLAIMED,
        "ended_by": ended_by,
    }


def versions() -> dict[str, str]:
    """Returns package to release of what a result depends on."""
    found = {"python": platform.python_version()}
    for package in ("asyncade", "torch", "numpy", "ale-py"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Returns the processor's name; ``unknown`` where Linux does not name it."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown")


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run's folder, the content of summary.json and the rows of metrics.jsonl.

    The rows can be iterated over any number of times, and are not held in memory.
    """

    root: Path
    summary: Row
    rows: Iterable[Row]

    @property
    def mode(self) -> str:
        """``data`` or ``gradients``."""
        return str(self.summary.get("mode"))


def above(row: Row, target: float | None) -> bool:
    """Returns whether the last 100 games of a row have a mean return above the target."""
    mean, full = row.get("mean_return_100"), row.get("episodes", 0) >= GAMES_OF_A_MEAN
    return full and target is not None and mean is not None and mean > target


def read_finished(root: Path) -> FinishedRun:
    """Reads a run without writing to its folder, which may be an archived part of one.

    Raises:
        RunFolderError: the folder holds no run, or an unfinished one.
    """
    folder = RunFolder(root)
    summary = folder.read_summary()
    if summary is None or folder.last_metrics() is None:
        raise RunFolderError(
            f"{root} holds no finished run (summary.json and rows in metrics.jsonl): check the"
            " path, wait, or finish the run with: asyncade train --resume --run-dir"
            f" {shlex.quote(str(root))}"
        )
    return FinishedRun(root, summary, folder.metrics)
