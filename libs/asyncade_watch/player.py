"""Plays one game at its own speed while somebody looks, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import structlog

from asyncade_rl.envs import ShownGame, make_shown_game
from asyncade_rl.envs.shown import PICTURES_PER_SECOND, in_words
from asyncade_rl.games import UnknownGameError
from asyncade_rl.saved_models import SavedModelError
from asyncade_watch.frames import Encoder, Shown
from asyncade_watch.sources import Model, Source

if TYPE_CHECKING:
    from asyncade_rl.session import Session

LINGER_S: Final = 3.0
"""Seconds that a game waits for somebody to look again before it is given up."""

_BEHIND_S: Final = 0.25  # a film that is later than this goes on from now
_WAIT_S: Final = 0.1


class Player:
    """A thread that plays with the weights of one source, and hands over every step.

    It uses no processor while nobody looks: the thread ends, and begins again.

    Args:
        source: of the weights; used in the thread only.
        deliver: called in the thread with every step.
        seed: of the first game; whenever games begin anew, they have the next one.
    """

    def __init__(self, source: Source, deliver: Callable[[Shown], None], seed: int) -> None:
        self._source = source
        self._deliver = deliver
        self._seed = seed
        self._lock = threading.Lock()
        self._viewers = 0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.looks_at_network = False
        """Whether somebody wants to see what the network looks at."""
        self.trouble: str | None = None
        """Why the newest weights do not play, or the game has ended; None if all is well."""

    def look(self, viewers: int) -> None:
        """Says how many look. The first one starts the thread."""
        with self._lock:
            self._viewers = viewers
            if viewers and self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="player", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._stop.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        import torch  # takes seconds, and nobody may ever look

        torch.set_num_threads(1)
        film = _Film(self._seed)
        try:
            while self._wanted():
                self._take_newer(film)
                shown = film.step(self.looks_at_network)
                if shown is None:
                    self._stop.wait(_WAIT_S)
                    continue
                self._deliver(shown)
                if (delay := film.seconds_until_next()) > 0:
                    self._stop.wait(delay)
        except Exception as error:  # a game of another package may raise anything
            structlog.get_logger().exception("the game ended")
            self.trouble = (
                f"the game ended with an error ({type(error).__name__}: {error}); repair it, then"
                " reload this page"
            )
            with self._lock:
                self._thread = None
        finally:
            self._source.close()
            film.close()
            self._seed = film.seed

    def _wanted(self) -> bool:
        """Returns whether to go on; if not, the thread counts as ended from here on."""
        until = time.monotonic() + LINGER_S
        while not self._stop.is_set() and time.monotonic() < until:
            if self._viewers:
                return True
            self._stop.wait(_WAIT_S)
        with self._lock:
            if self._viewers and not self._stop.is_set():
                return True
            self._thread = None
            return False

    def _take_newer(self, film: _Film) -> None:
        try:
            model = self._source.newer()
            if model is None:
                return
            session = film.fitted(model)
        except (SavedModelError, UnknownGameError, ValueError) as error:
            refused = f"weights cannot be played: {error}"
            if refused != self.trouble:
                structlog.get_logger().warning("weights refused", detail=str(error))
            self.trouble = refused
            return
        film.play(model, session)
        self.trouble = None


class _Film:
    """The game that is played, and the weights that play it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._session: Session | None = None
        self._played: tuple[str, str, float] | None = None
        self._game: ShownGame | None = None
        self._encoder = Encoder()
        self._about: dict[str, Any] = {}
        self._observations = np.zeros(0, dtype=np.uint8)
        self._random = np.random.default_rng(seed)
        self._score = 0.0
        self._games = 0
        self._over = True
        self._next_at = 0.0

    def fitted(self, model: Model) -> Session:
        """Returns a session with the model's weights.

        Raises:
            SavedModelError: the checkpoint cannot be read.
            UnknownGameError: the game is not installed here.
            ValueError: the weights are of another network. In each case the film goes on as before.
        """
        from asyncade_rl.session import Session

        session = self._session
        if session is None or self._key(model) != self._played:
            session = Session(model.game, model.network, envs=1)
        model.load(session)
        return session

    def play(self, model: Model, session: Session) -> None:
        """Goes on with the session; another game begins anew, and raises what that raises."""
        if self._key(model) != self._played:
            game = make_shown_game(model.game, repeat_action_probability=model.sticky)
            self.close()
            self._game, self._over = game, True
            self._observations = game.reset(self.seed)
            self.seed += 1
        self._session, self._played, self._about = session, self._key(model), dict(model.about)

    @staticmethod
    def _key(model: Model) -> tuple[str, str, float]:
        return model.game, model.network, model.sticky

    def step(self, looks_at_network: bool) -> Shown | None:
        """Takes one env step; returns None as long as there are no weights."""
        if self._session is None or self._game is None:
            return None
        from asyncade_watch.thoughts import think

        thought = think(
            self._session.network, self._observations, self._random.random(), looks_at_network
        )
        if self._over:
            self._games += 1
            self._score = 0.0
        step = self._game.step(np.array([thought.action]))
        self._observations = step.observations
        self._score += float(step.rewards[0])
        self._over = bool(step.terminated[0] | step.truncated[0])
        header = {
            **self._about,
            "actions": [in_words(name) for name in self._game.action_names],
            "probabilities": [round(float(p), 4) for p in thought.probabilities],
            "action": thought.action,
            "value": round(thought.value, 3),
            "score": self._score,
            "game": self._games,
            "over": self._over,
            "fps": PICTURES_PER_SECOND,
        }
        return self._encoder.shown(header, self._game.pictures, thought.looked_at)

    def seconds_until_next(self) -> float:
        """Returns how long to wait so that the game runs at its own speed."""
        assert self._game is not None
        now = time.monotonic()
        self._next_at += len(self._game.pictures) / PICTURES_PER_SECOND
        if self._next_at < now - _BEHIND_S:
            self._next_at = now
        return self._next_at - now

    def close(self) -> None:
        """Frees the game."""
        if self._game is not None:
            self._game.close()
