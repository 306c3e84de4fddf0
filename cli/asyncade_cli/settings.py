"""What ``asyncade train`` and ``asyncade eval`` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from asyncade_rl.games import num_actions
from asyncade_rl.shapes import Device
from asyncade_runtime.settings import Settings, SettingsConfigDict


class TrainSettings(Settings):
    """Starts a learner and actors on this machine and trains until done.

    Every setting of the learner and the actors can be given as an environment variable too, such as
    ASYNCADE_LEARNER_LEARNING_RATE=5e-4 (see asyncade learner --help, asyncade actor --help).
    """

    model_config = SettingsConfigDict(env_prefix="ASYNCADE_TRAIN_", cli_prog_name="asyncade train")

    mode: Literal["data", "gradients"] = Field(
        "data", description="what actors send: unrolls (data) or gradients"
    )
    actors: int = Field(2, ge=1, le=256, description="actor processes")
    envs: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="games that each actor plays at once; default: 16, in gradient mode 8, since"
        " there the unrolls of all actors are one batch",
    )
    game: str = Field("pong", description="ALE game id, or catch (a toy, learned in a minute)")
    target: float | None = Field(
        None,
        description="end when the mean return of the last 100 training games is above this;"
        " default: 18 for pong, 0.9 for catch, none for other games",
    )
    seed: int = Field(1, ge=0, lt=2**31, description="of weights, games and minibatches")
    max_minutes: float | None = Field(None, gt=0, description="end after so many minutes")
    max_env_steps: int | None = Field(None, gt=0, description="end after so many env steps")
    run_dir: Path | None = Field(
        None,
        description="the run's folder; default: runs/GAME-MODE-TIME, and with --resume the"
        " newest one in runs/",
    )
    resume: bool = Field(
        False, description="continue the run in the folder, with its own settings unless given anew"
    )
    device: Device = Field("auto", description="of the learner; auto: a GPU where there is one")
    display: Literal["auto", "live", "lines"] = Field(
        "auto", description="live table, or a line now and then; auto: live on a terminal"
    )

    @field_validator("game")
    @classmethod
    def _game_exists(cls, game: str) -> str:
        num_actions(game)
        return game

    def envs_per_actor(self) -> int:
        """Returns how many games an actor plays at once."""
        return self.envs or {"data": 16, "gradients": 8}[self.mode]

    def target_of_the_game(self) -> float | None:
        """Returns the target, or the one that is customary for the game."""
        if self.target is not None:
            return self.target
        return {"pong": 18.0, "catch": 0.9}.get(self.game)


class EvalSettings(Settings):
    """Plays games with a trained model and reports their returns."""

    model_config = SettingsConfigDict(
        env_prefix="ASYNCADE_EVAL_", cli_prog_name="asyncade eval RUN"
    )

    episodes: int = Field(100, ge=1, le=100_000, description="games to play")
    envs: int = Field(10, ge=1, le=256, description="games played at once")
    policy: Literal["sample", "greedy"] = Field(
        "sample", description="draw actions from the policy, as in training, or take the likeliest"
    )
    seed: int = Field(1_000_000, ge=0, lt=2**30, description="of the games; not one of training")
    video: Path | None = Field(None, description="write a GIF of one game to this file")
