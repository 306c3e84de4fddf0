"""What a live page without a run folder knows of the run: what the learner tells, or why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from asyncade_runtime.http_reading import PageError
from asyncade_runtime.lifecycle import Health, serve_http
from asyncade_runtime.progress_page import PATH, ProgressPage
from asyncade_watch import learner_progress
from asyncade_watch.learner_progress import SECONDS_BETWEEN_READINGS, LearnerProgress
from asyncade_watch.run_state import as_json
from builders import Clock
from rigs.page import row

ACTOR = {"id": "a", "env_steps_per_second": 5.0, "policy_lag": 1, "late": False}
SENDERS = {"actors": [{**ACTOR, "last_seen": 997.0}], "dropped": {"stale": 3}}


class Learner:
    """A learner's page, and the page that reads it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.its_clock, self.clock = Clock(1000.0), Clock()
        self.page = ProgressPage({"mode": "data", "game": "catch", "seed": 1}, self.its_clock)
        self.read = self.page.content
        self.asked: list[str] = []
        self.progress = LearnerProgress("http://learner:9101/", self.clock)
        monkeypatch.setattr(learner_progress, "read_page", self._answer)

    def _answer(self, url: str) -> bytes:
        self.asked.append(url)
        return self.read()

    def told(self) -> dict[str, Any]:
        """Returns what is known after two more seconds."""
        for clock in (self.clock, self.its_clock):
            clock.now += SECONDS_BETWEEN_READINGS
        self.progress.refresh()
        self.progress.wait()
        told = self.progress.refresh()
        return dict(json.loads(as_json(told)))


@pytest.fixture
def learner(monkeypatch: pytest.MonkeyPatch) -> Learner:
    return Learner(monkeypatch)


def test_it_tells_what_a_run_folder_would(learner: Learner) -> None:
    learner.page.continues(map(row, range(1, 10)))
    learner.page.report(row(10, target_env_steps=700, target_seconds=14.0), SENDERS)
    told = learner.told()
    assert (told["game"], told["mode"], told["status"]) == ("catch", "data", "training")
    assert (told["now"]["env_steps"], told["now"]["env_steps_per_second"]) == (1000, 50.0)
    assert told["curve"]["env_steps"] == [100 * number for number in range(1, 11)]
    assert (told["target"], told["reached"]) == (0.9, {"env_steps": 700, "seconds": 14.0})
    assert told["bottleneck"]["cure"] == "add actors"  # not: more cores
    assert [(one["id"], one["silent"]) for one in told["actors"]] == [("a", 5.0)]
    assert told["dropped"] == {"stale": 3}
    assert told["troubles"] == []


def test_it_asks_every_two_seconds_at_most_and_only_when_it_is_asked(learner: Learner) -> None:
    learner.told()
    learner.clock.now += SECONDS_BETWEEN_READINGS / 2
    learner.progress.refresh()
    learner.progress.wait()
    assert learner.asked == ["http://learner:9101/progress"]
    learner.told()
    assert len(learner.asked) == 2


def test_a_learner_without_a_report_yet_is_training(learner: Learner) -> None:
    told = learner.told()
    assert (told["game"], told["status"], told["now"]) == ("catch", "training", {})
    assert told["curve"]["env_steps"] == []


def test_a_learner_that_reports_no_more_is_silent(learner: Learner) -> None:
    learner.page.report(row(1), SENDERS)
    assert learner.told()["status"] == "training"
    learner.its_clock.now += 60
    assert learner.told()["status"] == "silent"


def test_the_last_that_was_read_stays_while_nothing_can_be(learner: Learner) -> None:
    def away() -> bytes:
        raise PageError("refused")

    learner.page.report(row(3), SENDERS)
    learner.told()
    learner.read = away
    told = learner.told()
    assert told["now"]["env_steps"] == 300
    (trouble,) = told["troubles"]
    assert "http://learner:9101/progress (refused)" in trouble
    learner.clock.now += 60
    assert learner.told()["status"] == "silent"
    learner.read = learner.page.content
    assert learner.told()["troubles"] == []


def test_as_long_as_nothing_could_be_read_nothing_is_claimed(learner: Learner) -> None:
    learner.read = lambda: b"<html>"
    assert learner.told().keys() == {"troubles"}


def changed(*path: str, to: object) -> Callable[[dict[str, Any]], None]:
    def change(told: dict[str, Any]) -> None:
        for name in path[:-1]:
            told = told[name]
        told[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (changed("game", to=["pong"]), "game"),
        (changed("game", to="x" * 10_000), "game"),
        (changed("time", to=None), "time"),
        (changed("row", "env_steps", to="many"), "row.env_steps"),
        (changed("row", "env_steps", to=10**400), "row.env_steps"),
        (changed("row", "seconds", to=float("nan")), "row.seconds"),
        (changed("row", "stage_shares", to={"wait": float("inf")}), "row.stage_shares.wait"),
        (changed("curve", "seconds", to=[]), "columns"),
        (changed("curve", "env_steps", to=[1] * 100_000), "curve.env_steps"),
        (changed("senders", "actors", to=[{}]), "senders.actors"),
        (changed("senders", "actors", to=[{**ACTOR, "last_seen": 0}] * 2000), "senders.actors"),
        (changed("senders", "dropped", to={"stale": -1}), "senders.dropped.stale"),
    ],
)
def test_malformed_figures_are_named_and_not_shown(
    learner: Learner, change: Callable[[dict[str, Any]], None], where: str
) -> None:
    learner.page.report(row(1), SENDERS)
    told = json.loads(learner.page.content())
    change(told)
    learner.read = json.dumps(told).encode
    assert where in learner.told()["troubles"][0]
    assert learner.told().keys() == {"troubles"}


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 500_000, b"[]", b"{}"])
def test_what_is_no_such_json_is_not_shown(learner: Learner, content: bytes) -> None:
    learner.read = lambda: content
    assert learner.told().keys() == {"troubles"}


def test_over_a_real_server() -> None:
    page = ProgressPage({"mode": "data", "game": "catch", "seed": 1})
    page.report(row(1), SENDERS)
    pages = {PATH: page.content}
    with serve_http("127.0.0.1", 0, CollectorRegistry(), Health(60), pages=pages) as server:
        progress = LearnerProgress(f"http://127.0.0.1:{server.port}")
        progress.refresh()
        progress.wait()
        assert progress.refresh()["now"]["env_steps"] == 100
