"""How a hyperparameter changes over a run, and with the number of those who share the work."""

from __future__ import annotations

from typing import Final

SMALLEST_SHARE: Final = 32
"""Samples below which a gradient costs more to send than to compute, however many actors share."""


def annealed(env_steps: int, over_env_steps: int, final_fraction: float) -> float:
    """Returns a fraction that falls linearly from 1 to `final_fraction`, then stays."""
    return max(1.0 - env_steps / over_env_steps, final_fraction)


def cooled_down(env_steps: int, since: int, over_env_steps: float) -> float:
    """Returns a fraction that falls linearly from 1 to 0 over so many env steps.

    The cooldown at the end of a training whose length was not known before (Hägele et al. 2024,
    "Scaling laws and compute-optimal training beyond fixed training durations").

    Args:
        env_steps: of the run so far.
        since: env steps at which it began.
        over_env_steps: its length; with 0 it is over at once.
    """
    if env_steps - since >= over_env_steps:
        return 0.0
    return 1.0 - (env_steps - since) / over_env_steps


def share_of_samples(samples: int, sharers: int) -> int:
    """Returns how many of an update's samples each of its sharers takes, at least one sharer."""
    return max(samples // max(1, sharers), min(SMALLEST_SHARE, samples))
