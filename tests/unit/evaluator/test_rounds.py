"""What an evaluator's page says: its own rounds, and the learner's run where that is known."""

from __future__ import annotations

import pytest

from asyncade_evaluator.rounds import Rounds
from asyncade_evaluator.settings import EvaluatorSettings
from asyncade_runtime.http_reading import PageError
from asyncade_runtime.progress_page import ProgressPage
from asyncade_runtime.settings import SettingsError, load
from asyncade_watch import learner_progress
from asyncade_watch.learner_progress import LearnerProgress
from builders import Clock
from rigs.page import row

WEIGHTS = "tcp://learner:5556"


def test_without_a_learner_to_ask_it_shows_its_rounds() -> None:
    clock = Clock()
    rounds = Rounds(WEIGHTS, clock=clock)
    assert rounds.refresh()["status"] == "waiting for the first round"
    clock.now += 30
    rounds.add("catch", [1.0, 0.0])
    told = rounds.refresh()
    assert told["curve"] == {"seconds": [30.0], "mean_return_100": [0.5]}
    assert (told["game"], told["now"]["episodes"]) == ("catch", 2)
    assert "actors" not in told


def test_the_learners_run_takes_the_place_of_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    page = ProgressPage({"mode": "data", "game": "catch", "seed": 1})
    page.report(row(2), {"actors": [], "dropped": {}})
    monkeypatch.setattr(learner_progress, "read_page", lambda url: page.content())
    learner = LearnerProgress("http://learner:9101")
    rounds = Rounds(WEIGHTS, learner)
    rounds.add("catch", [12.5])
    rounds.refresh()
    learner.wait()
    told = rounds.refresh()
    assert told["curve"]["env_steps"] == [200]
    assert told["now"]["env_steps_per_second"] == 50.0
    assert (told["actors"], told["bottleneck"]["name"]) == ([], "actors")
    assert "12.5" in told["run"]


def test_the_rounds_stay_while_the_learner_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(url: str) -> bytes:
        raise PageError("refused")

    monkeypatch.setattr(learner_progress, "read_page", away)
    learner = LearnerProgress("http://learner:9101")
    rounds = Rounds(WEIGHTS, learner)
    rounds.add("catch", [1.0])
    rounds.refresh()
    learner.wait()
    told = rounds.refresh()
    assert told["curve"]["mean_return_100"] == [1.0]
    assert "refused" in told["troubles"][0]


@pytest.mark.parametrize("address", ["http://learner:9101", "http://[::1]:9101/", "null"])
def test_addresses_of_a_learners_pages(address: str) -> None:
    assert load(EvaluatorSettings, ["--learner-http", address], {})


@pytest.mark.parametrize(
    "address",
    [
        *("learner:9101", "tcp://learner:9101", "https://learner:9101", "http://learner"),
        *("http://learner:x", "http://[::1:9101", "http://:9101", "http://learner:9101/metrics"),
    ],
)
def test_what_is_no_address_of_them_is_refused_with_the_cure(address: str) -> None:
    with pytest.raises(SettingsError, match=r"--learner-http.*http://HOST:PORT"):
        load(EvaluatorSettings, ["--learner-http", address], {})
