"""``asyncade eval``: plays whole games with a trained model."""

from __future__ import annotations

import json
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asyncade_cli.film import Film, FilmError, filming
from asyncade_cli.settings import EvalSettings
from asyncade_learner import checkpoint
from asyncade_rl.envs import make_environments
from asyncade_rl.evaluation import Chooser, Round
from asyncade_rl.session import Session
from asyncade_runtime.lifecycle import stop_on_signals
from asyncade_runtime.output import print_result
from asyncade_runtime.run_folder import RunFolder, RunFolderError
from asyncade_runtime.service import EXIT_BAD_INPUT, EXIT_CRASHED

_SECONDS_BETWEEN_LINES: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Model:
    """A checkpoint, and the game it was trained on."""

    path: Path
    checkpoint: checkpoint.Checkpoint
    game: str
    network: str
    sticky: float


def evaluate(
    run: Path,
    settings: EvalSettings,
    stop: threading.Event | None = None,
    publish: Callable[[dict[str, Any]], None] = lambda report: None,
) -> dict[str, Any]:
    """Plays, publishes the report, then films a game if a film is requested; returns the report.

    Progress goes to standard error.

    Args:
        run: folder of the run.
        settings: of the evaluation.
        stop: ends the playing, and then the filming, early. The report covers the finished games.
        publish: called with the report before the film is made, which may fail.

    Raises:
        FilmError: the film cannot be written. Nothing was played, or the report was published.
        RunFolderError: the folder holds no run or no readable checkpoint.
    """
    stop = stop or threading.Event()
    model = _load(RunFolder.existing(run), settings.checkpoint)
    envs = min(settings.envs, settings.episodes)
    with ExitStack() as stack:
        film = stack.enter_context(filming(settings.video)) if settings.video else None
        session = stack.enter_context(
            closing(
                Session(
                    model.game, model.network, envs=envs, repeat_action_probability=model.sticky
                )
            )
        )
        session.load_tensors(model.checkpoint.model)
        chooser = Chooser(session.network, settings.policy, settings.seed)
        games = Round(session.environments, settings.episodes, settings.seed)
        _play(games, chooser, settings.episodes, stop)
        report = {
            "run": str(run),
            "checkpoint": model.path.name,
            "env_steps": model.checkpoint.progress.env_steps,
            "protocol": session.environments.protocol(),
            "policy": settings.policy,
            "interrupted": not games.over,
            **_figures(games),
        }
        publish(report)
        if film is not None and games.over:
            _shoot(film, model, chooser, settings.seed, stop)
            _say(f"film: {settings.video}, {film.description}")
    return report


def evaluate_and_print(run: Path, settings: EvalSettings) -> int:
    """Evaluates until the end, SIGTERM or Ctrl-C; prints the report as JSON.

    Returns:
        The exit code: 0; 1 if the report or the film was lost at the end; 2 if the film cannot be
        written and nothing was played; 130 after a signal.

    Raises:
        RunFolderError: the folder holds no run or no readable checkpoint.
    """
    stop = stop_on_signals()
    printed: list[bool] = []
    try:
        evaluate(
            run,
            settings,
            stop,
            lambda report: printed.append(print_result(json.dumps(report, indent=2))),
        )
    except FilmError as error:
        _say(str(error))
        return EXIT_CRASHED if printed else EXIT_BAD_INPUT
    if stop.is_set():
        return 128 + signal.SIGINT
    return 0 if all(printed) else EXIT_CRASHED


def _load(folder: RunFolder, name: Path | None) -> _Model:
    path, found = _named(folder, name) or _newest_readable(folder)
    learner = folder.read_config().get("learner", {})
    return _Model(
        path=path,
        checkpoint=found,
        game=str(found.about["game"]),
        network=str(found.about["network"]),
        sticky=float(learner.get("repeat_action_probability", 0.0)),
    )


def _named(folder: RunFolder, name: Path | None) -> tuple[Path, checkpoint.Checkpoint] | None:
    if name is None:
        return None
    path = name if name.exists() else folder.checkpoints / name
    if not path.is_file():
        raise RunFolderError(f"there is no checkpoint {name}, nor {path}; is the path right?")
    try:
        return path, checkpoint.load(path)
    except checkpoint.CheckpointError as error:
        raise RunFolderError(str(error)) from error


def _newest_readable(folder: RunFolder) -> tuple[Path, checkpoint.Checkpoint]:
    paths = folder.checkpoint_files()
    if not paths:
        raise RunFolderError(f"{folder.root} has no checkpoint yet; train longer")
    for path in paths:
        try:
            return path, checkpoint.load(path)
        except checkpoint.CheckpointError as error:
            _say(f"{error}; trying the previous one")
    raise RunFolderError(f"no checkpoint in {folder.checkpoints} can be read; train again")


def _play(games: Round, chooser: Chooser, episodes: int, stop: threading.Event) -> None:
    """Plays until all games are over or a stop is asked for, with a line every ten seconds."""
    env_steps, said = 0, time.monotonic()
    while not games.over and not stop.is_set():
        games.step(chooser.actions)
        env_steps += 1
        if time.monotonic() - said >= _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            mean = f", mean {statistics.fmean(games.returns):.1f}" if games.returns else ""
            _say(f"{len(games.returns)} of {episodes} games{mean}, {env_steps:,} steps in each")


def _figures(games: Round) -> dict[str, Any]:
    """Returns the figures of the finished games; of none, only their number."""
    returns = games.returns
    if not returns:
        return {"episodes": 0}
    return {
        "episodes": len(returns),
        "mean": round(statistics.fmean(returns), 3),
        "median": statistics.median(returns),
        "standard_deviation": round(statistics.pstdev(returns), 3),
        "min": min(returns),
        "max": max(returns),
        "mean_length": round(statistics.fmean(games.lengths), 1),
    }


def _shoot(film: Film, model: _Model, chooser: Chooser, seed: int, stop: threading.Event) -> None:
    """Films a game, as the network observes it, until its end, a full film or a stop."""
    single = make_environments(model.game, 1, repeat_action_probability=model.sticky)
    with closing(single):
        observations = single.reset(seed)
        while not film.full and not stop.is_set():
            film.add(observations[0, -1])
            step = single.step(chooser.actions(observations))
            if step.terminated[0] or step.truncated[0]:
                return
            observations = step.observations
    film.cut = True


def _say(line: str) -> None:
    print(line, file=sys.stderr)
