"""``asyncade eval``: plays whole games with a trained model."""

from __future__ import annotations

import json
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Final

from asyncade_cli.film import FilmError, filming
from asyncade_cli.footage import shoot
from asyncade_cli.settings import EvalSettings
from asyncade_cli.trained import load_trained
from asyncade_cli.words import counted
from asyncade_rl.evaluation import RESAMPLES, Chooser, Round, figures
from asyncade_runtime.lifecycle import stop_on_signals
from asyncade_runtime.output import print_result
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.service import EXIT_BAD_INPUT, EXIT_CRASHED

_SECONDS_BETWEEN_LINES: Final = 10.0


def evaluate(
    run: Path,
    settings: EvalSettings,
    stop: threading.Event | None = None,
    publish: Callable[[dict[str, Any]], None] = lambda report: None,
) -> dict[str, Any]:
    """Plays, publishes the report, then films a game if a film is requested; returns the report.

    Progress goes to standard error. A whole report is added to the run's evaluations.jsonl.

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
    folder = RunFolder.existing(run)
    trained = load_trained(folder, settings.checkpoint)
    envs = min(settings.envs, settings.episodes)
    with ExitStack() as stack:
        film = stack.enter_context(filming(settings.video)) if settings.video else None
        session = stack.enter_context(closing(trained.session(envs)))
        chooser = Chooser(session.network, settings.policy, settings.seed)
        games = Round(session.environments, settings.episodes, settings.seed)
        _play(games, chooser, settings.episodes, stop)
        report = {
            "run": str(run),
            "checkpoint": trained.model.path.name,
            "env_steps": trained.model.env_steps,
            "protocol": session.environments.protocol(),
            "policy": settings.policy,
            "envs": envs,
            "seed": settings.seed,
            "interrupted": not games.over,
            **figures(games),
        }
        publish(report)
        if games.over:
            _keep(folder, report)
        if film is not None and games.over:
            _say("filming a game")
            shoot(film, trained, chooser, settings.seed, stop)
            _say(f"film: {settings.video}, {film.description}")
    return report


def evaluate_and_print(run: Path, settings: EvalSettings) -> int:
    """Evaluates until the end, SIGTERM or Ctrl-C; prints the report, with --json as JSON.

    Returns:
        The exit code: 0; 1 if the report or the film was lost at the end; 2 if the film cannot be
        written and nothing was played; 130 after a signal.

    Raises:
        RunFolderError: the folder holds no run or no readable checkpoint.
    """
    stop = stop_on_signals(second_raises=True)
    printed: list[bool] = []
    show = partial(json.dumps, indent=2) if settings.json else _described
    try:
        evaluate(
            run,
            settings,
            stop,
            lambda report: printed.append(print_result(show(report))),
        )
    except FilmError as error:
        _say(str(error))
        return EXIT_CRASHED if printed else EXIT_BAD_INPUT
    if stop.is_set():
        return 128 + signal.SIGINT
    return 0 if all(printed) else EXIT_CRASHED


def _play(games: Round, chooser: Chooser, episodes: int, stop: threading.Event) -> None:
    """Plays until all games are over or a stop is asked for, with a line every ten seconds."""
    env_steps, began = 0, time.monotonic()
    said = began
    while not games.over and not stop.is_set():
        games.step(chooser.actions)
        env_steps += 1
        now = time.monotonic()
        if now - said >= _SECONDS_BETWEEN_LINES:
            said, ended = now, len(games.returns)
            line = f"{ended} of {counted(episodes, 'game')}"
            if ended:
                left = (now - began) * (episodes - ended) / ended
                line += f", mean {statistics.fmean(games.returns):.1f}, about {left:.0f} s left"
            _say(f"{line}, {env_steps:,} env steps in each")


def _described(report: Mapping[str, Any]) -> str:
    """Returns the report for people."""
    game, protocol = report["protocol"]["game"], protocol_of(report)
    origin = f"checkpoint {report['checkpoint']}, after {report['env_steps']:,} env steps"
    if not report["episodes"]:
        return f"{game}: no game has ended\n  {origin}"
    interval = report["interval_95"]
    ends = f", 95% interval {interval[0]:g} to {interval[1]:g}" if interval else ""
    lines = [
        f"{game}: mean return {report['mean']:g}{ends}",
        f"  {counted(report['episodes'], 'game')}: median {report['median']:g}, standard deviation"
        f" {report['standard_deviation']:g}, lowest {report['min']:g}, highest {report['max']:g};"
        f" {report['mean_length']:,.0f} env steps each",
        f"  {origin}",
        *(f"  {line}" for line in protocol),
    ]
    if report["interrupted"]:
        lines.append("  interrupted: short games count too often")
    return "\n".join(lines)


def protocol_of(report: Mapping[str, Any]) -> list[str]:
    """Returns how the games of an evaluation were played, in words."""
    protocol = report["protocol"]
    sticky = protocol.get("repeat_action_probability")
    rules = [
        f"frame skip {protocol['frame_skip']}" if "frame_skip" in protocol else None,
        f"up to {protocol['noop_max']} no-ops at the start" if "noop_max" in protocol else None,
        None if sticky is None else f"sticky actions {sticky:g}" if sticky else "no sticky actions",
        protocol.get("screen"),
        f"episode: {protocol['episode']}" if "episode" in protocol else None,
    ]
    how = "sampled from the policy" if report["policy"] == "sample" else "the most probable ones"
    lines = [
        f"protocol: {', '.join(rule for rule in rules if rule)}",
        f"actions {how}; {counted(report['envs'], 'game')} in parallel,"
        f" seeds from {report['seed']}",
    ]
    if report.get("interval_95"):
        lines.append(f"the interval is a bootstrap of the mean, {RESAMPLES:,} resamples")
    return lines


def _keep(folder: RunFolder, report: Mapping[str, Any]) -> None:
    """Adds the report to the run's, for `asyncade report` and `asyncade export`."""
    try:
        folder.evaluations.append({"unix_time": round(time.time()), **report})
    except OSError as error:  # a read-only copy is played all the same
        _say(f"not kept in {folder.root}, so in no report of the run: {error}")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
