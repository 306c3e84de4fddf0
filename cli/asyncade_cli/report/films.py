"""Three short films of a run: the agent early, midway and trained."""

from __future__ import annotations

import base64
import tempfile
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from asyncade_cli.film import filming
from asyncade_cli.footage import shoot
from asyncade_cli.report.runs import ReportedRun
from asyncade_cli.trained import Trained
from asyncade_rl.evaluation import Chooser
from asyncade_rl.saved_models import SavedModel
from asyncade_runtime.run_folder import RunFolder

SECONDS: Final = 12.0
SEED: Final = 2_000_000
"""Of every film's game, so that they begin alike; unlike those of training and evaluation."""


class ShortFilm(NamedTuple):
    """A film to put into a page.

    Attributes:
        name: ``early``, ``midway`` or ``trained``.
        env_steps: of training until then.
        mean_return: of the last 100 training games until then, if any.
        mp4: a ``data:`` URL.
    """

    name: str
    env_steps: int
    mean_return: float | None
    mp4: str


def three_of(models: Sequence[SavedModel]) -> list[tuple[str, SavedModel]]:
    """Returns the first, the middle and the last model by env steps, as far as they differ."""
    if len(models) < 2:
        return [("trained", model) for model in models]
    first, *inner, last = models
    middle = (first.env_steps + last.env_steps) / 2
    nearest = sorted(inner, key=lambda model: abs(model.env_steps - middle))[:1]
    return [("early", first), *(("midway", model) for model in nearest), ("trained", last)]


def films_of(run: ReportedRun, seconds: float = SECONDS) -> list[ShortFilm]:
    """Plays and films the models of a run.

    Raises:
        FilmError: films cannot be made here.
        RunFolderError: a checkpoint has just been removed.
    """
    sticky, films = RunFolder(run.root).sticky(), []
    with tempfile.TemporaryDirectory(prefix="asyncade-report-") as folder:
        for name, model in three_of(run.models):
            path = Path(folder) / f"{name}.mp4"
            trained = Trained(model, sticky)
            with filming(path) as film, closing(trained.session(1)) as session:
                chooser = Chooser(session.network, "sample", SEED)
                shoot(film, trained, chooser, SEED, threading.Event(), seconds)
            url = "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
            films.append(ShortFilm(name, model.env_steps, _return_at(run, model.env_steps), url))
    return films


def _return_at(run: ReportedRun, env_steps: int) -> float | None:
    """Returns the mean return when a run had so many env steps."""
    known = [y for x, y in run.points("mean_return_100", "env_steps") if x <= env_steps]
    return known[-1] if known else None
