"""The command: reads runs, plays their checkpoints, writes one file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from asyncade_cli.evaluate import evaluate
from asyncade_cli.film import FilmError
from asyncade_cli.report.films import ShortFilm, films_of
from asyncade_cli.report.page import page
from asyncade_cli.report.runs import ReportedRun, labels_of, read_run
from asyncade_cli.settings import EvalSettings
from asyncade_cli.sharing import ReportSettings
from asyncade_rl.games import UnknownGameError
from asyncade_runtime.files import RunFolderError, write_atomically
from asyncade_runtime.settings import load

FILMED_RUNS: Final = 4
"""Of more runs only one of each mode is filmed: the file is to be sent, so below some 5 MB."""


def report(roots: Sequence[Path], settings: ReportSettings) -> Path:
    """Writes a report; returns its path. Progress goes to standard error.

    Raises:
        RunFolderError: a folder holds no run, or the report cannot be written.
    """
    out = settings.out or (roots[0] if len(roots) == 1 else Path()) / "report.html"
    if settings.out is not None:
        _check(settings.out)
    if settings.episodes is not None:
        for root in roots:
            print(f"playing {settings.episodes} games of {root}", file=sys.stderr)
            evaluate(root, load(EvalSettings, [f"--episodes={settings.episodes}"], {}))
    labels = labels_of(roots)
    runs = [read_run(root, label) for root, label in zip(roots, labels, strict=True)]
    return write(out, page(runs, short_films(runs) if settings.films else {}))


def _check(out: Path) -> None:
    """Refuses a file that cannot be written before minutes are spent on games and films.

    Raises:
        RunFolderError: it is no file's name, or its folder does not exist.
    """
    if out.is_dir() or out.suffix.lower() not in (".html", ".htm"):
        raise RunFolderError(
            f"--out {out} is {'a folder' if out.is_dir() else 'no .html file'}; name a file, such"
            f" as --out {out / 'report.html' if out.is_dir() else out.with_suffix('.html')}"
        )
    if not out.parent.is_dir():
        raise RunFolderError(
            f"the folder {out.parent} does not exist; create it, or name another --out"
        )


def short_films(runs: Sequence[ReportedRun]) -> Mapping[str, Sequence[ShortFilm]]:
    """Films runs that have checkpoints; returns label to films. Says why there are none."""
    filmed = runs
    if len(runs) > FILMED_RUNS:
        filmed = list({run.mode: run for run in reversed(runs)}.values())
    films: dict[str, Sequence[ShortFilm]] = {}
    for run in filmed:
        if run.models:
            print(f"filming {run.label}", file=sys.stderr)
        try:
            films[run.label] = films_of(run)
        except UnknownGameError as error:
            print(f"no films of {run.label}: {error}; install the game's package", file=sys.stderr)
        except (FilmError, RunFolderError, ModuleNotFoundError) as error:
            cure = "" if isinstance(error, RunFolderError) else "; pip install 'asyncade[cli]'"
            print(f"no films of {run.label}: {error}{cure}", file=sys.stderr)
    return films


def write(out: Path, content: str) -> Path:
    """Writes a report.

    Raises:
        RunFolderError: it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, content.encode())
    except OSError as error:
        raise RunFolderError(f"{out} cannot be written ({error}); name another --out") from error
    return out
