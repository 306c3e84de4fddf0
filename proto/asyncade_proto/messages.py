"""The three messages as frozen records; `proto/SPEC.md` specifies every field.

Notation: E environments, T steps per unroll, H x W pixels per frame, N finished episodes.
Arrays are numpy, C-order, little-endian. Decoded records are consistent and within the limits; the
receiver decides if it uses them (model, policy lag).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from asyncade_proto.errors import TooLargeError
from asyncade_proto.limits import MAX_ARRAY_BYTES

Float32: TypeAlias = npt.NDArray[np.float32]
Int32: TypeAlias = npt.NDArray[np.int32]
UInt8: TypeAlias = npt.NDArray[np.uint8]

STACK: Final = 4
"""Frames in one observation (Mnih et al. 2015)."""

GOES_ON: Final = 0
TERMINATED: Final = 1
TRUNCATED: Final = 2
"""State of an episode after a step: it continues, it ended, the time limit cut it off."""


_BYTES_PER_STEP: Final = 22
"""Bytes of a trajectory per env step besides the frame: four arrays of [T, E], and one truncated
episode of one step in every step."""

Request: TypeAlias = Literal["trajectories", "gradients"]
"""Kind of message that a learner requests from its actors."""

REQUESTS: Final[tuple[Request, ...]] = get_args(Request)


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """Hyperparameters of the loss and of the passes over one batch.

    Attributes:
        discount: gamma, in [0, 1].
        lambda_: the mixing of n-step returns in V-trace and GAE, in [0, 1].
        rho_clip: V-trace's truncation of importance ratios (rho-bar and c-bar), > 0.
        clip: the clipped surrogate's range, > 0; None for the plain policy gradient.
        passes: number of times each sample is used, >= 1.
        minibatch_size: samples per gradient, >= 1.
        entropy_cost: weight of the entropy bonus at this point of the schedule, >= 0.
        value_cost: weight of the value loss, >= 0.
        normalise_advantages: normalise a batch's advantages to mean 0, standard deviation 1.
        vtrace: correct for the difference between behaviour and target policy; if false, all data
            count as on-policy.
        batch_samples: samples of all actors in a batch: over as many of its own an actor normalises
            advantages.
        learning_rate: Adam's step size for a minibatch of 128 samples, >= 0.
        max_gradient_norm: gradients are clipped to this global norm, > 0.
        adam_epsilon: Adam's epsilon, > 0.
    """

    discount: float
    lambda_: float
    rho_clip: float
    clip: float | None
    passes: int
    minibatch_size: int
    entropy_cost: float
    value_cost: float
    normalise_advantages: bool
    vtrace: bool
    batch_samples: int
    learning_rate: float
    max_gradient_norm: float
    adam_epsilon: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """The learner's instructions to its actors.

    Sent with the weights, so an actor's only required setting is the learner's address and no two
    actors can disagree.

    Attributes:
        request: kind of message to send.
        game: id of the environment: an ALE game (``pong``) or ``catch``.
        repeat_action_probability: sticky actions, in [0, 1); 0 is the published protocol.
        network: name of the network's architecture.
        unroll_length: T, except for actors named in `Weights.unroll_lengths`.
        messages_in_flight: messages that an actor may have sent and the learner not yet received.
        seed: of the run; each actor mixes in its id.
        objective: the loss, for actors that compute gradients.
        games: games that an actor plays at most; None: all that it has.
    """

    request: Request
    game: str
    repeat_action_probability: float
    network: str
    unroll_length: int
    messages_in_flight: int
    seed: int
    objective: Objective
    games: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Episodes:
    """Games that ended since the actor's last message.

    Attributes:
        returns: float32 [N], undiscounted, of the unclipped game.
        lengths: int32 [N], in env steps.
    """

    returns: Float32
    lengths: Int32


@dataclass(frozen=True, kw_only=True, slots=True)
class Trajectory:
    """One unroll of E environments, actor to learner.

    Attributes:
        actor_id: sender; unique among running actors.
        sequence: counts this actor's messages from 0, so that lost messages can be counted.
        policy_version: of the oldest weights that chose an action. Newer weights may have been
            loaded between steps; log-probabilities are of the weights that chose the action.
        model: fingerprint of the network's parameters (names and shapes).
        frames: uint8 [E, T+4, H, W]. The first four are the stack observed at step 0; frame t+4 is
            the newest after step t. Each is sent once: `asyncade_rl.batch` rebuilds the stacks.
        actions: uint8 [T, E].
        behaviour_log_probs: float32 [T, E], log mu(a_t | x_t), <= 0.
        rewards: float32 [T, E], clipped for learning; unclipped returns are in `episodes`.
        ends: uint8 [T, E], `GOES_ON`, `TERMINATED` or `TRUNCATED` at step t. After the latter two,
            frame t+4 is the first of the next episode.
        bootstrap_values: float32 [number of `TRUNCATED`, in the order of `ends`]: the behaviour
            network's value of the last observation before each truncation.
        episodes: games that ended in this unroll.
    """

    actor_id: str
    sequence: int
    policy_version: int
    model: str
    frames: UInt8
    actions: UInt8
    behaviour_log_probs: Float32
    rewards: Float32
    ends: UInt8
    bootstrap_values: Float32
    episodes: Episodes

    @property
    def env_steps(self) -> int:
        """Env steps in this unroll: T x E."""
        return int(self.actions.size)

    @property
    def points_won(self) -> float:
        """Sum of the positive rewards."""
        return float(self.rewards.clip(min=0).sum(dtype=np.float64))

    @property
    def points_lost(self) -> float:
        """Sum of the negative rewards, without the sign."""
        return float(-self.rewards.clip(max=0).sum(dtype=np.float64))


def check_unroll(unroll_length: int, envs: int, frame_side: int) -> None:
    """Checks that an unroll's `Trajectory` fits into a message, whatever is played.

    Its compressed size, which also has a limit, depends on the game.

    Args:
        unroll_length: T.
        envs: E.
        frame_side: H and W.

    Raises:
        TooLargeError: its arrays are larger than `MAX_ARRAY_BYTES`.
    """
    per_env = (unroll_length + STACK) * frame_side**2 + unroll_length * _BYTES_PER_STEP
    if envs * per_env > MAX_ARRAY_BYTES:
        raise TooLargeError(
            f"an unroll of {unroll_length} steps in {envs} environments is {envs * per_env:,} bytes"
            f" of arrays, and a message takes {MAX_ARRAY_BYTES:,}: use at most"
            f" {MAX_ARRAY_BYTES // per_env} environments per actor, or a shorter unroll"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Gradients:
    """The optimiser's steps on one unroll, actor to learner.

    Attributes:
        actor_id, sequence, model: as in `Trajectory`.
        policy_version: of the weights the steps start from.
        samples: number of samples in the unroll.
        env_steps: env steps since the actor's last message.
        tensors: parameter name to float32 array of that parameter's shape: the pseudo-gradient
            (Reddi et al. 2021), which is the parameter at the start minus the parameter at the end,
            over the objective's learning rate.
        losses: mean of each part of the loss on the way, by name, for monitoring.
        episodes: games that ended since the actor's last message.
        points_won: sum of the positive rewards since the actor's last message.
        points_lost: sum of the negative ones, without the sign.
    """

    actor_id: str
    sequence: int
    policy_version: int
    model: str
    samples: int
    env_steps: int
    tensors: Mapping[str, Float32]
    losses: Mapping[str, float]
    episodes: Episodes
    points_won: float = 0.0
    points_lost: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The current policy, learner to every actor.

    Attributes:
        run: random number of this learner process: after a restart, versions may be lower.
        policy_version: number of publications; only increases within a `run`.
        model: fingerprint of the network's parameters.
        assignment: instructions to the actors.
        received: actor id to the number of its messages that were received or lost. This is the
            credit for further messages; an actor that is missing here has none in flight.
        safetensors: parameters and normalisation statistics, in the checkpoints' format.
        published_at: Unix time of publication by the learner's clock, in seconds, so that actors
            with synchronised clocks can measure the latency; None if unknown.
        unroll_lengths: actor id to the T asked of this actor instead of the assignment's.
    """

    run: int
    policy_version: int
    model: str
    assignment: Assignment
    received: Mapping[str, int]
    safetensors: bytes
    published_at: float | None = None
    unroll_lengths: Mapping[str, int] = field(default_factory=dict)


Upstream: TypeAlias = Trajectory | Gradients
"""A message from an actor."""

Message: TypeAlias = Trajectory | Gradients | Weights
