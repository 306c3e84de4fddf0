"""What the evaluator's live page says of the rounds that were played."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asyncade_watch.learner_progress import LearnerProgress

_ROUNDS: Final = 400
"""Rounds in the curve; older ones are forgotten."""


class Rounds:
    """The state of the page. One thread adds rounds, another one reads.

    Args:
        weights_address: of the learner.
        learner: what it says of its run; None if it is not asked.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        weights_address: str,
        learner: LearnerProgress | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._weights_address = weights_address
        self._learner = learner
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._game: str | None = None
        self._episodes = 0
        self._rounds: deque[tuple[float, float]] = deque(maxlen=_ROUNDS)

    def add(self, game: str, returns: Sequence[float]) -> None:
        """Adds the returns of a round's games."""
        with self._lock:
            self._game = game
            self._episodes += len(returns)
            self._rounds.append((self._clock() - self._began, statistics.fmean(returns)))

    def refresh(self) -> dict[str, Any]:
        """Returns what the page shows, as `asyncade_watch.run_state.RunState` does of a run."""
        with self._lock:
            rounds = list(self._rounds)
            game, episodes = self._game, self._episodes
        means = [mean for _, mean in rounds]
        seconds = [round(at, 1) for at, _ in rounds]
        last = {"mean_return_100": means[-1], "seconds": seconds[-1]} if rounds else {}
        played = f", whose last round's mean return was {means[-1]:.1f}" if rounds else ""
        own: dict[str, Any] = {
            "run": f"evaluator of {self._weights_address}{played}",
            "game": game,
            "status": "training" if rounds else "waiting for the first round",
            "curve_of": "Mean return of each round",
            "now": {**last, "episodes": episodes} if rounds else {},
            "curve": {"seconds": seconds, "mean_return_100": means},
            "checkpoints": [],
        }
        return own if self._learner is None else own | self._learner.refresh()

    def saved(self) -> list[Any]:
        """Returns nothing: the evaluator has no checkpoints."""
        return []
