"""Sample Factory's asynchronous PPO (APPO) on Pong.

Rollout workers, a policy worker and a learner are separate processes. The settings are the
documentation's "better parameters", with one rollout worker per core.
Run by `run.py` with the Python of .venvs/sample-factory.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import ale_py  # noqa: F401  registers the games; spawned workers import this file again
import gymnasium
import numpy as np
from meter import Meter, parser
from sample_factory.algo.runners.runner import AlgoObserver, Runner
from sample_factory.algo.utils.misc import EPISODIC, ExperimentStatus
from sample_factory.envs.env_utils import register_env
from sample_factory.train import make_runner
from sample_factory.utils.dicts import iterate_recursively
from sf_examples.atari.atari_utils import make_atari_env
from sf_examples.atari.train_atari import parse_atari_args

POLICY = 0
BETTER_PARAMETERS = {
    "num_envs_per_worker": 8,
    "worker_num_splits": 2,
    "rollout": 32,
    "batch_size": 1024,
    "normalize_input": True,
    "normalize_returns": True,
    "serial_mode": False,
    "async_rl": True,
    "summaries_use_frameskip": False,  # count agent steps, not frames
}


class FirstStepNoted(gymnasium.Wrapper):  # type: ignore[misc, type-arg]
    """Records the time of the first env step in any worker."""

    def __init__(self, env: Any, note: Path) -> None:
        super().__init__(env)
        self._note = note
        self._noted = False

    def step(self, action: Any) -> Any:
        """Steps the game."""
        if not self._noted:
            self._noted = True
            with contextlib.suppress(FileExistsError), self._note.open("x") as file:
                file.write(repr(time.monotonic()))  # one clock for all processes of a machine
        return self.env.step(action)


def note_of(train_dir: str) -> Path:
    """Returns the file with the time of the first env step."""
    return Path(train_dir) / "first-step"


def make_env(name: str, cfg: Any, env_config: Any, render_mode: str | None = None) -> Any:
    """Returns Sample Factory's own Atari environment inside `FirstStepNoted`."""
    return FirstStepNoted(
        make_atari_env(name, cfg, env_config, render_mode), note_of(cfg.train_dir)
    )


class Measured(AlgoObserver):  # type: ignore[misc]
    """Passes iterations and games to the meter, and ends training."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def on_init(self, runner: Runner) -> None:
        """Registers for the statistics of finished games."""
        runner.register_episodic_stats_handler(self._episodes)

    def on_training_step(self, runner: Runner, training_iteration_since_resume: int) -> None:
        """Counts an iteration; called after each one of the learner."""
        self._meter.start(float(note_of(runner.cfg.train_dir).read_text()))
        self._meter.iteration(runner.env_steps[POLICY])
        if self._meter.due:
            runner.cfg.train_for_env_steps = 0  # Sample Factory reads it right after this call

    def _episodes(self, runner: Runner, message: dict[str, Any], policy: int) -> None:
        for _, key, value in iterate_recursively(message[EPISODIC]):
            if key == "RecordEpisodeStatistics_reward":  # whole games, unclipped
                for points in np.ravel(value):
                    self._meter.game(points)


def main() -> None:
    """Trains until the time limit and prints the result."""
    asked = parser(__doc__).parse_args()
    register_env("atari_pong", make_env)
    fixed = {
        "algo": "APPO",
        "env": "atari_pong",
        "experiment": "pong",
        "train_dir": asked.scratch,
        "restart_behavior": "overwrite",
        "device": "cpu",
        "seed": asked.seed,
        "num_workers": asked.threads,
    }
    cfg = parse_atari_args([f"--{k}={v}" for k, v in {**fixed, **BETTER_PARAMETERS}.items()])

    meter = Meter(asked.minutes * 60)
    cfg, runner = make_runner(cfg)
    runner.register_observer(Measured(meter))
    status = runner.init()
    if status == ExperimentStatus.SUCCESS:
        status = runner.run()
    if status != ExperimentStatus.SUCCESS:
        raise SystemExit(f"Sample Factory ended with status {status}")
    meter.report(
        packages=["sample-factory", "torch", "gymnasium", "ale-py", "numpy"],
        torch_threads=1,  # Sample Factory sets it in each of its processes
    )


if __name__ == "__main__":
    main()
