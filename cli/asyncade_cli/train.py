"""``asyncade train``: runs a learner and actors as child processes on this machine."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from asyncade_cli.actors import Actors, check_actors
from asyncade_cli.display import Display, make_display
from asyncade_cli.outcome import complete
from asyncade_cli.processes import Service
from asyncade_cli.settings import TrainSettings
from asyncade_learner.settings import LearnerSettings
from asyncade_runtime.lifecycle import STOP_SIGNALS, stop_on_signals
from asyncade_runtime.run_folder import RunFolder, RunFolderError
from asyncade_runtime.settings import load

RUNS: Final = Path("runs")
EXIT_DONE: Final = 0
EXIT_DIED: Final = 1
EXIT_INTERRUPTED: Final = 128 + signal.SIGINT
_ENDED_BY: Final = {
    EXIT_DONE: "unknown",  # the learner ended normally but could not write summary.json
    EXIT_DIED: "learner_died",
    EXIT_INTERRUPTED: "signal",
}
"""Exit code to `ended_by` in summary.json, for a learner that has written none."""

_START_TIMEOUT_S: Final = 120.0
_STOP_TIMEOUT_S: Final = 30.0


def train(settings: TrainSettings, environ: Mapping[str, str]) -> int:
    """Trains until a target, a limit or a signal; returns the exit code.

    Raises:
        RunFolderError: the run folder cannot be used.
        SettingsError: a setting of the learner or the actors is wrong.
    """
    check(settings, environ)
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        return _train(settings, environ)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def check(settings: TrainSettings, environ: Mapping[str, str]) -> None:
    """Checks the settings of the learner and the actors before anything starts.

    Raises:
        SettingsError: one of them is wrong, or they do not fit together.
    """
    learner = load(LearnerSettings, [f"--mode={settings.mode}"], environ)
    check_actors(settings, learner, environ)


def _train(settings: TrainSettings, environ: Mapping[str, str]) -> int:
    folder = choose_folder(settings)
    settings = resumed_settings(settings, folder) if settings.resume else settings
    folder.write_config("train", settings.model_dump(mode="json"))
    console = Console()
    title = f"{settings.game}, {settings.mode} mode, {settings.actors} actors, {folder.root}"
    display = make_display(settings.display, console, title)
    try:
        code = Training(settings, folder, display, environ).run()
    finally:
        display.close()
    for line in complete(settings, folder, _ENDED_BY.get(code, "actors_failed")):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return code


def choose_folder(settings: TrainSettings) -> RunFolder:
    """Returns a new run folder, or the one to resume.

    Raises:
        RunFolderError: nothing can be resumed, or a run would be overwritten.
    """
    if settings.resume:
        root = settings.run_dir or newest_run("--run-dir")
        folder = RunFolder.existing(root)
        if not folder.checkpoint_files():
            raise RunFolderError(
                f"{root} has no checkpoint to resume from; start again without --resume"
            )
        return RunFolder.create(root)
    time_of_day = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    root = settings.run_dir or RUNS / f"{settings.game}-{settings.mode}-{time_of_day}"
    if RunFolder(root).checkpoint_files():
        raise RunFolderError(
            f"{root} already holds a run: add --resume to continue it, or choose another --run-dir"
        )
    return RunFolder.create(root)


def resumed_settings(settings: TrainSettings, folder: RunFolder) -> TrainSettings:
    """Returns the settings of the run in the folder, overridden by those given now.

    Limits of minutes and env steps are not taken from the folder.
    """
    before = folder.read_config().get("train", {})
    kept = {
        name: value
        for name, value in before.items()
        if name in TrainSettings.model_fields and name not in ("max_minutes", "max_env_steps")
    }
    given = settings.model_dump(mode="json", include=settings.model_fields_set)
    return TrainSettings(**{**kept, **given, "resume": True, "run_dir": folder.root})


def newest_run(how: str) -> Path:
    """Returns the newest run in runs/.

    Args:
        how: option or command that names another, for the error message.

    Raises:
        RunFolderError: there is none.
    """
    runs = sorted(RUNS.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise RunFolderError(f"no run in {RUNS}/; name one with {how}")
    return runs[-1].parent


class Training:
    """Starts, restarts and stops the processes of one run.

    Args:
        settings: of the run.
        folder: of the run.
        display: shows events and progress.
        environ: environment variables of the processes.
    """

    def __init__(
        self,
        settings: TrainSettings,
        folder: RunFolder,
        display: Display,
        environ: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._display = display
        self._environ = dict(environ)
        self._learner = Service(
            "learner",
            "asyncade_learner",
            self._learner_arguments(),
            folder.logs / "learner.log",
            environ,
        )
        self._actors = Actors(settings, folder, environ, display.say)
        self._target_announced = False
        self._stop = stop_on_signals()

    def run(self) -> int:
        """Runs all processes until the learner ends or a signal arrives; returns the exit code."""
        self._folder.remove_summary()
        self._folder.remove_endpoints()
        try:
            self._learner.start()
            self._display.say(f"learner started; log: {self._learner.log}")
            if self._wait_for_endpoints():
                endpoints = self._folder.read_endpoints() or {}
                self._actors.start(endpoints["upstream"], endpoints["weights"])
                self._watch()
            if self._is_to_end() and self._learner.exit_code() is None:
                self._display.say("stopping: the learner saves a checkpoint")
                self._learner.terminate()
                self._learner.wait(_STOP_TIMEOUT_S)
                return self._end_of_actors() or EXIT_INTERRUPTED
            return self._exit_code()
        finally:
            self._learner.terminate()
            self._actors.stop(_STOP_TIMEOUT_S)
            self._learner.wait(_STOP_TIMEOUT_S)

    def _learner_arguments(self) -> list[str]:
        settings = self._settings
        arguments = {
            "--mode": settings.mode,
            "--game": settings.game,
            "--seed": settings.seed,
            "--device": settings.device,
            "--run-dir": self._folder.root,
            "--resume": "must" if settings.resume else "never",
            "--upstream-address": "tcp://127.0.0.1:*",
            "--weights-address": "tcp://127.0.0.1:*",
            "--metrics-port": 0,
            "--target": settings.target_of_the_game(),
            "--max-minutes": settings.max_minutes,
            "--max-env-steps": settings.max_env_steps,
        }
        given = {flag: value for flag, value in arguments.items() if value is not None}
        return [f"{flag}={value}" for flag, value in given.items()]

    def _wait_for_endpoints(self) -> bool:
        """Waits until the learner listens; returns False if it ends or a signal arrives first."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._stop.is_set() and self._learner.exit_code() is None:
            if self._folder.read_endpoints() is not None:
                return True
            if time.monotonic() > deadline:
                self._display.say(f"the learner did not start; log: {self._learner.log}")
                return False
            self._stop.wait(0.05)
        return False

    def _watch(self) -> None:
        """Shows progress and restarts dead actors until the run ends or is to end."""
        before = (self._folder.last_metrics() or {}).get("env_steps", 0)
        while not self._is_to_end() and self._learner.exit_code() is None:
            row = self._folder.last_metrics() or {}
            self._actors.restart_dead(useful=row.get("env_steps", 0) > before)
            self._display.show(row, self._actors.alive())
            self._announce_target(row)
            self._stop.wait(0.5)
        if (last := self._folder.last_metrics()) is not None:
            self._display.show(last, self._settings.actors)

    def _announce_target(self, row: Mapping[str, Any]) -> None:
        env_steps = row.get("target_env_steps")
        if env_steps is not None and not self._target_announced:
            self._target_announced = True
            cooldown = self._folder.read_config().get("learner", {}).get("cooldown")
            end = "; the cooldown ends the run" if cooldown else ""
            self._display.say(f"target reached after {env_steps:,} env steps{end}")

    def _is_to_end(self) -> bool:
        return self._stop.is_set() or self._actors.failed is not None

    def _end_of_actors(self) -> int | None:
        """Returns the exit code if the actors have failed, after noting that in summary.json."""
        summary = self._folder.read_summary()
        if self._actors.failed is not None and summary is not None:
            with contextlib.suppress(RunFolderError):  # a full disk
                self._folder.write_summary(summary | {"ended_by": "actors_failed"})
        return self._actors.failed

    def _exit_code(self) -> int:
        if self._learner.exit_code() == 0:
            return EXIT_DONE
        self._display.say(
            f"the learner {self._learner.how_it_ended()}; log: {self._learner.log}\n"
            f"{self._learner.last_lines()}"
        )
        if self._folder.checkpoint_files():
            self._display.say(
                f"continue with: asyncade train --resume --run-dir {self._folder.root}"
            )
        return EXIT_DIED
