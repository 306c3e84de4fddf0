"""Schedules of step size, entropy cost and share of samples: functions of pure numbers."""

from __future__ import annotations

import math
from typing import Final

REFERENCE_SAMPLES: Final = 128
"""Samples per update for which a learning rate is given."""

SMALLEST_SHARE: Final = 32
"""Samples in a gradient below which sending it costs more than computing it."""


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


def share_of_samples(samples: int, sharers: int) -> int:
    """Returns how many of an update's samples each sharer contributes; 0 sharers count as 1."""
    return max(samples // max(1, sharers), min(SMALLEST_SHARE, samples))
