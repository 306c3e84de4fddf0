"""How a hyperparameter changes over a run."""

from __future__ import annotations


def annealed(initial: float, env_steps: int, over_env_steps: int, final_fraction: float) -> float:
    """Returns a value that falls linearly from `initial` to `final_fraction` of it, then stays."""
    return initial * max(1.0 - env_steps / over_env_steps, final_fraction)
