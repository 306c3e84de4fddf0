"""Settings of ``asyncade train``, ``eval``, ``compare`` and ``loadgen``."""

from __future__ import annotations

import itertools
import math
import secrets
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

from asyncade_actor.settings import ActorSettings
from asyncade_learner.settings import Game, LearnerSettings
from asyncade_proto import ports
from asyncade_rl.choices import Device, Mode, Policy
from asyncade_runtime.cores import available_cores
from asyncade_runtime.service import sendable
from asyncade_runtime.settings import Settings, SettingsConfigDict

MAX_DEFAULT_ACTORS: Final = 8
"""More would play one game each, which costs almost twice the time per env step; further cores step
the games."""


def actors_for_this_machine() -> int:
    """Returns the default number of actor processes: one per available core, 2 to 8."""
    return max(2, min(available_cores(), MAX_DEFAULT_ACTORS))


def default_target(game: str) -> float | None:
    """Returns the target of a training that is given none."""
    return {"pong": 18.0, "catch": 0.9}.get(game)


Progress: TypeAlias = Literal["auto", "live", "lines", "quiet"]
"""How a training shows its progress to a person."""


class TrainSettings(Settings):
    """Starts a learner and actors on this machine and trains to a target or limit.

    Other settings of the learner and the actors are given as environment variables, such as
    ASYNCADE_LEARNER_DISCOUNT=0.995 (see asyncade learner --help, asyncade actor --help).
    """

    model_config = SettingsConfigDict(env_prefix="ASYNCADE_TRAIN_", cli_prog_name="asyncade train")
    example = "asyncade train --game breakout --max-minutes 30"
    short_for: ClassVar = {"--quiet": "--display=quiet", "--json": "--display=json"}

    mode: Mode = "data"
    """what actors send: trajectories (data) or gradients"""
    actors: int = Field(default_factory=actors_for_this_machine, ge=1, le=256)
    """actor processes; default: one per core, 2 to 8"""
    envs: int = Field(ActorSettings.model_fields["envs"].default, ge=1, le=1024)
    """games that each actor plays in parallel"""
    game: Game = "pong"
    """ALE game id, catch (a toy, learned in a minute), or a game of an installed package"""
    target: float | None = None
    """when the mean return of the last 100 training games exceeds this, cool down and end; null:
    none; default: 18 for pong, 0.9 for catch, none for other games"""
    seed: int = Field(1, ge=0, lt=2**31)
    """seed of parameters, games and minibatches"""
    learning_rate: float = Field(
        LearnerSettings.model_fields["learning_rate"].default, gt=0, le=1e6
    )
    """Adam's step size at the start"""
    max_minutes: float | None = Field(None, gt=0)
    """time limit [minutes]"""
    max_env_steps: int | None = Field(None, gt=0)
    """limit of env steps"""
    run_dir: Path | None = None
    """run folder; default: runs/GAME-MODE-TIME, with --resume the newest in runs/"""
    resume: bool = False
    """continue the run in the folder, with its settings where none are given now"""
    device: Device = "auto"
    """compute device of the learner; auto picks a GPU if there is one"""
    display: Progress | Literal["json"] = "auto"
    """live table; lines, one every ten seconds; quiet: the result and errors only; json: rows of
    metrics.jsonl, then the summary, one object a line; auto: live on a terminal of at least 60
    columns, else lines, as wherever nothing can be redrawn (TERM=dumb, a pipe)"""
    watch: bool = True
    """serve the live page (asyncade watch) while training; its address is printed"""
    open: bool = False
    """open the live page in a browser"""

    def env_threads(self, cores: int) -> int:
        """Returns the number of threads that step one actor's games when all share the cores."""
        return max(1, min(cores // self.actors, self.envs))


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the name is that of a deprecated method of pydantic's

    class PrintsJson(Settings):
        """Settings of a command whose result can be printed for programs."""

        json: bool = False  # type: ignore[assignment]
        """print the result as JSON on standard output, and nothing else there"""


class EvalSettings(PrintsJson):
    """Plays games with a trained model and reports their returns."""

    model_config = SettingsConfigDict(
        env_prefix="ASYNCADE_EVAL_", cli_prog_name="asyncade eval [RUN]"
    )
    example = "asyncade eval --episodes 20 --video game.mp4"

    episodes: int = Field(100, ge=1, le=100_000)
    """games to play"""
    envs: int = Field(10, ge=1, le=256)
    """games played in parallel"""
    policy: Policy = "sample"
    """sample actions, as in training, or take the most probable ones"""
    seed: int = Field(1_000_000, ge=0, lt=2**30)
    """seed of the games; unlike those of training"""
    checkpoint: Path | None = None
    """file to play: a path, or a name in the run's checkpoints; default: the newest"""
    video: Path | None = None
    """write a film of one game, in colour, to this .mp4 or .gif; at most 5 minutes"""


class CompareSettings(Settings):
    """Trains in both modes under the same budget and seeds, and reports medians and ranges.

    Every run is an asyncade train, with the same ASYNCADE_TRAIN_, ASYNCADE_LEARNER_ and
    ASYNCADE_ACTOR_ variables. With an existing --out, finished runs are kept, unfinished ones are
    continued, and settings not given are taken from the folder; --seeds adds seeds.
    """

    model_config = SettingsConfigDict(
        env_prefix="ASYNCADE_COMPARE_", cli_prog_name="asyncade compare"
    )
    example = "asyncade compare --game pong --seeds 1,2,3 --max-minutes 10"

    game: Game = "pong"
    """ALE game id, catch (a toy, learned in a minute), or a game of an installed package"""
    seeds: Annotated[tuple[int, ...], NoDecode] = Field((1, 2, 3), min_length=1)
    """seeds, such as 1,2,3; one run of each mode per seed"""
    actors: int | None = Field(None, ge=1, le=256)
    """actor processes; default: that of asyncade train"""
    max_env_steps: int | None = Field(None, gt=0)
    """limit of env steps per run"""
    max_minutes: float | None = Field(None, gt=0)
    """time limit per run [minutes]; default: 20, none with --max-env-steps"""
    target: float | None = None
    """mean return of the last 100 games to exceed; default: that of asyncade train, with --runs
    that of the runs"""
    out: Path | None = None
    """folder of runs and report; default: runs/compare-TIME"""
    runs: Annotated[tuple[Path, ...], NoDecode] = ()
    """report on these finished runs, such as --runs A B C; trains nothing"""
    display: Progress = "auto"
    """display of each training, as in asyncade train"""

    @field_validator("seeds", "runs", mode="before")
    @classmethod
    def _comma_separated(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        return [part.strip() for part in given.split(",") if part.strip()]

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("name each seed once")
        return seeds

    @model_validator(mode="after")
    def _trains_or_reports(self) -> CompareSettings:
        if "runs" in self.model_fields_set and not self.runs:
            raise ValueError("--runs needs the folders of finished runs")
        for_training = self.model_fields_set - {"runs", "out", "target", "display"}
        if self.runs and for_training:
            flags = ", ".join("--" + name.replace("_", "-") for name in sorted(for_training))
            raise ValueError(f"--runs trains nothing: leave out {flags}")
        return self

    def target_of_runs(self) -> float | None:
        """Returns the target of every run; that of asyncade train if none was given."""
        return self.target if "target" in self.model_fields_set else default_target(self.game)

    def minutes(self) -> float | None:
        """Returns the time limit of a run; 20 minutes if no limit was given."""
        if self.max_minutes is not None or self.max_env_steps is not None:
            return self.max_minutes
        return 20.0


class LoadgenSettings(Settings):
    """Loads a learner with synthetic actors that replay recorded messages.

    A few unrolls of the real game are played at random and then sent repeatedly, as fast as the
    learner's credit and --rate allow. The learner learns nothing useful: give it its own run
    folder. All synthetic actors share one subscription, so weights are sent once per version and
    not once per actor.
    """

    model_config = SettingsConfigDict(
        env_prefix="ASYNCADE_LOADGEN_", cli_prog_name="asyncade loadgen"
    )
    example = "asyncade loadgen --actors 16 --seconds 30"

    upstream_address: str = f"tcp://127.0.0.1:{ports.UPSTREAM}"
    """where the learner receives trajectories and gradients"""
    weights_address: str = f"tcp://127.0.0.1:{ports.WEIGHTS}"
    """where the learner publishes weights"""
    keys: Path | None = None
    """folder with the actors' CURVE keys (asyncade keys); default: no encryption"""
    actors: int = Field(4, ge=1, le=1024)
    """synthetic actors"""
    envs: int = Field(16, ge=1, le=1024)
    """games per unroll"""
    seconds: float = Field(30.0, gt=0)
    """time limit [seconds]"""
    messages: int | None = Field(None, ge=1)
    """limit of messages"""
    game: Game | None = None
    """game to record; default: the one the learner assigns"""
    mode: Mode | None = None
    """fail if the learner never requests messages of this mode; in gradient mode it requests
    trajectories during calibration"""
    messages_in_flight: int | None = Field(None, ge=1, le=1024)
    """messages an actor may have in flight; at most what the learner assigns
    (ASYNCADE_LEARNER_MESSAGES_IN_FLIGHT)"""
    rate: Literal["unlimited"] | float = "unlimited"
    """limit of env steps per second over all actors, or unlimited"""
    unrolls: int = Field(8, ge=1, le=256)
    """distinct unrolls to record"""
    actor_id: str = Field(default_factory=lambda: f"loadgen-{secrets.token_hex(4)}", min_length=1)
    """prefix of the actors' ids; default: loadgen and random digits"""
    seed: int = Field(1, ge=0, lt=2**31)
    """seed of the recorded play"""
    wait_seconds: float = Field(60.0, gt=0)
    """fail if the first weights take longer than this [seconds]"""

    @field_validator("actor_id")
    @classmethod
    def _with_a_number(cls, prefix: str) -> str:
        sendable(f"{prefix}-1024")
        return prefix

    @field_validator("rate")
    @classmethod
    def _rate_is_positive(cls, rate: str | float) -> str | float:
        if isinstance(rate, float) and not 0 < rate < math.inf:
            raise ValueError("give a number above 0, or unlimited")
        return rate


def join_runs(arguments: Sequence[str]) -> list[str]:
    """Returns the command line with ``--runs A B C`` written as ``--runs=A,B,C``."""
    if "--runs" not in arguments:
        return list(arguments)
    start = arguments.index("--runs")
    rest = itertools.takewhile(lambda word: not word.startswith("-"), arguments[start + 1 :])
    runs = list(rest)
    return [*arguments[:start], "--runs=" + ",".join(runs), *arguments[start + 1 + len(runs) :]]
