"""How a hyperparameter changes over a run, and with the number of those who share the work."""

from __future__ import annotations

from typing import Final

SMALLEST_SHARE: Final = 32
"""Samples below which a gradient costs more to send than to compute, however many actors share."""


def annealed(initial: float, env_steps: int, over_env_steps: int, final_fraction: float) -> float:
    """Returns a value that falls linearly from `initial` to `final_fraction` of it, then stays."""
    return initial * max(1.0 - env_steps / over_env_steps, final_fraction)


def share_of_samples(samples: int, sharers: int) -> int:
    """Returns how many of an update's samples each of its sharers takes, at least one sharer."""
    return max(samples // max(1, sharers), min(SMALLEST_SHARE, samples))
