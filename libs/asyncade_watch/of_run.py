"""The page of a run folder: which weights can be shown, and what is said of the run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

import zmq
from starlette.types import ASGIApp

from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.transport.keys import ActorKeys
from asyncade_watch.page import make_page
from asyncade_watch.run_state import RunState
from asyncade_watch.sources import CheckpointSource, LearnerSource, Model, Source
from asyncade_watch.viewers import NEWEST, Viewers

_SECONDS_BETWEEN_LOOKS: Final = 1.0


@contextlib.contextmanager
def page_of_run(
    folder: RunFolder, keys: ActorKeys | None, host: str, seed: int
) -> Iterator[ASGIApp]:
    """Returns the page of a run.

    Args:
        folder: of the run.
        keys: of an actor; None without encryption.
        host: that the page is served on.
        seed: of the first game.
    """
    state = RunState(folder)

    def source_of(name: str) -> Source | None:
        if name == NEWEST:
            learner = LearnerSource(context, state.weights_address, keys)
            return NewestSource(learner, state)
        found = next((one for one in state.saved() if one.path.name == name), None)
        return None if found is None else CheckpointSource(found, state.sticky())

    with zmq.Context() as context, contextlib.closing(Viewers(source_of, seed)) as viewers:
        yield make_page(state, viewers, host)


class NewestSource:
    """The weights of the running learner; while there is none, the newest checkpoint.

    Args:
        learner: the running one.
        state: of the run.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        learner: LearnerSource,
        state: RunState,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._learner = learner
        self._state = state
        self._clock = clock
        self._look_at = 0.0
        self._shown: str | None = None

    def newer(self) -> Model | None:
        """Returns a model that was not returned yet, or None."""
        if (model := self._learner.newer()) is not None:
            self._shown = None
            return model
        now = self._clock()
        if now < self._look_at:
            return None
        self._look_at = now + _SECONDS_BETWEEN_LOOKS
        if self._state.weights_address() is not None:
            return None
        saved = self._state.saved()
        if not saved or saved[-1].path.name == self._shown:
            return None
        self._shown = saved[-1].path.name
        return CheckpointSource(saved[-1], self._state.sticky()).newer()

    def close(self) -> None:
        """Ends the subscription."""
        self._learner.close()
        self._shown = None
        self._look_at = 0.0
