"""rl_games PPO on EnvPool's Pong, with its packaged ppo_pong_envpool.yaml.

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
from meter import Meter, TimeIsUpError, parser
from rl_games.common import vecenv
from rl_games.common.algo_observer import DefaultAlgoObserver
from rl_games.envs.envpool import Envpool
from rl_games.torch_runner import Runner

CONFIG = Path(rl_games.__file__).parent / "configs" / "atari" / "ppo_pong_envpool.yaml"
UNREACHABLE = 22.0  # Pong ends at 21


class MeasuredEnvpool(Envpool):
    """rl_games' own EnvPool adapter, which passes games to the meter."""

    meter: Meter

    def step(self, action: Any) -> Any:
        """Steps all games, and stops the training when it is due."""
        self.meter.start()
        if self.meter.due:
            raise TimeIsUpError
        observations, rewards, dones, infos = super().step(action)
        for index in np.flatnonzero(dones):  # scores: whole games, unclipped
            self.meter.game(infos["scores"][index])
        return observations, rewards, dones, infos


class MeasuredObserver(DefaultAlgoObserver):
    """Passes each epoch, one rollout and its four passes, to the meter."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        """Counts an epoch; rl_games calls this after each one."""
        super().after_print_stats(frame, epoch_num, total_time)
        self._meter.iteration(epoch_num * self.algo.batch_size)


def settings(asked: Any) -> dict[str, Any]:
    """Returns the packaged settings with the differences that README.md lists."""
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
    """Trains until the time limit and prints the result."""
    asked = parser(__doc__).parse_args()
    meter = MeasuredEnvpool.meter = Meter(asked.minutes * 60)
    vecenv.register("ENVPOOL", lambda name, actors, **rest: MeasuredEnvpool(name, actors, **rest))

    runner = Runner(MeasuredObserver(meter))
    runner.load(settings(asked))
    with contextlib.suppress(TimeIsUpError):
        runner.run({"train": True})
    meter.report(
        packages=["rl-games", "envpool", "torch", "gymnasium", "numpy"],
        torch_threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
