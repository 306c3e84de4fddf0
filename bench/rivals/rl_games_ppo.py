"""rl_games PPO on EnvPool's Pong, by its packaged ppo_pong_envpool.yaml.

Run by `run.py` with the Python of .venvs/rl-games.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import rl_games
import torch
import yaml
from meter import CapReachedError, Meter, parser, report
from rl_games.common import vecenv
from rl_games.common.algo_observer import DefaultAlgoObserver
from rl_games.envs.envpool import Envpool
from rl_games.torch_runner import Runner

CONFIG = Path(rl_games.__file__).parent / "configs" / "atari" / "ppo_pong_envpool.yaml"
UNREACHABLE = 22.0  # Pong ends at 21


class MeasuredEnvpool(Envpool):
    """rl_games' own EnvPool adapter, watched."""

    meter: Meter

    def step(self, action: Any) -> Any:
        """Steps, notes finished games, and stops the run at the cap."""
        self.meter.start()
        if self.meter.due:
            raise CapReachedError
        observations, rewards, dones, infos = super().step(action)
        for index in np.flatnonzero(dones):  # scores: whole games, unclipped
            self.meter.game(infos["scores"][index])
        return observations, rewards, dones, infos


class MeasuredObserver(DefaultAlgoObserver):
    """Tells the meter of each epoch: one rollout and its four passes."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        """Called by rl_games when an epoch is over."""
        super().after_print_stats(frame, epoch_num, total_time)
        self._meter.iteration(epoch_num * self.algo.batch_size)


def settings(asked: Any) -> dict[str, Any]:
    """Returns the packaged settings with our differences (named in rivals.py)."""
    packaged: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    params = packaged["params"]
    params["seed"] = asked.seed
    params["torch_threads"] = asked.threads
    params["config"].update(
        device="cpu",
        device_name="cpu",
        torch_compile=False,
        max_epochs=-1,
        score_to_win=UNREACHABLE,
        train_dir=asked.scratch,
    )
    params["config"]["env_config"]["num_threads"] = asked.threads
    return packaged


def main() -> None:
    """Trains until the cap and prints the result."""
    asked = parser(__doc__).parse_args()
    meter = MeasuredEnvpool.meter = Meter(asked.minutes * 60, asked.target)
    vecenv.register("ENVPOOL", lambda name, actors, **rest: MeasuredEnvpool(name, actors, **rest))

    runner = Runner(MeasuredObserver(meter))
    used = settings(asked)
    runner.load(used)
    with contextlib.suppress(CapReachedError):
        runner.run({"train": True})
    config = used["params"]["config"]
    report(
        meter,
        packages=["rl-games", "envpool", "torch", "gymnasium", "numpy"],
        torch_threads=torch.get_num_threads(),
        settings={
            "num_envs": config["num_actors"],
            "horizon_length": config["horizon_length"],
            "minibatch_size": config["minibatch_size"],
            "mini_epochs": config["mini_epochs"],
            "envpool_threads": asked.threads,
        },
    )


if __name__ == "__main__":
    main()
