"""A trained model on its own, without the run that it comes from: loads it and plays.

from asyncade_rl.pretrained import load_agent

agent = load_agent("FOLDER")    # model.safetensors and config.json, of asyncade export
print(agent.play(episodes=3))   # the returns of three games
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import safetensors.torch

from asyncade_rl.choices import Policy
from asyncade_rl.evaluation import Chooser, Round
from asyncade_rl.network import ActorCritic
from asyncade_rl.saved_models import UNREADABLE
from asyncade_rl.session import Session

MODEL: Final = "model.safetensors"
CONFIG: Final = "config.json"


class PretrainedError(ValueError):
    """A folder holds no model that can be loaded. The message names the file."""


class Agent:
    """A trained network, and the game that it plays. `load_agent` creates it.

    Attributes:
        config: content of config.json: game, network, protocol, and more.
        network: uint8 [N, 4, 84, 84] to logits, float32 [N, A], and values, float32 [N].
    """

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
        self.config = config
        self._tensors = tensors
        self.network: ActorCritic = self._session(1).network

    def play(self, episodes: int = 1, seed: int = 0, policy: Policy = "sample") -> list[float]:
        """Plays whole games, at most ten at a time; returns their returns.

        Args:
            episodes: number of games.
            seed: of the games and of the drawn actions.
            policy: sample actions, as in training, or take the most probable ones (greedy).
        """
        with closing(self._session(min(episodes, 10))) as session:
            games = Round(session.environments, episodes, seed)
            chooser = Chooser(session.network, policy, seed)
            while not games.over:
                games.step(chooser.actions)
        return games.returns

    def _session(self, envs: int) -> Session:
        config = self.config
        sticky = float(config["repeat_action_probability"])
        session = Session(
            config["game"], config["network"], envs=envs, repeat_action_probability=sticky
        )
        session.load_tensors(self._tensors)
        return session


def load_agent(folder: str | Path) -> Agent:
    """Loads what `asyncade export` has written.

    Raises:
        PretrainedError: a file is missing or damaged.
    """
    root = Path(folder)
    try:
        config = json.loads((root / CONFIG).read_text(encoding="utf-8"))
        return Agent(config, safetensors.torch.load_file(root / MODEL))
    except UNREADABLE as error:
        raise PretrainedError(
            f"{root} holds no model of asyncade export, or a damaged one"
            f" ({type(error).__name__}: {error})"
        ) from error
