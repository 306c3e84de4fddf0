"""The actor processes of a training: started, restarted, and given up if that is hopeless."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from asyncade_actor.settings import ActorSettings
from asyncade_cli.processes import Service
from asyncade_cli.settings import TrainSettings
from asyncade_learner.settings import LearnerSettings
from asyncade_proto.errors import TooLargeError
from asyncade_proto.messages import check_unroll
from asyncade_rl.games import FRAME_SIDE
from asyncade_runtime.cores import available_cores
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.service import EXIT_BAD_INPUT, EXIT_CRASHED, EXIT_REFUSED
from asyncade_runtime.settings import SettingsError, load

_RESTART_AFTER_S: Final = (0.5, 2.0, 10.0, 30.0)
"""Pauses before the first, second, ... restart of an actor; the last one repeats."""

_NICENESS: Final = 5
"""Actors yield the CPU to the learner, since all of them wait for its weights."""


def check_actors(
    settings: TrainSettings, learner: LearnerSettings, environ: Mapping[str, str]
) -> None:
    """Checks what the actors of a training will be given, before anything starts.

    Args:
        settings: of the training.
        learner: settings of its learner.
        environ: environment variables of the actors.

    Raises:
        SettingsError: a variable is wrong, or an unroll of all games exceeds the wire's limits.
    """
    load(ActorSettings, _arguments(settings, "actor-0"), environ)
    if learner.mode == "gradients" and learner.calibration_env_steps == 0:
        return  # no unroll is sent
    try:
        check_unroll(learner.unroll_length, settings.envs, FRAME_SIDE)
    except TooLargeError as error:
        raise SettingsError(
            f"--envs and ASYNCADE_LEARNER_UNROLL_LENGTH do not fit together: {error}"
        ) from error


class Actors:
    """Starts and restarts the actors of one training.

    Args:
        settings: of the training.
        folder: of the run.
        environ: environment variables of the processes.
        warn: shows what went wrong.

    Attributes:
        failed: exit code of the training, once restarting cannot help: an actor has ended with bad
            input or was refused, or all actors die and none has reached the learner.
    """

    def __init__(
        self,
        settings: TrainSettings,
        folder: RunFolder,
        environ: Mapping[str, str],
        warn: Callable[[str], None],
    ) -> None:
        self.failed: int | None = None
        self._settings = settings
        self._folder = folder
        self._environ = dict(environ)
        self._warn = warn
        self._services: list[Service] = []
        self._deaths: dict[str, int] = {}
        self._restart_at: dict[str, float] = {}

    def start(self, upstream: str, weights: str) -> None:
        """Starts the actors.

        Args:
            upstream: the learner's address for messages.
            weights: the learner's address for weights.
        """
        for number in range(self._settings.actors):
            name = f"actor-{number}"
            arguments = [
                *_arguments(self._settings, name),
                f"--upstream-address={upstream}",
                f"--weights-address={weights}",
            ]
            log = self._folder.logs / f"{name}.log"
            actor = Service(
                name, "asyncade_actor", arguments, log, self._environ, niceness=_NICENESS
            )
            actor.start()
            self._services.append(actor)

    def alive(self) -> int:
        """Returns the number of live processes."""
        return sum(actor.exit_code() is None for actor in self._services)

    def restart_dead(self, *, useful: bool) -> None:
        """Restarts dead actors, each after a pause, or sets `failed`.

        Args:
            useful: whether any env steps have arrived at the learner since the start.
        """
        now = time.monotonic()
        for actor in self._services:
            if actor.exit_code() is None:
                continue
            due = self._restart_at.get(actor.name)
            if due is None:
                self._note_death(actor, useful, now)
            elif now >= due:
                del self._restart_at[actor.name]
                try:
                    actor.start()
                except OSError as error:  # counts as another death: the next pause is longer
                    self._warn(f"{actor.name} could not be started: {error}")

    def terminate(self) -> None:
        """Sends SIGTERM to all processes."""
        for actor in self._services:
            actor.terminate()

    def stop(self, timeout_s: float) -> None:
        """Ends all processes; kills those that take longer than the timeout."""
        self.terminate()
        for actor in self._services:
            actor.wait(timeout_s)

    def _note_death(self, actor: Service, useful: bool, now: float) -> None:
        code = actor.exit_code()
        deaths = self._deaths[actor.name] = self._deaths.get(actor.name, 0) + 1
        ended = f"{actor.name} {actor.how_it_ended()}; log: {actor.log}"
        deadly = all(self._deaths.get(a.name, 0) >= len(_RESTART_AFTER_S) for a in self._services)
        if code in (EXIT_BAD_INPUT, EXIT_REFUSED) or (deadly and not useful):
            self.failed = code if code in (EXIT_BAD_INPUT, EXIT_REFUSED) else EXIT_CRASHED
            self._warn(f"{ended}\n{actor.last_lines(1)}\na restart would not help")
            return
        pause = _RESTART_AFTER_S[min(deaths, len(_RESTART_AFTER_S)) - 1]
        self._restart_at[actor.name] = now + pause
        self._warn(f"{ended}; restarting in {pause:g} s")


def _arguments(settings: TrainSettings, name: str) -> list[str]:
    return [
        f"--actor-id={name}",
        f"--envs={settings.envs}",
        f"--env-threads={settings.env_threads(available_cores())}",
        "--metrics-port=0",
    ]
