"""Schedules of step size, entropy cost and shares of the play: functions of pure numbers."""

from __future__ import annotations

import math
from typing import Final

REFERENCE_SAMPLES: Final = 128
"""Samples per update for which a learning rate is given."""

SHORTEST_UNROLL: Final = 32
"""Env steps; from 8 and 16 Pong was learned far more slowly (docs/experiments.md)."""

GROWN: Final = 1.5
"""A batch this many times as large as it should be has grown, and is not just uneven."""


def annealed(env_steps: int, over_env_steps: int, final_fraction: float) -> float:
    """Returns a fraction that falls linearly from 1 to `final_fraction`, then stays."""
    return max(1.0 - env_steps / over_env_steps, final_fraction)


def cooldown_left(env_steps: int, target_env_steps: int | None, cooldown: float) -> float:
    """Returns a fraction that falls linearly from 1 to 0 once the target is reached.

    The cooldown at the end of a training whose length was not known before (Hägele et al. 2024,
    "Scaling laws and compute-optimal training beyond fixed training durations").

    Args:
        env_steps: of the run so far.
        target_env_steps: env steps at which the target was reached; None before.
        cooldown: its length as a fraction of `target_env_steps`; with 0 it is over at once.
    """
    if target_env_steps is None:
        return 1.0
    since, length = env_steps - target_env_steps, cooldown * target_env_steps
    return 0.0 if since >= length else 1.0 - since / length


def learning_rate_at(remaining: float, learning_rate: float, samples: int) -> float:
    """Returns the step size of an update.

    It grows with the root of the samples, so that Adam's path is the same for any minibatch size
    (Malladi et al. 2022, "On the SDEs and scaling rules for adaptive gradient algorithms").

    Args:
        remaining: fraction of the step size that is left.
        learning_rate: step size at the start for `REFERENCE_SAMPLES`.
        samples: per update.
    """
    return math.sqrt(samples / REFERENCE_SAMPLES) * learning_rate * remaining


def shared_play(batch_samples: int, actors: int, unroll_length: int) -> tuple[int, int]:
    """Returns games per actor and unroll length, so that the batch does not grow with the actors.

    First fewer games, down to one: the batch then has as many games and steps as with two actors.
    Then shorter unrolls, down to 32: from shorter ones Pong is learned clearly more slowly. Only
    then the batch grows.

    Args:
        batch_samples: env steps of all actors together.
        actors: active ones; 0 count as 1.
        unroll_length: the longest.
    """
    share = batch_samples / max(1, actors)
    steps = min(unroll_length, max(SHORTEST_UNROLL, round(share / 8) * 8))
    return max(1, round(share / steps)), steps


def minibatch_of(samples: int, batch_samples: int, minibatch_size: int) -> int:
    """Returns the size of a minibatch: larger in a batch that had to grow, as the step size is.

    So a batch makes as many updates as before, each with `learning_rate_at` more samples (Hilton et
    al. 2021, "Batch size-invariance for policy optimization").

    Args:
        samples: in the batch.
        batch_samples: that it should have.
        minibatch_size: for a batch of that size.
    """
    grown = samples / batch_samples
    return minibatch_size if grown < GROWN else round(minibatch_size * grown)
