"""Why no game of a run can be shown, and what to do about it."""

from __future__ import annotations

import functools
import importlib.util
import shlex
from collections.abc import Sequence
from importlib.metadata import entry_points

from asyncade_rl.envs import is_atari
from asyncade_rl.games import GROUP, UnknownGameError, num_actions
from asyncade_rl.saved_models import SavedModel
from asyncade_runtime.run_folder import RunFolder


def obstacle(
    folder: RunFolder, game: str | None, saved: Sequence[SavedModel], *, live: bool, ended: bool
) -> str | None:
    """Returns why no game can begin, with the cure; None if one can, or will.

    Args:
        folder: of the run.
        game: of the run, None while that is unknown.
        saved: the checkpoints that can be read.
        live: a learner publishes weights.
        ended: the run has a summary.
    """
    root = shlex.quote(str(folder.root))
    if not folder.root.is_dir():
        return f"The folder {folder.root} is gone: put it back, or show another run"
    if game is not None and (missing := _missing(game)) is not None:
        return f"No game can be shown: {missing}, then start this page again"
    if live or saved:
        return None
    if folder.checkpoint_files():
        return (
            f"No checkpoint in {folder.checkpoints} can be read: copy the folder again in full,"
            " or train again"
        )
    if not ended:
        return None
    return (
        "This run left no checkpoint, so nothing can play: train on with"
        f" asyncade train --resume --run-dir {root}"
    )


@functools.cache  # asking for an installed package reads the metadata of all of them
def _missing(game: str) -> str | None:
    try:
        num_actions(game)
    except UnknownGameError as error:
        if game in entry_points(group=GROUP).names:
            return f"{error}; repair its package"
        return f"the package of the game {game!r} is not installed here; install it"
    if is_atari(game) and importlib.util.find_spec("ale_py") is None:
        return f"{game} needs the Atari emulator; pip install ale-py"
    return None
