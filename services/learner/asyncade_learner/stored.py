"""Settings that a resumed run takes from its folder. Imports no torch: `asyncade train` uses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asyncade_learner.settings import LearnerSettings
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.settings import changes, continued


def with_stored(settings: LearnerSettings) -> LearnerSettings:
    """Returns the settings, on resuming completed with those of the run that were not given now.

    Raises:
        RunFolderError: config.json cannot be read.
        SettingsError: config.json holds an invalid value.
    """
    return continued(settings, _stored(settings), settings.held_on_resume())


def changed(settings: LearnerSettings) -> dict[str, str]:
    """Returns name to ``old -> new`` of what was given anew for the run that is resumed."""
    return changes(settings, _stored(settings), settings.held_on_resume())


def _stored(settings: LearnerSettings) -> Mapping[str, Any]:
    folder = RunFolder(settings.run_dir)
    if settings.resume == "never" or not folder.checkpoint_files():
        return {}
    stored: Mapping[str, Any] = folder.read_config().get("learner", {})
    return stored
