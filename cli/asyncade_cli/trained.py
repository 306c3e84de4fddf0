"""A trained model: a checkpoint of a run, and the game that it plays."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from asyncade_learner import checkpoint
from asyncade_rl.envs import ShownGame, make_shown_game
from asyncade_rl.session import Session
from asyncade_runtime.run_folder import RunFolder, RunFolderError


@dataclass(frozen=True, slots=True)
class Trained:
    """A checkpoint, and the game that it was trained on.

    Attributes:
        path: of the checkpoint.
        checkpoint: its content.
        game: an ALE id, or ``catch``.
        network: a key of `asyncade_rl.choices.NETWORKS`.
        sticky: probability that the game repeats an action, as in training.
    """

    path: Path
    checkpoint: checkpoint.Checkpoint
    game: str
    network: str
    sticky: float

    @property
    def env_steps(self) -> int:
        """Env steps of training."""
        return self.checkpoint.progress.env_steps

    def session(self, envs: int) -> Session:
        """Returns the network, and a number of games that begin on first use."""
        session = Session(self.game, self.network, envs=envs, repeat_action_probability=self.sticky)
        session.load_tensors(self.checkpoint.model)
        return session

    def shown_game(self) -> ShownGame:
        """Returns one game with pictures."""
        return make_shown_game(self.game, repeat_action_probability=self.sticky)


def load_trained(folder: RunFolder, name: Path | None = None) -> Trained:
    """Loads a checkpoint.

    Args:
        folder: of the run.
        name: a path, or a file's name in the run's checkpoints; None: the newest readable one.

    Raises:
        RunFolderError: there is no such checkpoint, or it cannot be read.
    """
    path, found = _newest_readable(folder) if name is None else _named(folder, name)
    learner = folder.read_config().get("learner", {})
    return Trained(
        path=path,
        checkpoint=found,
        game=str(found.about["game"]),
        network=str(found.about["network"]),
        sticky=float(learner.get("repeat_action_probability", 0.0)),
    )


def _named(folder: RunFolder, name: Path) -> tuple[Path, checkpoint.Checkpoint]:
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
            print(f"{error}; trying the previous one", file=sys.stderr)
    raise RunFolderError(f"no checkpoint in {folder.checkpoints} can be read; train again")
