"""The runs of a comparison: which there are to be, which are over, and whether they are alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asyncade_cli.compare_figures import RunFigures, figures_of
from asyncade_cli.settings import CompareSettings
from asyncade_runtime.run_folder import RunFolderError

PROCESSES: Final = "processes.json"
"""What a run's processes told on /metrics, see `asyncade_cli.compare_probe`."""

_SUMMARY: Final = "summary.json"
_METRICS: Final = "metrics.jsonl"
_FINISHED: Final = ("target", "max_env_steps", "max_minutes")
_BUDGET: Final = ("game", "actors", "target", "max_env_steps", "max_minutes", "environment")


@dataclass(frozen=True)
class PlannedRun:
    """A run that is to be.

    Attributes:
        mode: ``data`` or ``gradients``.
        seed: of the run.
        root: its folder.
        settings: of the comparison.
    """

    mode: str
    seed: int
    root: Path
    settings: CompareSettings

    def arguments(self) -> list[str]:
        """Returns the command line of its ``asyncade train``; resumes what was interrupted.

        Minutes are of one sitting, so a resumed run gets those that are left.
        """
        settings = self.settings
        resume = any((self.root / "checkpoints").glob("*.safetensors"))
        minutes = settings.minutes()
        if minutes is not None and resume:
            minutes = max(minutes - _seconds_so_far(self.root) / 60, 1e-3)
        given = {
            "--mode": self.mode,
            "--game": settings.game,
            "--seed": self.seed,
            "--run-dir": self.root,
            "--display": settings.display,
            "--max-minutes": "null" if minutes is None else minutes,
            "--max-env-steps": settings.max_env_steps or "null",
            "--target": "null" if settings.target is None else settings.target,
        }
        if settings.actors is not None:
            given["--actors"] = settings.actors
        return [*(f"{flag}={value}" for flag, value in given.items()), *["--resume"] * resume]


def plan(settings: CompareSettings, out: Path) -> list[PlannedRun]:
    """Returns the runs in their order: modes take turns, so that a slow hour hits both."""
    return [
        PlannedRun(mode, seed, out / f"{mode}-seed-{seed}", settings)
        for seed in settings.seeds
        for mode in ("data", "gradients")
    ]


def agreed(before: Mapping[str, Any], asked: Mapping[str, Any], out: Path) -> None:
    """Checks that a folder is continued under the settings it was begun with.

    Raises:
        RunFolderError: it is not. Seeds may differ.
    """
    for name in _BUDGET:
        if before and before.get(name) != asked[name]:
            raise RunFolderError(
                f"{out} holds a comparison with {name} {before.get(name)!r}, not {asked[name]!r}:"
                " leave the setting out to continue it, or choose another --out"
            )


@dataclass(frozen=True)
class FinishedRun:
    """A run that is over.

    Attributes:
        figures: what it comes to.
        rows: of metrics.jsonl.
    """

    figures: RunFigures
    rows: list[dict[str, Any]]


def is_finished(root: Path) -> bool:
    """Whether the run reached its target or the end of its budget."""
    return (_json_or_none(root / _SUMMARY) or {}).get("ended_by") in _FINISHED


def read_run(root: Path, target: float | None = None) -> FinishedRun:
    """Reads a run and changes nothing, so that results kept elsewhere can be compared too.

    Args:
        root: its folder.
        target: judge it by this one; its own when None.

    Raises:
        RunFolderError: no run, or one that is not over.
    """
    summary = _json_or_none(root / _SUMMARY)
    rows = _rows(root / _METRICS)
    if summary is None:
        begun = (root / "config.json").is_file() or rows
        cure = (
            f"is not over: wait for it, or end it with: asyncade train --resume --run-dir {root}"
            if begun
            else "holds no run (no summary.json); is the path right?"
        )
        raise RunFolderError(f"{root} {cure}")
    if not rows:
        raise RunFolderError(f"{root} has no rows in {_METRICS}; leave it out or train it anew")
    target = summary.get("target") if target is None else target
    processes = _json_or_none(root / PROCESSES)
    return FinishedRun(figures_of(str(root), summary, rows, processes, target), rows)


def check_alike(runs: Sequence[RunFigures]) -> None:
    """Checks that runs can be compared.

    Raises:
        RunFolderError: a mode is missing, or the runs differ in what must be equal.
    """
    modes = {run.mode for run in runs}
    if modes != {"data", "gradients"}:
        missing = " and no ".join(sorted({"data", "gradients"} - modes))
        raise RunFolderError(
            f"there is no {missing} run to compare with: name runs of both modes, made by asyncade"
            " train --mode data and --mode gradients"
        )
    for name, cure in (
        ("game", "compare the games one by one"),
        ("target", "judge all by one with --target"),
        ("actors", "name runs with as many actors as each other"),
        ("cores", "name runs of the same machine"),
    ):
        values: dict[Any, str] = {}
        for run in runs:
            values.setdefault(getattr(run, name), run.run)
        if len(values) > 1:
            (one, here), (other, there), *_ = values.items()
            raise RunFolderError(
                f"the runs are unlike: {name} is {one} in {here} and {other} in {there}; {cure}"
            )


def _seconds_so_far(root: Path) -> float:
    rows = _rows(root / _METRICS)
    return float(rows[-1].get("seconds", 0.0)) if rows else 0.0


def _json_or_none(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} cannot be read ({error}); mend or remove it") from error
    return content if isinstance(content, dict) else None


def _rows(path: Path) -> list[dict[str, Any]]:
    """Returns the rows; a killed process may leave half a line, which is passed over."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def runs_joined(arguments: Sequence[str]) -> list[str]:
    """Returns the command line with ``--runs A B C`` written ``--runs=A,B,C``."""
    joined: list[str] = []
    roots: list[str] | None = None
    for argument in arguments:
        if argument == "--runs":
            roots = []
        elif roots is not None and not argument.startswith("-"):
            roots.append(argument)
            continue
        elif roots:
            joined.append("--runs=" + ",".join(roots))
            roots = None
        if argument != "--runs":
            joined.append(argument)
    return [*joined, "--runs=" + ",".join(roots or [])] if roots is not None else joined
