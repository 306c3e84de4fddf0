"""What a learner is told, and what it tells its actors of it."""

from __future__ import annotations

from typing import Any

import pytest

from asyncade_learner.progress import Milestone, Progress
from asyncade_learner.settings import LearnerSettings
from asyncade_proto.messages import REQUESTS, Request
from asyncade_runtime.settings import SettingsError, load

ANNEALED = {"learning_rate": 1e-3, "entropy_cost": 0.02, "anneal_env_steps": 1000, "anneal_to": 0.1}


@pytest.mark.parametrize(
    ("env_steps", "fraction"),
    [(0, 1.0), (250, 0.75), (500, 0.5), (900, 0.1), (1000, 0.1), (10**9, 0.1)],
)
def test_step_size_and_entropy_cost_fall_linearly_and_stay(env_steps: int, fraction: float) -> None:
    settings = LearnerSettings(**ANNEALED)
    remaining = settings.remaining(Progress(env_steps))
    assert settings.learning_rate_at(remaining) == pytest.approx(1e-3 * fraction)
    assert settings.objective_at(remaining).entropy_cost == pytest.approx(0.02 * fraction)


@pytest.mark.parametrize(
    ("changes", "samples", "rate"),
    [
        ({}, 128, 1e-3),
        ({"mode": "gradients"}, 256, 2**0.5 * 1e-3),
        ({"minibatch_size": 512}, 512, 2e-3),
        ({"mode": "gradients", "minibatch_size": 32}, 32, 0.5e-3),
    ],
)
def test_the_step_size_grows_with_the_root_of_an_updates_samples(
    changes: dict[str, Any], samples: int, rate: float
) -> None:
    settings = LearnerSettings(**{"learning_rate": 1e-3} | changes)
    assert settings.samples_per_update() == samples
    assert settings.learning_rate_at(1.0) == pytest.approx(rate)


def test_an_anneal_to_one_is_constant() -> None:
    settings = LearnerSettings(**ANNEALED | {"anneal_to": 1.0})
    assert settings.remaining(Progress(10**6)) == 1.0


@pytest.mark.parametrize(
    ("env_steps", "fraction", "complete"),
    [(500, 0.5, False), (550, 0.45 / 2, False), (600, 0.0, True), (9999, 0.0, True)],
)
def test_after_the_target_step_size_and_entropy_cost_fall_to_nothing(
    env_steps: int, fraction: float, complete: bool
) -> None:
    settings = LearnerSettings(**ANNEALED, target=18.0, cooldown=0.2)
    progress = Progress(env_steps, milestone=Milestone(18.0, env_steps=500, seconds=9.0))
    assert settings.remaining(progress) == pytest.approx(fraction)
    assert settings.complete(progress) is complete


@pytest.mark.parametrize("target", [None, 20.0])
def test_the_milestone_of_another_target_changes_nothing(target: float | None) -> None:
    settings = LearnerSettings(**ANNEALED, target=target)
    progress = Progress(700, milestone=Milestone(18.0, env_steps=500, seconds=9.0))
    assert settings.remaining(progress) == pytest.approx(0.3)
    assert not settings.complete(progress)


def test_without_a_cooldown_a_run_is_complete_at_the_target() -> None:
    settings = LearnerSettings(**ANNEALED, target=18.0, cooldown=0)
    assert settings.complete(Progress(500, milestone=Milestone(18.0, 500, 9.0)))


@pytest.mark.parametrize(
    ("changes", "actors", "size"),
    [
        ({"mode": "gradients"}, 0, 128),
        ({"mode": "gradients"}, 1, 128),
        ({"mode": "gradients"}, 2, 64),
        ({"mode": "gradients"}, 100, 32),  # a smaller one is not worth its bytes
        ({"mode": "gradients", "minibatch_size": 16}, 2, 16),
        ({"mode": "gradients", "gradients_per_update": 2}, 100, 64),
        ({"mode": "data"}, 100, 128),
    ],
)
def test_actors_share_the_samples_of_an_update(
    changes: dict[str, Any], actors: int, size: int
) -> None:
    settings = LearnerSettings(**{"minibatch_size": 128} | changes)
    assert settings.assignment("gradients", 1.0, actors).objective.minibatch_size == size


@pytest.mark.parametrize("request_", REQUESTS)
def test_the_assignment_says_all_that_an_actor_must_know(request_: Request) -> None:
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
        **ANNEALED | {"entropy_cost": 0.04},
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
    assert str(error.value).startswith("--game (ASYNCADE_LEARNER_GAME) cannot be 'pnog': ")
    assert "did you mean pong" in str(error.value)


def test_an_unknown_network_names_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"--network .* choose one of small, nature"):
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
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(arguments: list[str]) -> None:
    flag = arguments[0].partition("=")[0]
    with pytest.raises(SettingsError, match=f"^{flag} "):
        load(LearnerSettings, arguments, {})


def test_a_flag_beats_the_environment_which_beats_the_default() -> None:
    environ = {"ASYNCADE_LEARNER_PASSES": "7", "ASYNCADE_LEARNER_CLIP": "null"}
    settings = load(LearnerSettings, ["--passes=2"], environ)
    assert (settings.passes, settings.clip) == (2, None)
    assert load(LearnerSettings, [], environ).passes == 7
