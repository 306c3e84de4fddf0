"""Who looks, and what each gets to see. A slow browser misses steps; it never holds anything up."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from typing import Final

from asyncade_watch.frames import Shown
from asyncade_watch.player import Player
from asyncade_watch.sources import Source

STEPS_QUEUED: Final = 8
"""Half a second of film: a browser that is further behind goes on from the present."""

MOST_GAMES: Final = 4
"""Games that are played at once; whoever asks for another one sees the newest weights."""

NEWEST: Final = "newest"
"""Name of the weights that a running learner has published last."""


class Viewer:
    """One browser tab.

    Args:
        film: whether it shows the game at all.
        looks_at_network: whether it shows what the network looks at.
    """

    def __init__(self, film: bool, looks_at_network: bool) -> None:
        self.film = film
        self.looks_at_network = looks_at_network
        self._steps: deque[Shown] = deque()
        self._state: str | None = None
        self._needs_whole = True
        self._something = asyncio.Event()

    def offer_step(self, shown: Shown) -> None:
        """Queues a step; a full queue is emptied first, and the film goes on with this step."""
        if len(self._steps) >= STEPS_QUEUED:
            self._steps.clear()
            self._needs_whole = True
        self._steps.append(shown)
        self._something.set()

    def offer_state(self, state: str) -> None:
        """Replaces the state that was not sent yet."""
        self._state = state
        self._something.set()

    async def next(self) -> str | bytes:
        """Waits for a message to send, and returns it."""
        while True:
            await self._something.wait()
            if self._state is not None:
                state, self._state = self._state, None
                return state
            if self._steps:
                shown = self._steps.popleft()
                message = shown.whole() if self._needs_whole else shown.changes
                self._needs_whole = False
                return message
            self._something.clear()


class Viewers:
    """All tabs, and the games that are played for them.

    Used in one event loop. The games are played in threads.

    Args:
        source_of: returns the source of weights by name, None for a name that there is not.
        seed: of the first game.
    """

    def __init__(self, source_of: Callable[[str], Source | None], seed: int) -> None:
        self._source_of = source_of
        self._seeds = itertools.count(seed, 10_000)
        self._games: dict[str, Player] = {}
        self._viewers: dict[str, set[Viewer]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._viewers.values()))

    def add(self, viewer: Viewer, name: str) -> str:
        """Shows the weights of a name to a viewer; returns the name that is shown."""
        name = self._opened(name)
        self._viewers[name].add(viewer)
        self._tell(name)
        return name

    def remove(self, viewer: Viewer, name: str) -> None:
        """Shows nothing more to a viewer."""
        self._viewers[name].discard(viewer)
        self._tell(name)

    def offer_state(self, state: str) -> None:
        """Sends the state to everybody."""
        for viewer in itertools.chain(*self._viewers.values()):
            viewer.offer_state(state)

    def troubles(self) -> list[str]:
        """Returns what keeps games that somebody looks at from being played."""
        return [
            game.trouble if name == NEWEST else f"{name}: {game.trouble}"
            for name, game in self._games.items()
            if game.trouble is not None and self._viewers[name]
        ]

    def close(self) -> None:
        """Ends all games."""
        for game in self._games.values():
            game.close()

    def _opened(self, name: str) -> str:
        if name in self._games:
            return name
        for idle in [one for one, viewers in self._viewers.items() if not viewers]:
            if len(self._games) >= MOST_GAMES:
                self._games.pop(idle).close()
                del self._viewers[idle]
        room = len(self._games) < MOST_GAMES or name == NEWEST
        source = self._source_of(name) if room else None
        if source is None:
            assert name != NEWEST, "there is always a source of the newest weights"
            return self._opened(NEWEST)
        loop = asyncio.get_running_loop()

        def deliver(shown: Shown) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._fan_out, name, shown)

        self._games[name] = Player(source, deliver, next(self._seeds))
        self._viewers[name] = set()
        return name

    def _fan_out(self, name: str, shown: Shown) -> None:
        for viewer in self._viewers.get(name, ()):
            if viewer.film:
                viewer.offer_step(shown)

    def _tell(self, name: str) -> None:
        watching = [viewer for viewer in self._viewers[name] if viewer.film]
        game = self._games[name]
        game.looks_at_network = any(viewer.looks_at_network for viewer in watching)
        game.look(len(watching))
