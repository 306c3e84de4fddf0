"""What ``asyncade train``, ``eval``, ``compare``, ``loadgen`` and ``plan`` can be told."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

from asyncade_actor.settings import ActorSettings
from asyncade_cli.plan_model import MAX_ACTORS
from asyncade_proto import ports
from asyncade_rl.choices import Device
from asyncade_rl.games import num_actions
from asyncade_runtime.cores import available_cores
from asyncade_runtime.settings import Settings, SettingsConfigDict

MAX_DEFAULT_ACTORS: Final = 8
"""More games at once make larger batches, not a faster learner; further cores step the games."""


def default_actors(cores: int) -> int:
    """Returns how many actor processes a machine gets: one for each core, within bounds."""
    return max(2, min(cores, MAX_DEFAULT_ACTORS))


def actors_for_this_machine() -> int:
    """Returns how many actor processes suit the cores that this container really has."""
    return default_actors(available_cores())


class TrainSettings(Settings):
    """Starts a learner and actors on this machine and trains until done.

    Every setting of the learner and the actors can be given as an environment variable too, such as
    ASYNCADE_LEARNER_LEARNING_RATE=5e-4 (see asyncade learner --help, asyncade actor --help).
    """

    model_config = SettingsConfigDict(env_prefix="ASYNCADE_TRAIN_", cli_prog_name="asyncade train")

    mode: Literal["data", "gradients"] = Field(
        "data", description="what actors send: unrolls (data) or gradients"
    )
    actors: int = Field(
        default_factory=actors_for_this_machine,
        ge=1,
        le=256,
        description="actor processes; default: one for each core, 2 to 8",
    )
    envs: int = Field(
        ActorSettings.model_fields["envs"].default,
        ge=1,
        le=1024,
        description="games that each actor plays at once",
    )
    game: str = Field("pong", description="ALE game id, or catch (a toy, learned in a minute)")
    target: float | None = Field(
        None,
        description="when the mean return of the last 100 training games is above this, cool down"
        " and end; default: 18 for pong, 0.9 for catch, none for other games",
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

    def env_threads(self, cores: int) -> int:
        """Returns how many threads step an actor's games, on so many cores of one machine."""
        return max(1, min(cores // self.actors, self.envs))

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


class CompareSettings(Settings):
    """Trains in both modes under the same budget and seeds, and reports when to choose which.

    Every run is an asyncade train; what ASYNCADE_TRAIN_, ASYNCADE_LEARNER_ and ASYNCADE_ACTOR_
    variables say holds for all of them. Named again, a folder (--out) is continued: runs that are
    over are not repeated, and settings that are not given are those of the folder.
    """

    model_config = SettingsConfigDict(
        env_prefix="ASYNCADE_COMPARE_", cli_prog_name="asyncade compare"
    )

    game: str = Field("pong", description="ALE game id, or catch (a toy, learned in a minute)")
    seeds: Annotated[tuple[int, ...], NoDecode] = Field(
        (1, 2, 3), min_length=1, description="one run of each mode for each, such as 1,2,3"
    )
    actors: int | None = Field(
        None, ge=1, le=256, description="actor processes; default: as asyncade train has it"
    )
    max_env_steps: int | None = Field(
        None, gt=0, description="end each run after so many env steps"
    )
    max_minutes: float | None = Field(
        None,
        gt=0,
        description="end each run after so many minutes; default: 20, none with --max-env-steps",
    )
    target: float | None = Field(
        None,
        description="mean return of the last 100 games to be passed; default: that of the game as"
        " asyncade train has it. With --runs: judge the runs by this one",
    )
    out: Path | None = Field(
        None, description="folder of runs and report; default: runs/compare-TIME"
    )
    runs: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="train nothing: report on these run folders, such as --runs A B C"
    )
    display: Literal["auto", "live", "lines"] = Field(
        "auto", description="of each training, as asyncade train has it"
    )

    @field_validator("seeds", "runs", mode="before")
    @classmethod
    def _comma_separated(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        return [part.strip() for part in given.split(",") if part.strip()]

    @field_validator("game")
    @classmethod
    def _game_exists(cls, game: str) -> str:
        num_actions(game)
        return game

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("name each seed once")
        return seeds

    @model_validator(mode="after")
    def _trains_or_reads(self) -> CompareSettings:
        for_training = self.model_fields_set - {"runs", "out", "target", "display"}
        if self.runs and for_training:
            flags = ", ".join("--" + name.replace("_", "-") for name in sorted(for_training))
            raise ValueError(f"--runs reports on runs that are over: leave out {flags}")
        return self

    def minutes(self) -> float | None:
        """Returns the budget of a run in minutes, if it has one."""
        if self.max_minutes is not None or self.max_env_steps is not None:
            return self.max_minutes
        return 20.0


class LoadgenSettings(Settings):
    """Sends a learner what it asks for, from synthetic actors that replay recorded play.

    It plays a few unrolls of the real game at the start, at random, and then sends them again and
    again, as fast as the learner's credit and the rate allow. What the learner learns from it is
    worth nothing: give it a run folder of its own. One subscription serves all synthetic actors, so
    the learner publishes once and not once per actor.
    """

    model_config = SettingsConfigDict(
        env_prefix="ASYNCADE_LOADGEN_", cli_prog_name="asyncade loadgen"
    )

    upstream_address: str = Field(
        f"tcp://127.0.0.1:{ports.UPSTREAM}",
        description="where the learner takes trajectories and gradients",
    )
    weights_address: str = Field(
        f"tcp://127.0.0.1:{ports.WEIGHTS}", description="where the learner publishes weights"
    )
    keys: Path | None = Field(
        None,
        description="folder of the actors' CURVE keys (asyncade keys); none: nothing is encrypted",
    )
    actors: int = Field(4, ge=1, le=1024, description="synthetic actors")
    envs: int = Field(16, ge=1, le=1024, description="games in an unroll")
    seconds: float = Field(30.0, gt=0, description="end after so long a replay [seconds]")
    messages: int | None = Field(
        None, ge=1, description="end after so many messages, if that is sooner"
    )
    game: str | None = Field(
        None, description="game whose play is replayed; default: the one that the learner assigns"
    )
    mode: Literal["data", "gradients"] | None = Field(
        None,
        description="fail if the learner never asks for this; it says itself what is sent, and"
        " asks for trajectories while it calibrates, in gradient mode too",
    )
    messages_in_flight: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="messages that an actor may have on their way, if the learner assigns more;"
        " to raise it set ASYNCADE_LEARNER_MESSAGES_IN_FLIGHT there",
    )
    rate: Literal["unlimited"] | float = Field(
        "unlimited", description="most env steps per second of all actors together, or unlimited"
    )
    unrolls: int = Field(8, ge=1, le=256, description="different unrolls that are recorded")
    actor_id: str = Field(
        "loadgen",
        min_length=1,
        max_length=120,
        description="the actors' names begin so; two loadgens of one learner need two names",
    )
    seed: int = Field(1, ge=0, lt=2**31, description="of the recorded play")
    wait_seconds: float = Field(
        60.0, gt=0, description="give up when no learner is heard of for so long [seconds]"
    )

    @field_validator("game")
    @classmethod
    def _game_exists(cls, game: str | None) -> str | None:
        if game is not None:
            num_actions(game)
        return game

    @field_validator("rate")
    @classmethod
    def _rate_is_one(cls, rate: str | float) -> str | float:
        if isinstance(rate, float) and not 0 < rate < math.inf:
            raise ValueError("give env steps per second above 0, or unlimited")
        return rate


class PlanSettings(Settings):
    """Says how many actors, how much network and how many relays a rate needs.

    Or what rate a number of actors gives. It is arithmetic on the measured cost of each piece of
    work: docs/scaling.md has the model, what it assumes, and how near it comes to measurements.
    """

    model_config = SettingsConfigDict(env_prefix="ASYNCADE_PLAN_", cli_prog_name="asyncade plan")

    rate: float | None = Field(
        None, gt=0, description="env steps per second to be reached; or give --actors"
    )
    actors: int | None = Field(
        None, ge=1, le=MAX_ACTORS, description="actors there are; or give --rate"
    )
    mode: Literal["data", "gradients", "both"] = Field("both", description="to plan for")
    learner_cores: int = Field(
        4,
        ge=1,
        le=1024,
        description="cores of the learner; in gradient mode torch has one, more change nothing",
    )
    learner_speedup: float | None = Field(
        None,
        gt=0,
        description="the learner trains on a device that is as fast as so many cores; measure it:"
        " none was measured here",
    )
    learner_samples: float | None = Field(
        None,
        gt=0,
        description="the same as samples/s that the device trains, every pass counted"
        " (rate of asyncade_learner_samples_total while it trains)",
    )
    link_gbits: float | None = Field(
        10.0,
        gt=0,
        description="network of the learner and of each relay, each way [Gbit/s]; null: no limit",
    )
    actors_per_relay: int | None = Field(
        None, ge=1, description="actors that share a weights relay; null: there are no relays"
    )
    messages_in_flight: int = Field(
        1, ge=1, le=1024, description="as the learner has it; 2 overlaps playing and training"
    )
    envs: int = Field(
        ActorSettings.model_fields["envs"].default, ge=1, le=1024, description="games of an actor"
    )
    unroll_length: int = Field(64, ge=1, le=1024, description="as the learner has it")
    minibatch_size: int | None = Field(
        None,
        ge=1,
        le=2**20,
        description="samples that the actors share in an update of gradient mode; default: the"
        " learner's. It decides how many bytes a gradient costs per env step",
    )
    shared_cores: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="actors and learner share one machine of so many cores, as in asyncade train;"
        " null: every actor has a core of its own",
    )
    costs: Path | None = Field(
        None,
        description="file of unit costs (python -m bench.unit_costs writes one for your machine);"
        " default: those measured on this project's",
    )
    display: Literal["table", "json"] = Field(
        "table", description="how the plan is printed; --json is short for --display json"
    )

    @model_validator(mode="after")
    def _one_question(self) -> PlanSettings:
        if (self.rate is None) == (self.actors is None):
            raise ValueError("give either --rate, to learn how many actors it needs, or --actors")
        if self.learner_speedup is not None and self.learner_samples is not None:
            raise ValueError("give --learner-speedup or --learner-samples, not both: they are one")
        if self.shared_cores is not None and self.actors_per_relay is not None:
            raise ValueError("on one machine there are no relays: leave out --actors-per-relay")
        return self
