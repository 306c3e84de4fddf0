"""The page of a learner that is known only by its address: its newest weights play."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import zmq
from starlette.types import ASGIApp

from asyncade_runtime.transport.keys import ActorKeys
from asyncade_watch.page import make_page
from asyncade_watch.run_state import State
from asyncade_watch.sources import LearnerSource, Source
from asyncade_watch.viewers import NEWEST, Viewers


@contextlib.contextmanager
def page_of_learner(
    address: str, keys: ActorKeys | None, state: State, host: str, seed: int
) -> Iterator[ASGIApp]:
    """Returns the page of a learner.

    Args:
        address: where it publishes weights.
        keys: of an actor; None without encryption.
        state: of what is shown besides the game.
        host: that the page is served on.
        seed: of the first game.
    """

    def source_of(name: str) -> Source | None:
        return LearnerSource(context, lambda: address, keys) if name == NEWEST else None

    with zmq.Context() as context, contextlib.closing(Viewers(source_of, seed)) as viewers:
        yield make_page(state, viewers, host)
