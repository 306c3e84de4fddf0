"""Each viewer gets the film from a whole screen on; a slow one misses steps and holds nobody up."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from asyncade_rl.envs import ShownGame, make_shown_game
from asyncade_watch.frames import Encoder, Shown
from asyncade_watch.sources import Model, Source
from asyncade_watch.viewers import MOST_GAMES, NEWEST, STEPS_QUEUED, Viewer, Viewers
from rigs.page import Screen


class Nothing:
    """A source without weights."""

    def newer(self) -> Model | None:
        return None

    def close(self) -> None:
        pass


def begun() -> tuple[ShownGame, Encoder]:
    game = make_shown_game("pong")
    game.reset(1)
    return game, Encoder()


def steps(game: ShownGame, encoder: Encoder, count: int) -> list[Shown]:
    shown = []
    for _ in range(count):
        game.step(np.array([2]))
        shown.append(encoder.shown({}, game.pictures, None))
    return shown


async def messages(viewer: Viewer) -> list[Any]:
    """Returns what is there to be sent."""
    found = []
    while True:
        try:
            found.append(await asyncio.wait_for(viewer.next(), 0.01))
        except TimeoutError:
            return found


def test_whoever_joins_begins_with_a_whole_screen() -> None:
    async def scenario() -> None:
        game, encoder = begun()
        steps(game, encoder, 5)
        viewer, screen = Viewer(True, False), Screen()
        for shown in steps(game, encoder, 3):
            viewer.offer_step(shown)
        sent = await messages(viewer)
        assert [len(message) > 210 * 160 * 3 for message in sent] == [True, False, False]
        for message in sent:
            screen.take(message)
        assert np.array_equal(screen.picture, game.pictures[-1])

    asyncio.run(scenario())


def test_a_slow_viewer_goes_on_from_the_present() -> None:
    async def scenario() -> None:
        game, encoder = begun()
        viewer, screen = Viewer(True, False), Screen()
        for shown in steps(game, encoder, 10 * STEPS_QUEUED + 3):
            viewer.offer_step(shown)
        sent = await messages(viewer)
        assert len(sent) <= STEPS_QUEUED
        for message in sent:
            screen.take(message)
        assert np.array_equal(screen.picture, game.pictures[-1])

    asyncio.run(scenario())


def test_only_the_newest_state_is_sent() -> None:
    async def scenario() -> None:
        viewer = Viewer(True, False)
        viewer.offer_state("old")
        viewer.offer_state("new")
        assert await messages(viewer) == ["new"]

    asyncio.run(scenario())


def test_tabs_that_look_at_the_same_share_a_game() -> None:
    async def scenario() -> None:
        asked = []

        def source_of(name: str) -> Source:
            asked.append(name)
            return Nothing()

        viewers = Viewers(source_of, seed=1)
        tabs = [Viewer(False, False) for _ in range(10)]
        assert {viewers.add(tab, NEWEST) for tab in tabs} == {NEWEST}
        assert (asked, len(viewers)) == ([NEWEST], 10)
        for tab in tabs:
            viewers.remove(tab, NEWEST)
        assert len(viewers) == 0
        viewers.close()

    asyncio.run(scenario())


def test_an_unknown_checkpoint_and_one_game_too_many_show_the_newest_weights() -> None:
    async def scenario() -> None:
        viewers = Viewers(lambda name: None if name == "absent" else Nothing(), seed=1)
        assert viewers.add(Viewer(False, False), "absent") == NEWEST
        for number in range(1, MOST_GAMES):
            tab = Viewer(False, False)
            assert viewers.add(tab, f"{number}") == f"{number}"
        assert viewers.add(Viewer(False, False), "another") == NEWEST
        viewers.remove(tab, f"{MOST_GAMES - 1}")
        assert viewers.add(Viewer(False, False), "another") == "another"
        viewers.close()

    asyncio.run(scenario())


def test_there_is_always_room_for_the_newest_weights() -> None:
    async def scenario() -> None:
        viewers = Viewers(lambda name: Nothing(), seed=1)
        for number in range(MOST_GAMES):
            assert viewers.add(Viewer(False, False), f"{number}") == f"{number}"
        assert viewers.add(Viewer(False, False), "another") == NEWEST
        viewers.close()

    asyncio.run(scenario())
