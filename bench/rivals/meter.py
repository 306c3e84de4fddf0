"""Counts env steps, games and seconds in the same way for every rival.

The clock starts with the first env step of training. Env steps count when their iteration is
complete, update included: a rollout that the time limit cuts off counts neither in env steps nor in
seconds. Rivals with long rollouts therefore gain and lose nothing by it.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import deque
from importlib.metadata import version

TARGET = 18.0
GAMES = 100


class TimeIsUpError(Exception):
    """Raised inside a training loop that cannot be stopped in another way."""


class Meter:
    """Counts one rival's training.

    Args:
        limit_seconds: training ends this long after it began, but not before one iteration is
            complete. It also ends when the mean of the last 100 games is above the target.
    """

    def __init__(self, limit_seconds: float) -> None:
        self._limit = limit_seconds
        self._start: float | None = None
        self._returns: deque[float] = deque(maxlen=GAMES)
        self._games = 0
        self._env_steps = 0
        self._seconds = 0.0
        self._reached: dict[str, float] | None = None

    def start(self, at: float | None = None) -> None:
        """Starts the clock; later calls have no effect.

        Args:
            at: `time.monotonic()` of the first env step, if it was before this call.
        """
        if self._start is None:
            self._start = time.monotonic() if at is None else at

    def game(self, points: float) -> None:
        """Counts a finished game with its unclipped return."""
        self._returns.append(float(points))
        self._games += 1

    def iteration(self, env_steps: int) -> None:
        """Counts a complete iteration; `env_steps` is the total of the training so far."""
        assert self._start is not None, "an iteration ended before the clock was started"
        self._env_steps = env_steps
        self._seconds = time.monotonic() - self._start
        mean = self._mean()
        if self._games >= GAMES and mean is not None and mean > TARGET and not self._reached:
            self._reached = {"env_steps": env_steps, "seconds": round(self._seconds, 1)}

    @property
    def due(self) -> bool:
        """True once training is to end."""
        if self._start is None or self._env_steps == 0:
            return False
        return self._reached is not None or time.monotonic() - self._start >= self._limit

    def _mean(self) -> float | None:
        return round(sum(self._returns) / len(self._returns), 2) if self._returns else None

    def report(self, *, packages: list[str], torch_threads: int) -> None:
        """Prints the result as the driver's last line."""
        line = {
            "env_steps": self._env_steps,
            "seconds": round(self._seconds, 2),
            "games": self._games,
            "mean_return": self._mean(),
            "reached_target": self._reached,
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in packages},
            },
            "torch_threads": torch_threads,
        }
        print(json.dumps(line), flush=True)


def parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the options that every driver has."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--minutes", type=float, required=True, help="time limit of training")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--threads", type=int, default=2, help="cores to use")
    options.add_argument("--scratch", required=True, help="folder for the rival's own files")
    return options
