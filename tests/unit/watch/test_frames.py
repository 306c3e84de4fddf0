"""The film's messages: what has changed adds up to the pictures; a joiner gets the whole one."""

from __future__ import annotations

import numpy as np

from asyncade_rl.envs import make_shown_game
from asyncade_watch.frames import Encoder
from rigs.page import Screen


def test_changes_add_up_to_the_pictures() -> None:
    game = make_shown_game("pong")
    game.reset(1)
    encoder, screen, joiner = Encoder(), Screen(), Screen()
    sizes = []
    for number in range(60):
        game.step(np.array([number % 6]))
        shown = encoder.shown({"value": 0.5}, game.pictures, None)
        np.testing.assert_array_equal(screen.take(shown.changes), game.pictures)
        sizes.append(len(shown.changes))
        if number == 30:
            np.testing.assert_array_equal(joiner.take(shown.whole()), game.pictures)
        elif number > 30:
            joiner.take(shown.changes)
    np.testing.assert_array_equal(joiner.picture, screen.picture)
    assert screen.header["value"] == 0.5
    assert sizes[0] > 210 * 160 * 3  # the first one is whole
    assert np.median(sizes) < 4000


def test_a_change_of_one_colour_is_sent() -> None:
    encoder, screen = Encoder(), Screen()
    pictures = np.zeros((4, 10, 12, 3), dtype=np.uint8)
    for colour in range(3):
        pictures[colour + 1 :, 4, 5, colour] = 200
    shown = encoder.shown({}, pictures, None)
    np.testing.assert_array_equal(screen.take(shown.changes), pictures)
    assert len(shown.changes) < 2 * 10 * 12 * 3


def test_where_all_changes_whole_pictures_are_sent() -> None:
    encoder, screen = Encoder(), Screen()
    pictures = np.zeros((2, 10, 12, 3), dtype=np.uint8)
    pictures[1] = 9
    shown = encoder.shown({}, pictures, None)
    np.testing.assert_array_equal(screen.take(shown.changes), pictures)
    assert len(shown.changes) < 2 * 10 * 12 * 3 + 100


def test_a_picture_of_another_size_is_sent_whole() -> None:
    encoder, screen = Encoder(), Screen()
    screen.take(encoder.shown({}, np.zeros((1, 84, 84, 3), np.uint8), None).changes)
    other = np.full((1, 10, 12, 3), 7, dtype=np.uint8)
    np.testing.assert_array_equal(screen.take(encoder.shown({}, other, None).changes), other)


def test_what_is_looked_at_comes_after_the_pictures() -> None:
    looked_at = np.arange(21 * 21, dtype=np.uint16).astype(np.uint8).reshape(21, 21)
    screen = Screen()
    screen.take(Encoder().shown({}, np.zeros((4, 84, 84, 3), np.uint8), looked_at).changes)
    assert screen.looked_at is not None
    np.testing.assert_array_equal(screen.looked_at, looked_at)
