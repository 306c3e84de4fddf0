"""The three messages, as frozen records. Field by field: `proto/SPEC.md`.

Notation: E environments, T steps per unroll, H x W pixels per frame, N finished episodes.
Arrays are numpy, C-order, little-endian. A record is what a peer said, already checked against the
limits and against itself; whether it is *wanted* (its model, its age) is the receiver's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

Float32: TypeAlias = npt.NDArray[np.float32]
Int32: TypeAlias = npt.NDArray[np.int32]
UInt8: TypeAlias = npt.NDArray[np.uint8]

STACK: Final = 4
"""Frames in one observation (Mnih et al. 2015)."""

GOES_ON: Final = 0
TERMINATED: Final = 1
TRUNCATED: Final = 2
"""What became of an episode at a step: it goes on, it ended, it was cut off by the time limit."""


Request: TypeAlias = Literal["trajectories", "gradients"]
"""The kind of message a learner wants from its actors."""

REQUESTS: Final[tuple[Request, ...]] = get_args(Request)


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """What is optimised, and how one batch is used: the learner's hyperparameters of the loss.

    Attributes:
        discount: gamma, in [0, 1].
        lambda_: the mixing of n-step returns in V-trace and GAE, in [0, 1].
        rho_clip: V-trace's truncation of importance ratios (rho-bar and c-bar), > 0.
        clip: the clipped surrogate's range, > 0; None for the plain policy gradient.
        passes: times each sample is used, >= 1.
        minibatch_size: samples per gradient, >= 1.
        entropy_cost: weight of the entropy bonus at this point of its schedule, >= 0.
        value_cost: weight of the value loss, >= 0.
        normalise_advantages: whether a batch's advantages are brought to mean 0, deviation 1.
        vtrace: whether to correct for the behaviour policy having been another one; without it
            all data are taken for the present policy's own.
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
    vtrace: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """What the learner asks of its actors.

    It travels with the weights, so that an actor needs no setting but the learner's address, and
    no two actors can disagree.

    Attributes:
        request: the kind of message wanted.
        game: the environment's id: an ALE game (``pong``), or ``catch``.
        repeat_action_probability: sticky actions, in [0, 1); 0 is the protocol of the figures.
        network: name of the network's shape.
        unroll_length: T.
        messages_in_flight: how many of its messages an actor may have on their way.
        seed: of the whole run; an actor mixes in its own id.
        objective: the loss, for actors that compute gradients.
    """

    request: Request
    game: str
    repeat_action_probability: float
    network: str
    unroll_length: int
    messages_in_flight: int
    seed: int
    objective: Objective


@dataclass(frozen=True, kw_only=True, slots=True)
class Episodes:
    """The games that ended since the actor's last message.

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
        actor_id: who played; unique among the living.
        sequence: counts this actor's messages from 0, so that lost ones can be counted.
        policy_version: of the oldest weights that chose an action; newer ones may have been taken
            between two steps, and the log-probabilities are of those that chose.
        model: fingerprint of the network's parameters (names and shapes).
        frames: uint8 [E, T+4, H, W]. The first four are the stack that step 0 saw; frame t+4 is
            the newest one after step t. Each is sent once: `asyncade_rl.batch` rebuilds the stacks.
        actions: uint8 [T, E].
        behaviour_log_probs: float32 [T, E], log mu(a_t | x_t), <= 0.
        rewards: float32 [T, E], as they are learned from: the game's own score is in `episodes`.
        ends: uint8 [T, E], `GOES_ON`, `TERMINATED` or `TRUNCATED` at step t. In the latter two
            frame t+4 is the first one of the next episode.
        bootstrap_values: float32 [number of `TRUNCATED`, in the order of `ends`]: the behaviour
            network's value of the observation that the time limit cut off.
        episodes: the games that ended in this unroll.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Gradients:
    """The gradient of the loss on one minibatch, actor to learner.

    Attributes:
        actor_id, sequence, model: as in `Trajectory`.
        policy_version: of the weights the gradient was taken at.
        samples: what the gradient is the mean over.
        env_steps: env steps played since the actor's last message (an unroll yields several
            gradients: the first one carries its steps and its episodes).
        tensors: parameter name to float32 array of that parameter's shape.
        losses: name to value of the loss's parts on this minibatch, to be watched.
        episodes: the games that ended since the actor's last message.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The current policy, learner to every actor.

    Attributes:
        run: random number of this learner process: after a restart versions may begin lower.
        policy_version: counts publications; in one `run` it only rises.
        model: fingerprint of the network's parameters.
        assignment: what is asked of the actors.
        received: actor id to the number of its messages that have come in, lost ones included. The
            broadcast is the credit for more: an actor that is not named has nothing on its way.
        safetensors: parameters and normalisation statistics, in the format of the checkpoints.
        published_at: the learner's clock when it published them, in Unix seconds, so that actors
            on a synchronised clock can tell how old they are; None if it does not say.
    """

    run: int
    policy_version: int
    model: str
    assignment: Assignment
    received: Mapping[str, int]
    safetensors: bytes
    published_at: float | None = None


Upstream: TypeAlias = Trajectory | Gradients
"""What an actor sends."""

Message: TypeAlias = Trajectory | Gradients | Weights
