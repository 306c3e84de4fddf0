"""``asyncade train``: a learner and actors as processes on this machine, watched by this one."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from asyncade_cli.display import Display, make_display
from asyncade_cli.outcome import complete
from asyncade_cli.processes import Service
from asyncade_cli.settings import TrainSettings
from asyncade_runtime.cores import available_cores
from asyncade_runtime.lifecycle import stop_on_signals
from asyncade_runtime.run_folder import RunFolder, RunFolderError

RUNS: Final = Path("runs")
EXIT_DONE: Final = 0
EXIT_DIED: Final = 1
EXIT_INTERRUPTED: Final = 128 + signal.SIGINT
_ENDED_BY: Final = {
    EXIT_DONE: "unknown",  # to this process: the learner knew, but could not write it down
    EXIT_DIED: "learner_died",
    EXIT_INTERRUPTED: "signal",
}
"""What summary.json says of the end where the learner has written none."""

_START_TIMEOUT_S: Final = 120.0
_STOP_TIMEOUT_S: Final = 30.0
_RESTART_AFTER_S: Final = (0.5, 2.0, 10.0, 30.0)
"""Pauses before an actor that keeps dying is started again."""

_ACTOR_NICENESS: Final = 5
"""Actors that play while the learner trains yield to it: all of them wait for what it makes."""


def train(settings: TrainSettings, environ: Mapping[str, str]) -> int:
    """Runs a training to its end; returns the exit code.

    Raises:
        RunFolderError: the run folder is not fit for what is asked.
    """
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
    for line in complete(settings, folder, _ENDED_BY[code]):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return code


def choose_folder(settings: TrainSettings) -> RunFolder:
    """Returns the run's folder, new or to be resumed.

    Raises:
        RunFolderError: there is nothing to resume, or a run that would be overwritten.
    """
    if settings.resume:
        root = settings.run_dir or _newest_run()
        folder = RunFolder.existing(root)
        if not any(folder.checkpoints.glob("*.safetensors")):
            raise RunFolderError(
                f"{root} has no checkpoint to resume from; start anew without --resume"
            )
        return folder
    time_of_day = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    root = settings.run_dir or RUNS / f"{settings.game}-{settings.mode}-{time_of_day}"
    if any(root.glob("checkpoints/*.safetensors")):
        raise RunFolderError(
            f"{root} holds a run already: add --resume to continue it, or choose another --run-dir"
        )
    return RunFolder(root)


def resumed_settings(settings: TrainSettings, folder: RunFolder) -> TrainSettings:
    """Returns the settings of the run, with those that were given now in their place.

    Limits are of one sitting: they are not taken over.
    """
    before = folder.read_config().get("train", {})
    kept = {
        name: value
        for name, value in before.items()
        if name in TrainSettings.model_fields and name not in ("max_minutes", "max_env_steps")
    }
    given = settings.model_dump(mode="json", include=settings.model_fields_set)
    return TrainSettings(**{**kept, **given, "resume": True, "run_dir": folder.root})


def _newest_run() -> Path:
    runs = sorted(RUNS.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise RunFolderError("there is no run in runs/; name one with --run-dir")
    return runs[-1].parent


class Training:
    """The processes of one run.

    Args:
        settings: complete.
        folder: the run's.
        display: told what happens.
        environ: for the processes.
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
        self._actors: list[Service] = []
        self._deaths: dict[str, int] = {}
        self._restart_at: dict[str, float] = {}
        self._target_told = False
        self._stop = stop_on_signals()

    def run(self) -> int:
        """Starts everything, watches it, ends everything; returns the exit code."""
        self._folder.remove_summary()
        self._folder.remove_endpoints()
        try:
            self._learner.start()
            self._display.say(f"learner started; log: {self._learner.log}")
            if self._wait_for_endpoints():
                self._start_actors()
                self._watch()
            if self._stop.is_set() and self._learner.exit_code() is None:
                self._display.say("stopping: the learner keeps a checkpoint")
                self._learner.terminate()
                self._learner.wait(_STOP_TIMEOUT_S)
                return EXIT_INTERRUPTED
            return self._judge_learner()
        finally:
            for service in (self._learner, *self._actors):
                service.terminate()
            for service in (self._learner, *self._actors):
                service.wait(_STOP_TIMEOUT_S)

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
        """Waits until the learner listens; False if it ended, or a signal came, before that."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._stop.is_set() and self._learner.exit_code() is None:
            if self._folder.read_endpoints() is not None:
                return True
            if time.monotonic() > deadline:
                self._display.say(f"the learner did not come up; see {self._learner.log}")
                return False
            self._stop.wait(0.05)
        return False

    def _start_actors(self) -> None:
        endpoints = self._folder.read_endpoints() or {}
        for number in range(self._settings.actors):
            name = f"actor-{number}"
            arguments = [
                f"--actor-id={name}",
                f"--envs={self._settings.envs}",
                f"--env-threads={self._settings.env_threads(available_cores())}",
                f"--upstream-address={endpoints['upstream']}",
                f"--weights-address={endpoints['weights']}",
                "--metrics-port=0",
            ]
            log = self._folder.logs / f"{name}.log"
            actor = Service(
                name, "asyncade_actor", arguments, log, self._environ, niceness=_ACTOR_NICENESS
            )
            actor.start()
            self._actors.append(actor)
        self._display.say(f"{len(self._actors)} actors started; logs: {self._folder.logs}")

    def _watch(self) -> None:
        """Looks after the processes until the learner has ended or a signal came."""
        while not self._stop.is_set() and self._learner.exit_code() is None:
            self._restart_dead_actors()
            row = self._folder.last_metrics() or {}
            alive = sum(actor.exit_code() is None for actor in self._actors)
            self._display.show(row, alive)
            self._tell_of_the_target(row)
            self._stop.wait(0.5)
        if (last := self._folder.last_metrics()) is not None:
            self._display.show(last, len(self._actors))

    def _tell_of_the_target(self, row: Mapping[str, Any]) -> None:
        env_steps = row.get("target_env_steps")
        if env_steps is not None and not self._target_told:
            self._target_told = True
            cooldown = self._folder.read_config().get("learner", {}).get("cooldown")
            end = "; the cooldown ends the run" if cooldown else ""
            self._display.say(f"target reached after {env_steps:,} env steps{end}")

    def _restart_dead_actors(self) -> None:
        now = time.monotonic()
        for actor in self._actors:
            if actor.exit_code() is None:
                continue
            due = self._restart_at.get(actor.name)
            if due is None:
                deaths = self._deaths[actor.name] = self._deaths.get(actor.name, 0) + 1
                pause = _RESTART_AFTER_S[min(deaths, len(_RESTART_AFTER_S)) - 1]
                self._restart_at[actor.name] = now + pause
                self._display.say(
                    f"{actor.name} {actor.how_it_ended()}; log: {actor.log}; "
                    f"it is started again in {pause:g} s"
                )
            elif now >= due:
                del self._restart_at[actor.name]
                try:
                    actor.start()
                except OSError as error:  # it counts as another death: the next pause is longer
                    self._display.say(f"{actor.name} could not be started: {error}")

    def _judge_learner(self) -> int:
        if self._learner.exit_code() == 0:
            return EXIT_DONE
        self._display.say(
            f"the learner {self._learner.how_it_ended()}; log: {self._learner.log}\n"
            f"{self._learner.last_lines()}"
        )
        if any(self._folder.checkpoints.glob("*.safetensors")):
            self._display.say(
                f"continue with: asyncade train --resume --run-dir {self._folder.root}"
            )
        return EXIT_DIED
