"""The film's messages: what has changed adds up to the screens, and a joiner gets the whole one."""

from __future__ import annotations

import numpy as np

from asyncade_rl.envs.screens import make_screen_game
from asyncade_watch.frames import Encoder
from rigs.page import Screen


def test_changes_add_up_to_the_screens() -> None:
    game = make_screen_game("pong")
    game.reset(1)
    encoder, screen, joiner = Encoder(game), Screen(), Screen()
    sizes = []
    for number in range(60):
        step = game.step(number % 6)
        shown = encoder.shown({"value": 0.5}, step.screens, None)
        seen = screen.take(shown.changes)
        assert all(map(np.array_equal, seen, step.screens))
        sizes.append(len(shown.changes))
        if number == 30:
            assert all(map(np.array_equal, joiner.take(shown.whole()), step.screens))
        elif number > 30:
            joiner.take(shown.changes)
    assert np.array_equal(joiner.pixels, screen.pixels)
    assert joiner.palette == screen.palette
    assert sizes[0] > 210 * 160  # the first one is whole
    assert np.median(sizes) < 4000


def test_colours_are_those_of_the_emulator() -> None:
    game = make_screen_game("breakout")
    game.reset(1)
    encoder, screen = Encoder(game), Screen()
    for _ in range(20):
        screen.take(encoder.shown({}, game.step(1).screens, None).changes)
    palette = np.frombuffer(bytes.fromhex(screen.palette), np.uint8).reshape(256, 3)
    pixels = screen.pixels.reshape(210, 160)
    assert np.array_equal(palette[pixels], game.colours()[game.screen()])


def test_a_screen_of_another_size_is_sent_whole() -> None:
    game = make_screen_game("catch")
    game.reset(1)
    encoder, screen = Encoder(game), Screen()
    screen.take(encoder.shown({}, [np.zeros((84, 84), np.uint8)], None).changes)
    other = np.full((10, 12), 7, dtype=np.uint8)
    (seen,) = screen.take(encoder.shown({}, [other], None).changes)
    assert np.array_equal(seen, other)


def test_what_is_looked_at_comes_after_the_screens() -> None:
    game = make_screen_game("catch")
    game.reset(1)
    looked_at = np.arange(21 * 21, dtype=np.uint16).astype(np.uint8).reshape(21, 21)
    screen = Screen()
    screen.take(Encoder(game).shown({}, game.step(0).screens, looked_at).changes)
    assert screen.looked_at is not None
    assert np.array_equal(screen.looked_at, looked_at)
