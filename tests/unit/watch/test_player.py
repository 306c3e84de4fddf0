"""A game is played while somebody looks, by the newest weights, and goes on as they change."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncade_proto.errors import DecodeError
from asyncade_rl.envs import ShownGame
from asyncade_rl.games import num_actions
from asyncade_rl.network import make_network
from asyncade_rl.params import ModelMismatchError
from asyncade_rl.session import Session
from asyncade_watch import player
from asyncade_watch.frames import Shown
from asyncade_watch.player import Player
from asyncade_watch.sources import Model
from packages import MY_GAME, install

DEADLINE_S = 60.0


class Models:
    """A source that a test fills."""

    def __init__(self) -> None:
        self.waiting: queue.SimpleQueue[Model] = queue.SimpleQueue()
        self.closed = 0

    def newer(self) -> Model | None:
        return None if self.waiting.empty() else self.waiting.get()

    def close(self) -> None:
        self.closed += 1


def model(
    version: int, game: str = "catch", load: Callable[[Session], None] | None = None
) -> Model:
    def fitting(session: Session) -> None:
        network = make_network(num_actions(game), "small", seed=version)
        session.load_tensors(network.state_dict())

    return Model(game, "small", 0.0, load or fitting, {"version": version})


class Rig:
    def __init__(self) -> None:
        self.models = Models()
        self.shown: queue.SimpleQueue[Shown] = queue.SimpleQueue()
        self.player = Player(self.models, self.shown.put, seed=1)

    def header(self) -> dict[str, Any]:
        return dict(self.shown.get(timeout=DEADLINE_S).header)

    def ended(self) -> None:
        """Waits for the end of the thread, which a failure brings."""
        thread = self.player._thread
        if thread is not None:
            thread.join(DEADLINE_S)
        assert self.player._thread is None

    def until(self, **values: object) -> dict[str, Any]:
        """Returns the first header with these values."""
        while True:
            header = self.header()
            if all(header[name] == value for name, value in values.items()):
                return header


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(player, "LINGER_S", 0.2)
    rig = Rig()
    yield rig
    rig.player.close()


def test_a_game_is_played_and_begins_again(rig: Rig) -> None:
    rig.models.waiting.put(model(1))
    rig.player.look(1)
    first = rig.header()
    assert (first["game"], first["version"]) == (1, 1)
    assert sum(first["probabilities"]) == pytest.approx(1, abs=1e-3)
    assert len(first["actions"]) == 3
    assert rig.until(over=True)["score"] in (-1, 1)
    second = rig.header()
    assert (second["game"], second["score"]) == (2, 0)


def test_newer_weights_go_on_with_the_same_game(rig: Rig) -> None:
    rig.models.waiting.put(model(1))
    rig.player.look(1)
    game = rig.header()["game"]
    rig.models.waiting.put(model(2))
    assert rig.until(version=2)["game"] <= game + 1
    rig.models.waiting.put(model(3, game="pong"))
    assert len(rig.until(version=3)["actions"]) == 6


def test_a_game_of_another_package_is_shown(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in install(MY_GAME, tmp_path)["PYTHONPATH"].split(os.pathsep)[:2]:
        monkeypatch.syspath_prepend(folder)
    rig.models.waiting.put(model(1, game="dodge"))
    rig.player.look(1)
    header = rig.header()
    assert (header["size"], header["pictures"], len(header["actions"])) == ([84, 84], 4, 3)
    assert rig.until(over=True)["game"] == 1


def test_weights_that_do_not_fit_are_passed_over(rig: Rig) -> None:
    def of_another_network(session: Session) -> None:
        raise ModelMismatchError("of another network")

    rig.models.waiting.put(model(1))
    rig.player.look(1)
    rig.header()
    rig.models.waiting.put(model(2, load=of_another_network))
    while rig.player.trouble is None:  # each step is one look at the source
        assert rig.header()["version"] == 1
    assert "of another network" in rig.player.trouble
    rig.models.waiting.put(model(3))
    assert rig.until(version=3)
    assert rig.player.trouble is None


def test_what_is_no_weights_is_said(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_another_release() -> Model | None:
        raise DecodeError("protocol_version", "version 99")

    rig.models.waiting.put(model(1))
    rig.player.look(1)
    rig.header()
    monkeypatch.setattr(rig.models, "newer", of_another_release)
    while rig.player.trouble is None:
        rig.header()
    assert "version 99" in rig.player.trouble


def test_a_game_that_cannot_be_made_is_said_until_it_can(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_a_display(game: str, **_: object) -> ShownGame:
        raise ValueError("no display")

    with monkeypatch.context() as broken:
        broken.setattr(player, "make_shown_game", without_a_display)
        rig.models.waiting.put(model(1))
        rig.player.look(1)
        rig.ended()
    assert rig.player.trouble is not None
    assert "the game ended" in rig.player.trouble
    assert "ValueError: no display" in rig.player.trouble
    rig.models.waiting.put(model(2))
    rig.player.look(1)
    assert rig.until(version=2)
    assert rig.player.trouble is None


def test_nothing_is_played_while_nobody_looks(rig: Rig) -> None:
    rig.models.waiting.put(model(1))
    assert rig.player._thread is None
    rig.player.look(1)
    rig.header()
    thread = rig.player._thread
    assert thread is not None
    rig.player.look(0)
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert rig.models.closed == 1
    rig.models.waiting.put(model(2))
    rig.player.look(1)
    assert rig.until(version=2)


def test_what_it_looks_at_is_shown_on_request(rig: Rig) -> None:
    rig.models.waiting.put(model(1))
    rig.player.look(1)
    assert rig.header()["looked_at"] == 0
    rig.player.looks_at_network = True
    assert rig.until(looked_at=21)


def test_a_failure_is_tried_again_by_the_next_viewer(rig: Rig) -> None:
    def failing(session: Session) -> None:
        raise RuntimeError("unforeseen")

    rig.models.waiting.put(model(1, load=failing))
    rig.player.look(1)
    rig.ended()
    rig.models.waiting.put(model(2))
    rig.player.look(2)
    assert rig.until(version=2)
