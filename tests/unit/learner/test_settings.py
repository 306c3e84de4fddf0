"""The learner's settings, and the assignments made from them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

import builders
from asyncade_learner.settings import OF_THE_SITTING, LearnerSettings
from asyncade_learner.stored import changed, with_stored
from asyncade_proto.codec import decode, encode
from asyncade_proto.limits import MAX_ENVIRONMENTS
from asyncade_proto.messages import REQUESTS, Request
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.settings import SettingsError, load

README = Path(__file__).parents[3] / "services" / "learner" / "README.md"


@pytest.mark.parametrize(
    ("actors", "games", "steps"),
    [(0, 8, 64), (1, 8, 64), (4, 2, 64), (100, 1, 32)],
)
def test_actors_share_the_play_of_a_batch(actors: int, games: int, steps: int) -> None:
    settings = LearnerSettings(batch_samples=512)
    assignment = settings.assignment("gradients", 1.0, actors)
    assert (assignment.games, assignment.unroll_length) == (games, steps)
    assert assignment.objective.minibatch_size == 128


def test_no_more_games_are_assigned_than_the_wire_takes() -> None:
    assignment = LearnerSettings(batch_samples=2**20).assignment("trajectories", 1.0)
    assert assignment.games == MAX_ENVIRONMENTS


@pytest.mark.parametrize("request_", REQUESTS)
def test_the_assignment_has_all_settings_of_actors(request_: Request) -> None:
    settings = LearnerSettings(
        game="breakout",
        network="nature",
        repeat_action_probability=0.25,
        seed=7,
        unroll_length=20,
        messages_in_flight=3,
        clip=None,
        discount=0.98,
        gae_lambda=0.9,
        rho_clip=1.5,
        passes=2,
        minibatch_size=64,
        value_cost=0.25,
        normalise_advantages=False,
        vtrace=False,
        entropy_cost=0.04,
    )
    assignment = settings.assignment(request_, remaining=0.5)
    assert (assignment.request, assignment.game, assignment.network) == (
        request_,
        "breakout",
        "nature",
    )
    assert (assignment.repeat_action_probability, assignment.seed) == (0.25, 7)
    assert (assignment.unroll_length, assignment.messages_in_flight) == (20, 3)
    objective = assignment.objective
    assert (objective.discount, objective.lambda_, objective.rho_clip) == (0.98, 0.9, 1.5)
    assert (objective.clip, objective.passes, objective.minibatch_size) == (None, 2, 64)
    assert objective.entropy_cost == pytest.approx(0.02)
    assert (objective.value_cost, objective.normalise_advantages) == (0.25, False)
    assert not objective.vtrace


def test_an_unknown_game_names_the_nearest() -> None:
    with pytest.raises(SettingsError) as error:
        load(LearnerSettings, ["--game=pnog"], {})
    assert str(error.value).startswith("--game ")
    assert "did you mean pong" in str(error.value)


def test_an_unknown_network_names_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"--network .*'small'.*'nature'"):
        load(LearnerSettings, [], {"ASYNCADE_LEARNER_NETWORK": "resnet"})


@pytest.mark.parametrize(
    "arguments",
    [
        ["--mode=both"],
        ["--discount=1.1"],
        ["--learning-rate=0"],
        ["--unroll-length=0"],
        ["--unroll-length=1025"],  # the wire's limit
        ["--messages-in-flight=0"],
        ["--passes=0"],
        ["--repeat-action-probability=1"],
        ["--max-env-steps=0"],
        ["--metrics-port=65536"],
        ["--resume=yes"],
        ["--batch-samples=0"],
        ["--quorum=0"],
        ["--quorum=1.1"],
    ],
)
def test_invalid_values_are_refused_by_name(arguments: list[str]) -> None:
    flag = arguments[0].partition("=")[0]
    with pytest.raises(SettingsError, match=f"^{flag} "):
        load(LearnerSettings, arguments, {})


@pytest.mark.parametrize(
    "name",
    [
        *("entropy_cost", "value_cost", "rho_clip", "clip"),
        *("learning_rate", "max_gradient_norm", "adam_epsilon"),
    ],
)
def test_numbers_are_within_the_range_of_the_wire(name: str) -> None:
    """Actors refuse all weights beyond it."""
    largest = LearnerSettings(**{name: 1e6}).assignment("gradients", 1.0)
    weights = builders.weights(objective=dataclasses.asdict(largest.objective))
    assert decode(encode(weights)) == weights
    for beyond in ("1.1e6", "inf"):
        with pytest.raises(SettingsError, match=name.upper()):
            load(LearnerSettings, [], {f"ASYNCADE_LEARNER_{name.upper()}": beyond})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, []),
        ({"learning_rate": 0.03, "entropy_cost": 0.5}, []),  # experiments
        ({"learning_rate": 1000}, ["--learning-rate is 1000, the default 0.001"]),
        ({"value_cost": 1e6}, ["--value-cost is 1e+06, the default 0.5"]),
    ],
)
def test_settings_far_beyond_their_defaults_are_said(
    settings: dict[str, Any], named: list[str]
) -> None:
    assert LearnerSettings(**settings).far_beyond_defaults() == named


# --- what holds on resume ------------------------------------------------------------------------


def test_the_document_lists_what_is_kept_on_resume_and_what_is_not() -> None:
    """A new setting is kept unless it is named among the others."""
    rows = re.findall(r"^\| (kept|of the sitting).*\| (.+) \|$", README.read_text(), re.MULTILINE)
    listed = {
        kind: {flag.strip("-").replace("-", "_") for flag in re.findall(r"`(.+?)`", flags)}
        for kind, flags in rows
    }
    assert listed["of the sitting"] == OF_THE_SITTING
    assert listed["kept"] == LearnerSettings.model_fields.keys() - OF_THE_SITTING
    assert LearnerSettings.model_fields.keys() > OF_THE_SITTING
    for name in ("learning_rate", "discount", "game", "network", "repeat_action_probability"):
        assert name in listed["kept"]
    for name in ("upstream_address", "keys", "torch_threads", "log_level", "max_minutes", "device"):
        assert name in listed["of the sitting"]


def stored_run(root: Path, **settings: Any) -> RunFolder:
    folder = RunFolder.create(root)
    folder.write_config("learner", LearnerSettings(**settings).model_dump(mode="json"))
    folder.checkpoint_file(1).touch()
    return folder


def given(root: Path, *arguments: str, **environ: str) -> LearnerSettings:
    return load(LearnerSettings, [f"--run-dir={root}", *arguments], environ)


def test_a_resumed_learner_keeps_its_settings(tmp_path: Path) -> None:
    stored_run(tmp_path, network="nature", clip=None, learning_rate=0.5, metrics_port=1, target=3)
    settings = given(tmp_path, "--learning-rate=0.25", ASYNCADE_LEARNER_TARGET="null")
    resumed = with_stored(settings)
    assert (resumed.network, resumed.clip, resumed.learning_rate) == ("nature", None, 0.25)
    assert (resumed.target, resumed.metrics_port) == (None, settings.metrics_port)
    assert changed(resumed) == {"learning_rate": "0.5 -> 0.25", "target": "3.0 -> None"}


@pytest.mark.parametrize("case", ["no config", "no checkpoint", "never"])
def test_without_a_run_to_resume_the_defaults_hold(tmp_path: Path, case: str) -> None:
    folder = stored_run(tmp_path, network="nature")
    if case == "no config":
        (tmp_path / "config.json").unlink()
    if case == "no checkpoint":
        folder.checkpoint_file(1).rename(folder.checkpoints / "mine.safetensors")
    settings = given(tmp_path, *["--resume=never"] * (case == "never"))
    assert with_stored(settings) == settings
    assert changed(settings) == {}


def test_a_stored_setting_that_is_wrong_is_named(tmp_path: Path) -> None:
    folder = stored_run(tmp_path)
    folder.write_config("learner", {"discount": 2})
    with pytest.raises(SettingsError, match="stored --discount"):
        with_stored(given(tmp_path))
    assert with_stored(given(tmp_path, "--discount=0.9")).discount == 0.9
