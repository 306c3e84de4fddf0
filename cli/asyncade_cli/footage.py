"""Films a trained model while it plays."""

from __future__ import annotations

import math
import threading
from contextlib import closing

import numpy as np

from asyncade_cli.film import Film
from asyncade_cli.trained import Trained
from asyncade_rl.envs.shown import ENV_STEPS_PER_SECOND, Pictures, in_words
from asyncade_rl.evaluation import Chooser


def shoot(
    film: Film,
    trained: Trained,
    chooser: Chooser,
    seed: int,
    stop: threading.Event,
    seconds: float | None = None,
) -> None:
    """Films in colour, with score, value and probabilities beside the game.

    Args:
        film: written to.
        trained: the model.
        chooser: of actions, with the model's network.
        seed: of the game.
        stop: ends the film early.
        seconds: length; a game that ends earlier is followed by the next one. None: one whole
            game, or a full film.

    Raises:
        FilmError: the film cannot be written.
    """
    from asyncade_cli.overlay import Overlay  # needs Pillow, which playing does not

    limit = math.inf if seconds is None else round(seconds * ENV_STEPS_PER_SECOND)
    with closing(trained.shown_game()) as game:
        names = [in_words(name) for name in game.action_names]
        overlay = Overlay(trained.model.game.replace("_", " "), names)
        observations = game.reset(seed)
        score = 0.0
        while film.env_steps < limit and not film.full and not stop.is_set():
            choice = chooser.choose(observations)
            action, value = int(choice.actions[0]), float(choice.values[0])
            thoughts = (action, choice.probabilities[0], value)
            film.add(overlay.draw(in_pairs(game.pictures), score, *thoughts))
            step = game.step(choice.actions)
            observations = step.observations
            score += float(step.rewards[0])
            if step.terminated[0] or step.truncated[0]:
                film.add(overlay.draw(in_pairs(game.pictures), score, *thoughts))
                if seconds is None:
                    return
                score = 0.0
    film.cut, film.interrupted = True, stop.is_set()


def in_pairs(pictures: Pictures) -> Pictures:
    """Returns the maximum of each two pictures: half of them, and no object flickers."""
    return np.stack([pictures[i : i + 2].max(axis=0) for i in range(0, len(pictures), 2)])
