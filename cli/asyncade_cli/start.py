"""What a training starts with: its folder, its settings, and the learner's command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from asyncade_cli.actors import check_actors
from asyncade_cli.settings import TrainSettings, default_target
from asyncade_learner.settings import LearnerSettings
from asyncade_learner.stored import changed, with_stored
from asyncade_runtime.files import RunFolderError
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.settings import changes, continued, load

RUNS: Final = Path("runs")

HELD_ON_RESUME: Final = ("actors", "envs")
"""Settings of its own that a resumed training keeps; the learner keeps its own."""

_OF_THE_LEARNER: Final = (
    *("mode", "game", "seed", "learning_rate", "target"),
    *("device", "max_minutes", "max_env_steps"),
)
"""Settings that the learner has too. Passed on if given: else its variables and defaults hold."""


@dataclass(frozen=True, slots=True)
class Start:
    """A training that can begin. Nothing has been written yet.

    Attributes:
        settings: what the learner has too is as the learner will have it.
        folder: of the run.
        learner: settings that the learner will have.
        learner_arguments: command line of the learner.
        changed: name to ``old -> new`` of the settings given anew for a resumed run.
    """

    settings: TrainSettings
    folder: RunFolder
    learner: LearnerSettings
    learner_arguments: list[str]
    changed: Mapping[str, str]


def prepare(settings: TrainSettings, environ: Mapping[str, str]) -> Start:
    """Returns what a training starts with.

    Args:
        settings: as given now.
        environ: environment variables, for the settings of the learner.

    Raises:
        RunFolderError: the run folder cannot be used.
        SettingsError: a setting of the learner or the actors is wrong, or they do not fit together.
    """
    folder = choose_folder(settings, environ)
    before = folder.read_config().get("train", {}) if settings.resume else {}
    settings = continued(settings, before, HELD_ON_RESUME)
    arguments = learner_arguments(settings, folder.root, environ)
    learner = learner_settings(arguments, environ)
    check_actors(settings, learner, environ)
    of_the_learner = {name: getattr(learner, name) for name in _OF_THE_LEARNER}
    return Start(
        settings=settings.model_copy(update=of_the_learner),
        folder=folder,
        learner=learner,
        learner_arguments=arguments,
        changed=changes(settings, before, HELD_ON_RESUME) | changed(learner),
    )


def choose_folder(settings: TrainSettings, environ: Mapping[str, str]) -> RunFolder:
    """Returns the folder of a new run, or the one to resume. Creates nothing.

    Raises:
        RunFolderError: nothing can be resumed, or a run would be overwritten.
        SettingsError: a setting of the learner is wrong.
    """
    if settings.resume:
        root = settings.run_dir or newest_run("--run-dir")
        folder = RunFolder.existing(root)
        if not folder.checkpoint_files():
            raise RunFolderError(
                f"{root} has no checkpoint to resume from; start again without --resume"
            )
        return folder
    learner = load(LearnerSettings, _given(settings), environ)
    time_of_day = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    name = f"{learner.game}-{learner.mode}-{time_of_day}"
    folder = RunFolder(settings.run_dir or RUNS / name)
    if folder.checkpoint_files():
        raise RunFolderError(
            f"{folder.root} already holds a run: add --resume to continue it, or choose another"
            " --run-dir"
        )
    return folder


def learner_arguments(settings: TrainSettings, root: Path, environ: Mapping[str, str]) -> list[str]:
    """Returns the learner's command line.

    Raises:
        RunFolderError: config.json cannot be read.
        SettingsError: a setting of the learner is wrong.
    """
    arguments = [
        *_given(settings),
        f"--run-dir={root}",
        f"--resume={'must' if settings.resume else 'never'}",
        "--upstream-address=tcp://127.0.0.1:*",
        "--weights-address=tcp://127.0.0.1:*",
        "--metrics-port=0",
    ]
    learner = learner_settings(arguments, environ)
    target = default_target(learner.game)
    if target is not None and "target" not in learner.model_fields_set:
        arguments.append(f"--target={target}")
    # All have this machine's address; one that was restarted has a new id, beside its old one.
    needed = 2 * settings.actors
    if needed > learner.actors_per_peer and "actors_per_peer" not in learner.model_fields_set:
        arguments.append(f"--actors-per-peer={needed}")
    return arguments


def learner_settings(arguments: list[str], environ: Mapping[str, str]) -> LearnerSettings:
    """Returns the settings that a learner with this command line will have.

    Raises:
        RunFolderError: config.json cannot be read.
        SettingsError: a setting is wrong.
    """
    return with_stored(load(LearnerSettings, arguments, environ))


def _given(settings: TrainSettings) -> list[str]:
    """Returns the learner's flags for what this command was given of its settings."""
    given = {n: getattr(settings, n) for n in _OF_THE_LEARNER if n in settings.model_fields_set}
    return [
        f"--{name.replace('_', '-')}={'null' if value is None else value}"
        for name, value in given.items()
    ]


def newest_run(how: str) -> Path:
    """Returns the newest run in runs/.

    Args:
        how: option or command that names another, for the error message.

    Raises:
        RunFolderError: there is none.
    """
    runs = sorted(RUNS.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise RunFolderError(
            f"no run in {RUNS}/; name one with {how}, or train one first: asyncade train"
        )
    return runs[-1].parent
