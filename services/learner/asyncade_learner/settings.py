"""Settings of a training run. Actors receive what they need of them with the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field

from asyncade_proto import ports
from asyncade_proto.limits import MAX_ENVIRONMENTS, MAX_SENDERS
from asyncade_proto.messages import Assignment, Objective, Request
from asyncade_rl.choices import Device, Mode, Network, Precision
from asyncade_rl.games import num_actions
from asyncade_rl.schedule import REFERENCE_SAMPLES, shared_play
from asyncade_runtime.claims import Asked
from asyncade_runtime.cores import learner_threads
from asyncade_runtime.entrance import ACTORS_PER_PEER
from asyncade_runtime.service import Port, ServiceSettings
from asyncade_runtime.settings import SettingsConfigDict, flag_of


def _known_game(game: str) -> str:
    num_actions(game)  # UnknownGameError is a ValueError that names the nearest games
    return game


Game: TypeAlias = Annotated[str, AfterValidator(_known_game)]
"""The id of a known game."""

OF_THE_SITTING: Final = frozenset(ServiceSettings.model_fields) | {
    *("run_dir", "resume", "max_env_steps", "max_minutes"),
    *("upstream_address", "weights_address", "torch_threads", "device", "decode_ahead"),
    *("actors_per_peer", "actors_behind_relay"),
}
"""Settings that each start of a learner is given anew: where it runs, and until when."""

_FAR_BEYOND: Final = {"learning_rate": 30, "entropy_cost": 100, "value_cost": 100, "rho_clip": 100}
"""Settings that can wreck a model, and how many times the default is said to be much. With 30 times
the learning rate the first update of Catch multiplies the gradient by ten thousand."""


def diverged(learning_rate: float) -> str:
    """Returns what to say of a run that has diverged with this setting, and the cure."""
    default = LearnerSettings.model_fields["learning_rate"].default
    return (
        f"the model diverged again and again with --learning-rate {learning_rate:g} and less:"
        f" resume the run with a lower one (the default is {default:g})"
    )


class LearnerSettings(ServiceSettings):
    """Trains on what actors send and publishes weights to them."""

    model_config = SettingsConfigDict(
        env_prefix="ASYNCADE_LEARNER_", cli_prog_name="asyncade learner"
    )
    example = "asyncade learner --game breakout --run-dir runs/breakout"

    # Task and end of the run
    mode: Mode = "data"
    """what actors send: unrolls (data) or gradients"""
    game: Game = "pong"
    """ALE game id, catch (a toy game), or a game of an installed package"""
    repeat_action_probability: float = Field(0.0, ge=0, lt=1)
    """sticky actions; Machado et al. (2018) use 0.25"""
    network: Network = "small"
    """network architecture: small (that of A3C) or nature (that of DQN)"""
    seed: int = Field(1, ge=0, lt=2**31)
    """random seed of weights, games and minibatches"""
    target: float | None = None
    """cool down and end once the mean return of the last 100 games is above this"""
    cooldown: float = Field(0.5, ge=0)
    """after the target, train for this fraction of the env steps so far while step size and entropy
    cost fall to 0. This improves the final policy. 0 ends at the target"""
    max_env_steps: int | None = Field(None, gt=0)
    """end after this many env steps"""
    max_minutes: float | None = Field(None, gt=0)
    """end after this many minutes of this process [minutes]"""

    # Files
    run_dir: Path = Path("runs/learner")
    """folder of the run"""
    resume: Literal["auto", "must", "never"] = "auto"
    """checkpoint in the folder: auto continues from it if it exists, must requires it, never
    refuses it"""
    checkpoint_seconds: float = Field(30.0, gt=0)
    """time between checkpoints [seconds]"""
    checkpoints_kept: int = Field(3, ge=1)
    """newest checkpoints kept; of the older ones five are, spread over the run"""
    report_seconds: float = Field(2.0, gt=0)
    """time between reports [seconds]"""

    # Sockets and processor
    upstream_address: str = f"tcp://127.0.0.1:{ports.UPSTREAM}"
    """address to bind for trajectories and gradients"""
    weights_address: str = f"tcp://127.0.0.1:{ports.WEIGHTS}"
    """address to bind for weights"""
    metrics_port: Port = ports.LEARNER_HTTP
    torch_threads: int | None = Field(None, ge=1)
    """torch threads; default: the container's cores, at most 16, and fewer while busy neighbours
    take their time; in gradient mode 1"""
    device: Device = "auto"
    """compute device; auto picks a GPU if there is one"""
    precision: Literal["auto", Precision] = "auto"
    """precision of the matrix products; auto picks the device's fastest"""

    decode_ahead: bool | None = None
    """receive and decode in a separate thread; default: only with a GPU"""

    actors_per_peer: int = Field(ACTORS_PER_PEER, ge=1, le=MAX_SENDERS)
    """actor ids that one address with one key may use at a time; more are dropped"""

    # Gathering messages
    unroll_length: int = Field(64, ge=1, le=1024)
    """T, env steps per game and unroll, at most: with many actors it falls to 32"""
    messages_in_flight: int = Field(1, ge=1, le=1024)
    """messages an actor may have in flight; more hide network delay and add lag"""
    max_policy_lag: int = Field(128, ge=0)
    """drop messages made with weights more than this many updates old"""
    batch_samples: int = Field(1024, ge=1, le=2**20)
    """samples per batch. With more actors, each plays fewer games and shorter unrolls; the batch
    grows once one game of 32 steps each is too much"""
    quorum: float = Field(0.5, gt=0, le=1)
    """share of the actors whose pace is the measure: who takes more than twice their median is late
    and is not waited for"""
    patience_seconds: float = Field(2.0, gt=0)
    """after this long without enough messages, train on those that arrived, or publish again: lost
    messages must not stop the actors [seconds]"""
    actors_behind_relay: int = Field(1, ge=1, le=1024)
    """gradient mode: actors whose gradients one message may be the mean of, at most. Where relays
    stand between, set it to the actors of one relay: a message that claims more is dropped"""
    calibration_env_steps: int = Field(4096, ge=0)
    """the first env steps set the input normalisation; 0 divides by 255"""

    # Learning
    discount: float = Field(0.99, ge=0, le=1)
    """gamma"""
    gae_lambda: float = Field(0.95, ge=0, le=1)
    """lambda of V-trace and GAE: mixes n-step returns"""
    rho_clip: float = Field(1.0, gt=0, le=1e6)
    """V-trace truncates importance ratios at this"""
    vtrace: bool = True
    """correct for policy lag with V-trace; turn off only for comparison"""
    clip: float | None = Field(0.1, gt=0, le=1e6)
    """range of PPO's clipped surrogate; null: plain policy gradient"""
    passes: int = Field(4, ge=1, le=1024)
    """passes over each batch"""
    minibatch_size: int = Field(REFERENCE_SAMPLES, ge=1, le=2**20)
    """samples per gradient"""
    learning_rate: float = Field(1e-3, gt=0, le=1e6)
    """Adam's step size at the start, for updates of 128 samples; scales with the square root of
    their number"""
    entropy_cost: float = Field(0.01, ge=0, le=1e6)
    """weight of the entropy bonus at the start"""
    anneal_env_steps: int = Field(350_000, gt=0)
    """step size and entropy cost fall linearly over this many env steps"""
    anneal_to: float = Field(0.1, ge=0, le=1)
    """fraction of step size and entropy cost after annealing"""
    value_cost: float = Field(0.5, ge=0, le=1e6)
    """weight of the value loss"""
    normalise_advantages: bool = True
    """to mean 0 and deviation 1 over each batch"""
    max_gradient_norm: float = Field(0.5, gt=0, le=1e6)
    """clip gradients to this global norm"""
    adam_epsilon: float = Field(1e-5, gt=0, le=1e6)
    """Adam's epsilon"""

    @classmethod
    def held_on_resume(cls) -> list[str]:
        """Returns the settings that a resumed run keeps unless they are given anew."""
        return [name for name in cls.model_fields if name not in OF_THE_SITTING]

    def far_beyond_defaults(self) -> list[str]:
        """Returns a sentence about each setting that is legal, but likely to wreck the model."""
        far = []
        for name, times in _FAR_BEYOND.items():
            value, default = getattr(self, name), type(self).model_fields[name].default
            if value > times * default:
                far.append(f"{flag_of(name)} is {value:g}, the default {default:g}")
        return far

    def decodes_ahead(self, device: str) -> bool:
        """Returns whether to decode in a separate thread on a device (``cpu``, ``cuda``)."""
        return device != "cpu" if self.decode_ahead is None else self.decode_ahead

    def threads(self, cores: int) -> int:
        """Returns the number of torch threads on a machine with `cores` cores."""
        return self.torch_threads or (1 if self.mode == "gradients" else learner_threads(cores))

    def objective_at(self, remaining: float) -> Objective:
        """Returns the objective.

        Args:
            remaining: fraction of the entropy cost that is left.
        """
        return Objective(
            discount=self.discount,
            lambda_=self.gae_lambda,
            rho_clip=self.rho_clip,
            clip=self.clip,
            passes=self.passes,
            minibatch_size=self.minibatch_size,
            entropy_cost=self.entropy_cost * remaining,
            value_cost=self.value_cost,
            normalise_advantages=self.normalise_advantages,
            vtrace=self.vtrace,
            batch_samples=self.batch_samples,
            learning_rate=self.learning_rate * remaining,
            max_gradient_norm=self.max_gradient_norm,
            adam_epsilon=self.adam_epsilon,
        )

    def play_of(self, actors: int) -> tuple[int, int]:
        """Returns the games of each actor, at most, and the unroll length.

        Args:
            actors: number of active actors, which share the play of a batch.
        """
        return shared_play(self.batch_samples, actors, self.unroll_length)

    def most_asked(self) -> Asked:
        """Returns the most that one actor can be asked for: the batch, when it is alone."""
        games, steps = self.play_of(1)
        env_steps = max(games * steps, self.batch_samples)
        return Asked(games, env_steps, self.messages_in_flight)

    def samples_in_batch(self, actors: int) -> int:
        """Returns the samples that a batch should have, given the number of active actors."""
        games, steps = self.play_of(actors)
        return max(self.batch_samples, actors * games * steps)

    def assignment(self, request: Request, remaining: float, actors: int = 1) -> Assignment:
        """Returns the work for actors.

        Args:
            request: kind of message.
            remaining: fraction of the entropy cost that is left.
            actors: number of active actors, which share the play of a batch.
        """
        games, steps = self.play_of(actors)
        return Assignment(
            request=request,
            game=self.game,
            repeat_action_probability=self.repeat_action_probability,
            network=self.network,
            unroll_length=steps,
            games=min(games, MAX_ENVIRONMENTS),
            messages_in_flight=self.messages_in_flight,
            seed=self.seed,
            objective=self.objective_at(remaining),
        )
