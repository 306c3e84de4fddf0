"""Reports of a run: metrics.jsonl and TensorBoard events from the same row, and the summary."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

from asyncade_learner.events import EventFile
from asyncade_learner.progress import Progress
from asyncade_runtime.run_folder import RunFolder

EndedBy: TypeAlias = Literal["target", "max_env_steps", "max_minutes", "signal"]

Row: TypeAlias = dict[str, Any]


class Reporter:
    """Writes a row every few seconds.

    Args:
        folder: the run's.
        progress: read at every report.
        target: mean return that is to be passed, if any.
    """

    def __init__(self, folder: RunFolder, progress: Progress, target: float | None) -> None:
        self._folder = folder
        self._progress = progress
        self._target = target
        # Events beyond the checkpoint that is resumed are hidden: they are lived again.
        hidden_from = progress.env_steps + 1 if progress.env_steps else 0
        self._events = EventFile(folder.tensorboard, hidden_from)
        self._last_seconds = progress.seconds
        self._last_env_steps = progress.env_steps
        self._lags: list[int] = []
        self._losses: dict[str, float] = {}
        self._dropped = 0
        self._lost = 0

    def note_lag(self, policy_lag: int) -> None:
        """Counts a used message's policy lag into the next row's mean."""
        self._lags.append(policy_lag)

    def note_dropped(self) -> None:
        """Counts a message that was not used."""
        self._dropped += 1

    def note_lost(self, count: int) -> None:
        """Counts messages that never arrived."""
        self._lost += count

    def note_losses(self, losses: dict[str, float]) -> None:
        """Takes the losses for the next row."""
        self._losses = losses

    def report(self, *, active_actors: int, stage_seconds: dict[str, float]) -> Row:
        """Writes a row to metrics.jsonl and TensorBoard, and returns it.

        Raises:
            OSError: it could not be written to one of them. The next row goes on after it.
        """
        progress = self._progress
        elapsed = progress.seconds - self._last_seconds
        steps = progress.env_steps - self._last_env_steps
        total = sum(stage_seconds.values())
        row: Row = {
            **_counted(progress, self._target),
            "policy_version": progress.policy_version,
            "env_steps_per_second": round(steps / elapsed, 1) if elapsed > 0 else 0.0,
            "policy_lag_mean": _rounded(sum(self._lags) / len(self._lags), 3)
            if self._lags
            else None,
            "active_actors": active_actors,
            "messages_dropped": self._dropped,
            "messages_lost": self._lost,
            **{f"loss_{name}": _rounded(value, 6) for name, value in self._losses.items()},
            "stage_shares": {
                name: round(seconds / total, 4) for name, seconds in stage_seconds.items()
            }
            if total
            else {},
        }
        self._last_seconds, self._last_env_steps = progress.seconds, progress.env_steps
        self._lags = []
        self._folder.append_metrics(row)
        scalars = {name: value for name, value in row.items() if isinstance(value, int | float)}
        self._events.write(scalars, progress.env_steps)
        return row


def summary(
    progress: Progress, *, target: float | None, ended_by: str, about: dict[str, Any]
) -> dict[str, Any]:
    """Returns what summary.json says.

    Args:
        progress: at the end.
        target: mean return that was to be passed, if any.
        ended_by: what ended the run.
        about: mode, game, seed, commit, cores.
    """
    return {
        **about,
        "target": target,
        "reached_target": progress.passed(target) is not None,
        **_counted(progress, target),
        "ended_by": ended_by,
    }


def _counted(progress: Progress, target: float | None) -> Row:
    """Returns what rows and the summary both say: `asyncade train` makes up one from the other."""
    passed = progress.passed(target)
    return {
        "seconds": round(progress.seconds, 2),
        "env_steps": progress.env_steps,
        "updates": progress.updates,
        "episodes": progress.episodes,
        "mean_return_100": _rounded(progress.mean_return(), 3),
        "bytes_per_env_step": _rounded(progress.bytes_per_env_step(), 2),
        "target_env_steps": passed and passed.env_steps,
        "target_seconds": passed and round(passed.seconds, 2),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    """Returns None for what JSON cannot say."""
    return None if value is None or not math.isfinite(value) else round(value, digits)
