"""A trained model: a checkpoint of a run, and the game that it plays."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from asyncade_rl.envs import ShownGame, make_shown_game
from asyncade_rl.saved_models import SavedModel, SavedModelError, saved_model
from asyncade_rl.session import Session
from asyncade_runtime.files import RunFolderError
from asyncade_runtime.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Trained:
    """A checkpoint's model, and the game that it was trained on.

    Attributes:
        model: of the checkpoint.
        sticky: probability that the game repeats an action, as in training.
    """

    model: SavedModel
    sticky: float

    def session(self, envs: int) -> Session:
        """Returns the network, and a number of games that begin on first use.

        Raises:
            RunFolderError: the checkpoint cannot be read.
        """
        game, network = self.model.game, self.model.network
        session = Session(game, network, envs=envs, repeat_action_probability=self.sticky)
        try:
            session.load_tensors(self.model.tensors())
        except SavedModelError as error:
            raise RunFolderError(str(error)) from error
        return session

    def shown_game(self) -> ShownGame:
        """Returns one game with pictures."""
        return make_shown_game(self.model.game, repeat_action_probability=self.sticky)


def load_trained(folder: RunFolder, name: Path | None = None) -> Trained:
    """Finds a checkpoint.

    Args:
        folder: of the run.
        name: a path, or a file's name in the run's checkpoints; None: the newest readable one.

    Raises:
        RunFolderError: there is no such checkpoint, or it cannot be read.
    """
    model = _newest_readable(folder) if name is None else _named(folder, name)
    return Trained(model, folder.sticky())


def _named(folder: RunFolder, name: Path) -> SavedModel:
    path = name if name.exists() else folder.checkpoints / name
    if not path.is_file():
        known = ", ".join(one.name for one in reversed(folder.checkpoint_files())) or "none"
        raise RunFolderError(f"there is no checkpoint {name}, nor {path}; the run has {known}")
    try:
        return saved_model(path)
    except SavedModelError as error:
        raise RunFolderError(str(error)) from error


def _newest_readable(folder: RunFolder) -> SavedModel:
    paths = folder.checkpoint_files()
    if not paths:
        raise RunFolderError(f"{folder.root} has no checkpoint yet; train longer")
    for path in paths:
        try:
            model = saved_model(path)
            model.check()
        except SavedModelError as error:
            print(f"{error}; trying the previous one", file=sys.stderr)
        else:
            return model
    raise RunFolderError(f"no checkpoint in {folder.checkpoints} can be read; train again")
