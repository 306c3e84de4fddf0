"""``asyncade eval``: plays whole games with a trained model."""

from __future__ import annotations

import statistics
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asyncade_cli.settings import EvalSettings
from asyncade_learner import checkpoint
from asyncade_rl.envs import Environments, make_environments
from asyncade_rl.evaluation import Chooser, Round
from asyncade_rl.session import Session
from asyncade_runtime.run_folder import RunFolder, RunFolderError


def evaluate(run: Path, settings: EvalSettings) -> dict[str, Any]:
    """Returns the report, after writing the video if one is requested.

    Raises:
        RunFolderError: the folder holds no run or no readable checkpoint.
    """
    folder = RunFolder.existing(run)
    paths = checkpoint.found(folder.checkpoints)
    if not paths:
        raise RunFolderError(f"{run} has no checkpoint yet; train longer")
    path, found = _newest_readable(paths)
    game = str(found.about["game"])
    sticky = float(folder.read_config().get("learner", {}).get("repeat_action_probability", 0.0))
    network = str(found.about["network"])
    envs = min(settings.envs, settings.episodes)
    with closing(Session(game, network, envs=envs, repeat_action_probability=sticky)) as session:
        session.load_tensors(found.model)
        chooser = Chooser(session.network, settings.policy, settings.seed)
        games = Round(session.environments, settings.episodes, settings.seed)
        while not games.over:
            games.step(chooser.actions)
        protocol = session.environments.protocol()
    if settings.video is not None:
        with closing(make_environments(game, 1, repeat_action_probability=sticky)) as single:
            _write_gif(film(single, chooser, settings.seed), settings.video)
    return {
        "run": str(run),
        "checkpoint": path.name,
        "env_steps": found.progress.env_steps,
        "protocol": protocol,
        "policy": settings.policy,
        "episodes": len(games.returns),
        "mean": round(statistics.fmean(games.returns), 3),
        "median": statistics.median(games.returns),
        "standard_deviation": round(statistics.pstdev(games.returns), 3),
        "min": min(games.returns),
        "max": max(games.returns),
        "mean_length": round(statistics.fmean(games.lengths), 1),
    }


def _newest_readable(paths: list[Path]) -> tuple[Path, checkpoint.Checkpoint]:
    for path in paths:
        try:
            return path, checkpoint.load(path)
        except checkpoint.CheckpointError as error:
            print(f"{error}; trying the previous one", file=sys.stderr)
    raise RunFolderError(f"no checkpoint in {paths[0].parent} can be read; train again")


def film(environments: Environments, chooser: Chooser, seed: int) -> list[npt.NDArray[np.uint8]]:
    """Returns the frames of one game, uint8 [84, 84] each, as observed by the network."""
    observations = environments.reset(seed)
    frames = [observations[0, -1]]
    while True:
        step = environments.step(chooser.actions(observations))
        if step.terminated[0] or step.truncated[0]:
            return frames
        observations = step.observations
        frames.append(observations[0, -1])


def _write_gif(frames: list[npt.NDArray[np.uint8]], path: Path) -> None:
    """Writes a GIF of 252 x 252 pixels at 15 frames per second (real time)."""
    from PIL import Image

    images = [
        Image.fromarray(frame).resize((252, 252), Image.Resampling.NEAREST) for frame in frames
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=1000 // 15, loop=0, optimize=False
    )
