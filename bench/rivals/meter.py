"""One clock and one count for every rival.

The clock starts with the first env step of training. Env steps count when the iteration that they
belong to is complete, its update included: a rollout that the cap cuts off counts for nothing, in
steps and in seconds. So a rival with long rollouts is neither flattered (steps without their
update) nor punished.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import deque
from importlib.metadata import version
from typing import Any

GAMES = 100
CURVE_SECONDS = 10.0


class CapReachedError(Exception):
    """Thrown into a training loop that offers no other way to stop it."""


class Meter:
    """Counts one rival's training.

    Args:
        cap_seconds: training ends this long after it began, but not before one complete iteration.
        target: training ends when the mean of the last 100 games is above this.
    """

    def __init__(self, cap_seconds: float, target: float) -> None:
        self._cap = cap_seconds
        self._target = target
        self._start: float | None = None
        self._returns: deque[float] = deque(maxlen=GAMES)
        self._games = 0
        self._env_steps = 0
        self._seconds = 0.0
        self._reached: dict[str, float] | None = None
        self._curve: list[list[float | None]] = []

    def start(self, at: float | None = None) -> None:
        """Starts the clock, once; later calls do nothing.

        Args:
            at: `time.monotonic()` of the first env step, if it was taken before this call.
        """
        if self._start is None:
            self._start = time.monotonic() if at is None else at

    def game(self, points: float) -> None:
        """Notes a finished game by its unclipped return."""
        self._returns.append(float(points))
        self._games += 1

    def iteration(self, env_steps: int) -> None:
        """Notes a complete iteration.

        Args:
            env_steps: all of the training so far, after frame skip.
        """
        if self._start is None:
            raise RuntimeError("an iteration ended before the clock was started")
        self._env_steps = env_steps
        self._seconds = time.monotonic() - self._start
        mean = self._mean()
        if self._games >= GAMES and mean is not None and mean > self._target and not self._reached:
            self._reached = {"env_steps": env_steps, "seconds": round(self._seconds, 1)}
        if not self._curve or self._seconds - (self._curve[-1][0] or 0) >= CURVE_SECONDS:
            self._curve.append([round(self._seconds, 1), env_steps, mean])

    @property
    def due(self) -> bool:
        """Whether training is to end now."""
        if self._start is None or self._env_steps == 0:
            return False
        return self._reached is not None or time.monotonic() - self._start >= self._cap

    def measurement(self) -> dict[str, Any]:
        """Returns what was counted."""
        return {
            "env_steps": self._env_steps,
            "seconds": round(self._seconds, 2),
            "games": self._games,
            "mean_return": self._mean(),
            "reached_target": self._reached,
            "curve": self._curve,
        }

    def _mean(self) -> float | None:
        return round(sum(self._returns) / len(self._returns), 2) if self._returns else None


def parser(description: str | None) -> argparse.ArgumentParser:
    """Returns the options that every driver has."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--minutes", type=float, required=True, help="cap on training")
    options.add_argument("--target", type=float, default=18.0)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--threads", type=int, default=2, help="cores to use")
    options.add_argument("--scratch", required=True, help="folder for what the rival writes")
    return options


def report(meter: Meter, *, packages: list[str], torch_threads: int, settings: object) -> None:
    """Prints the driver's last line."""
    line = {
        **meter.measurement(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "torch_threads": torch_threads,
        "settings": settings,
    }
    print(json.dumps(line), flush=True)
