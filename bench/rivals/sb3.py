"""Stable-Baselines3 PPO or A2C on Pong, with RL Baselines3 Zoo's hyperparameters for Atari.

Run by `run.py` with the Python of .venvs/sb3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ale_py
import gymnasium
import torch
from meter import Meter, parser
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

PUBLISHED_LENGTH = 10_000_000  # env steps; PPO's schedules depend on it, so it is kept


def linear(start: float) -> Callable[[float], float]:
    """Returns the zoo's `lin_` schedule, from `start` down to 0."""
    return lambda remaining: remaining * start


class Measured(BaseCallback):
    """Passes iterations and games to the meter, and ends training."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def _on_rollout_start(self) -> None:
        # Called before each rollout: except for the first call, an update has just been made.
        if self.num_timesteps:
            self._meter.iteration(self.num_timesteps)
        else:
            self._meter.start()

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:  # by the Monitor inside AtariWrapper: whole games, unclipped
                self._meter.game(info["episode"]["r"])
        return not self._meter.due


def make_model(algo: str, envs: Any, seed: int) -> A2C | PPO:
    """Returns the learner, set up as hyperparams/{a2c,ppo}.yml say."""
    common: dict[str, Any] = {"seed": seed, "device": "cpu", "ent_coef": 0.01}
    if algo == "a2c":
        optimizer = {"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"eps": 1e-5}}
        return A2C("CnnPolicy", envs, vf_coef=0.25, policy_kwargs=optimizer, **common)
    return PPO(
        "CnnPolicy",
        envs,
        n_steps=128,
        n_epochs=4,
        batch_size=256,
        learning_rate=linear(2.5e-4),
        clip_range=linear(0.1),
        vf_coef=0.5,
        **common,
    )


def main() -> None:
    """Trains until the time limit and prints the result."""
    options = parser(__doc__)
    options.add_argument("--algo", choices=["a2c", "ppo"], required=True)
    asked = options.parse_args()

    gymnasium.register_envs(ale_py)
    torch.set_num_threads(asked.threads)
    num_envs = {"a2c": 16, "ppo": 8}[asked.algo]
    games = make_atari_env(
        "PongNoFrameskip-v4", n_envs=num_envs, seed=asked.seed, vec_env_cls=DummyVecEnv
    )
    envs = VecFrameStack(games, n_stack=4)
    model = make_model(asked.algo, envs, asked.seed)
    meter = Meter(asked.minutes * 60)
    model.learn(PUBLISHED_LENGTH, callback=Measured(meter))
    envs.close()
    meter.report(
        packages=["stable-baselines3", "torch", "gymnasium", "ale-py", "numpy"],
        torch_threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
