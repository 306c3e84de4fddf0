"""Everything a training run can be told. Actors learn from the weights what they need of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, field_validator

from asyncade_learner.progress import Progress
from asyncade_proto import ports
from asyncade_proto.messages import Assignment, Objective, Request
from asyncade_rl.choices import NETWORKS, Device
from asyncade_rl.games import num_actions
from asyncade_rl.schedule import annealed, cooled_down, share_of_samples
from asyncade_runtime.cores import learner_threads
from asyncade_runtime.service import Port, ServiceSettings
from asyncade_runtime.settings import SettingsConfigDict

Mode = Literal["data", "gradients"]

DEFAULT_MINIBATCH: Final[dict[Mode, int]] = {"data": 128, "gradients": 256}
"""Samples per update."""


class LearnerSettings(ServiceSettings):
    """Trains on what actors send and publishes weights to them."""

    model_config = SettingsConfigDict(
        env_prefix="ASYNCADE_LEARNER_", cli_prog_name="asyncade learner"
    )

    # What is learned, and until when
    mode: Mode = Field("data", description="what actors send: unrolls (data) or gradients")
    game: str = Field("pong", description="ALE game id, or catch (a toy)")
    repeat_action_probability: float = Field(
        0.0, ge=0, lt=1, description="sticky actions; 0.25 is Machado et al.'s protocol"
    )
    network: str = Field("small", description=f"shape of the network: {' or '.join(NETWORKS)}")
    seed: int = Field(1, ge=0, lt=2**31, description="of weights, games and minibatches")
    target: float | None = Field(
        None,
        description="when the mean return of the last 100 games is above this, cool down and end",
    )
    cooldown: float = Field(
        0.5,
        ge=0,
        description="after the target, train on for this fraction of the env steps that it took,"
        " while step size and entropy cost fall to 0: what has just got there plays better then."
        " 0 ends at the target",
    )
    max_env_steps: int | None = Field(None, gt=0, description="end after so many env steps")
    max_minutes: float | None = Field(
        None, gt=0, description="end after so many minutes of this process [minutes]"
    )

    # Files
    run_dir: Path = Field(Path("runs/learner"), description="the run's folder")
    resume: Literal["auto", "must", "never"] = Field(
        "auto",
        description="continue from the folder's checkpoint: if there is one, or fail, or start anew"
        " (and fail if there is one)",
    )
    checkpoint_seconds: float = Field(30.0, gt=0, description="time between checkpoints [seconds]")
    checkpoints_kept: int = Field(3, ge=1, description="older checkpoints are removed")
    report_seconds: float = Field(2.0, gt=0, description="time between reports [seconds]")

    # Network
    upstream_address: str = Field(
        f"tcp://127.0.0.1:{ports.UPSTREAM}", description="where trajectories and gradients come in"
    )
    weights_address: str = Field(
        f"tcp://127.0.0.1:{ports.WEIGHTS}", description="where weights are published"
    )
    metrics_port: Port = ports.LEARNER_HTTP
    torch_threads: int | None = Field(
        None,
        ge=1,
        description="threads of torch; default: this container's cores, up to 16; in gradient"
        " mode 1",
    )
    device: Device = Field("auto", description="that trains; auto: a GPU where there is one")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the network's multiplications; auto: what the device does best"
    )

    decode_ahead: bool | None = Field(
        None,
        description="receive and decode in a thread of its own; default: where a GPU trains",
    )

    # How data is gathered
    unroll_length: int = Field(64, ge=1, le=1024, description="steps per environment and unroll")
    messages_in_flight: int = Field(
        1,
        ge=1,
        le=1024,
        description="messages that an actor may have on their way; more hides a slow network, and"
        " adds policy lag",
    )
    max_policy_lag: int = Field(
        16, ge=0, description="messages made this many versions ago are still used, older ones not"
    )
    batch_unrolls: int | None = Field(
        None, ge=1, description="unrolls in a batch (data mode); default: one of every actor"
    )
    gradients_per_update: int | None = Field(
        None,
        ge=1,
        description="gradients averaged for an update (gradient mode); default: one of every actor",
    )
    patience_seconds: float = Field(
        2.0,
        gt=0,
        description="after so long without enough data, use what there is, or publish again so that"
        " lost messages cannot stop the actors [seconds]",
    )
    calibration_env_steps: int = Field(
        4096, ge=0, description="first env steps: they set the input normalisation; 0 for /255"
    )

    # How it is learned from
    discount: float = Field(0.99, ge=0, le=1, description="gamma")
    gae_lambda: float = Field(
        0.95, ge=0, le=1, description="mixing of n-step returns (V-trace, GAE)"
    )
    rho_clip: float = Field(
        1.0, gt=0, le=1e6, description="V-trace's truncation of importance ratios"
    )
    vtrace: bool = Field(
        True, description="correct for data of older policies; off, to see what that is worth"
    )
    clip: float | None = Field(
        0.1, gt=0, le=1e6, description="clipped surrogate's range; null: plain policy gradient"
    )
    passes: int = Field(4, ge=1, le=1024, description="times each sample is used")
    minibatch_size: int | None = Field(
        None,
        ge=1,
        le=2**20,
        description="samples per update; default: 128, in gradient mode 256, since there each one"
        " costs a round trip. Actors share them in gradient mode",
    )
    learning_rate: float = Field(
        1e-3,
        gt=0,
        description="Adam's step size at the start, for updates of 128 samples; it grows with the"
        " square root of minibatch_size",
    )
    entropy_cost: float = Field(0.01, ge=0, description="weight of the entropy bonus at the start")
    anneal_env_steps: int = Field(
        350_000, gt=0, description="step size and entropy cost fall linearly over these env steps"
    )
    anneal_to: float = Field(
        0.1, ge=0, le=1, description="fraction of step size and entropy cost that remains"
    )
    value_cost: float = Field(0.5, ge=0, description="weight of the value loss")
    normalise_advantages: bool = Field(True, description="over a batch: mean 0, deviation 1")
    max_gradient_norm: float = Field(0.5, gt=0, description="clip of the gradient's global norm")
    adam_epsilon: float = Field(1e-5, gt=0, description="Adam's epsilon")

    @field_validator("game")
    @classmethod
    def _game_exists(cls, game: str) -> str:
        num_actions(game)  # UnknownGameError is a ValueError that names the nearest games
        return game

    @field_validator("network")
    @classmethod
    def _network_exists(cls, network: str) -> str:
        if network not in NETWORKS:
            raise ValueError(f"choose one of {', '.join(NETWORKS)}")
        return network

    def decodes_ahead(self, device: str) -> bool:
        """Returns whether a learner on a device (``cpu``, ``cuda``) decodes beside training."""
        return device != "cpu" if self.decode_ahead is None else self.decode_ahead

    def samples_per_update(self) -> int:
        """Returns how many samples one optimiser step is made from."""
        return self.minibatch_size or DEFAULT_MINIBATCH[self.mode]

    def remaining(self, progress: Progress) -> float:
        """Returns the fraction of step size and entropy cost that is left."""
        fraction = annealed(progress.env_steps, self.anneal_env_steps, self.anneal_to)
        return fraction * self._cooldown_left(progress)

    def complete(self, progress: Progress) -> bool:
        """Tells whether the target was passed and the cooldown is over."""
        return self._cooldown_left(progress) == 0

    def _cooldown_left(self, progress: Progress) -> float:
        passed = progress.passed(self.target)
        if passed is None:
            return 1.0
        over = self.cooldown * passed.env_steps
        return cooled_down(progress.env_steps, passed.env_steps, over)

    def learning_rate_at(self, remaining: float) -> float:
        """Returns the step size, given the fraction that is left of it.

        It is scaled by the root of the samples: so Adam's path is the same whatever the minibatch
        (Malladi et al. 2022, "On the SDEs and scaling rules for adaptive gradient algorithms").
        """
        scale = math.sqrt(self.samples_per_update() / DEFAULT_MINIBATCH["data"])
        return scale * self.learning_rate * remaining

    def threads(self, cores: int) -> int:
        """Returns how many threads torch gets on so many cores."""
        busy = 1 if self.mode == "gradients" else learner_threads(cores)
        return self.torch_threads or busy

    def unrolls_in_batch(self, actors: int) -> int:
        """Returns how many unrolls are learned from at once, given how many actors there are.

        One of every actor: all of them were played by the present weights, or by newer ones than
        the batch before. Data a version old learn much more slowly (docs/decisions/0007).
        """
        return self.batch_unrolls or max(1, actors)

    def gradients_in_update(self, actors: int) -> int:
        """Returns how many gradients are averaged, given how many actors there are."""
        return self.gradients_per_update or max(1, actors)

    def objective_at(self, remaining: float, actors: int = 1) -> Objective:
        """Returns the loss.

        Args:
            remaining: fraction of the entropy cost that is left.
            actors: that share an update's samples.
        """
        gradients = self.gradients_in_update(actors) if self.mode == "gradients" else 1
        samples = self.samples_per_update()
        return Objective(
            discount=self.discount,
            lambda_=self.gae_lambda,
            rho_clip=self.rho_clip,
            clip=self.clip,
            passes=self.passes,
            minibatch_size=share_of_samples(samples, gradients),
            entropy_cost=self.entropy_cost * remaining,
            value_cost=self.value_cost,
            normalise_advantages=self.normalise_advantages,
            vtrace=self.vtrace,
        )

    def assignment(self, request: Request, remaining: float, actors: int = 1) -> Assignment:
        """Returns what actors are asked to do, given what is left of entropy cost, and actors."""
        return Assignment(
            request=request,
            game=self.game,
            repeat_action_probability=self.repeat_action_probability,
            network=self.network,
            unroll_length=self.unroll_length,
            messages_in_flight=self.messages_in_flight,
            seed=self.seed,
            objective=self.objective_at(remaining, actors),
        )
