"""The learner's rules for accepting messages, and what admission counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

import builders
from asyncade_learner.intake import Intake, Rules
from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.progress import Progress
from asyncade_learner.receiving import Received
from asyncade_learner.run_log import RunLog
from asyncade_learner.telemetry import Telemetry
from asyncade_proto.errors import DecodeError
from asyncade_proto.messages import Gradients, Request, Trajectory, Upstream
from asyncade_runtime.admission import Accepted, Dropped, Roster
from asyncade_runtime.claims import Asked, Claims
from asyncade_runtime.run_folder import RunFolder

T, SIDE, ACTIONS = 3, 8, 4
NOW = 10  # the learner's policy version
SHAPES = {"weight": (2, 3), "bias": (2,)}
RULES = Rules(
    model=builders.MODEL,
    parameter_shapes=SHAPES,
    num_actions=ACTIONS,
    frame_shape=(SIDE, SIDE),
    unroll_length=T,
    max_policy_lag=6,
)


def trajectory(steps: int = T, side: int = SIDE, action: int = 0, **fields: Any) -> Trajectory:
    actions = np.full((steps, 2), action, np.uint8)
    given = {"policy_version": NOW, "actions": actions} | fields
    return builders.trajectory(steps=steps, side=side, **given)


def gradients(shapes: dict[str, tuple[int, ...]] = SHAPES, **fields: Any) -> Gradients:
    return builders.gradients(shapes, **{"policy_version": NOW} | fields)


def judged(message: Upstream, request: Request | None = None) -> Accepted | Dropped:
    kind: Request = "trajectories" if isinstance(message, Trajectory) else "gradients"
    return RULES.judge(message, policy_version=NOW, lag_of=lag_of, request=request or kind)


def lag_of(version: int) -> int:
    """Three updates to a version."""
    return 3 * (NOW - version)


@pytest.mark.parametrize("lag", [0, 1, 2])
@pytest.mark.parametrize("make", [trajectory, gradients])
def test_fitting_messages_are_accepted_with_their_lag(make: Any, lag: int) -> None:
    assert judged(make(policy_version=NOW - lag)) == Accepted(policy_lag=3 * lag)


@pytest.mark.parametrize(
    ("message", "reason", "named"),
    [
        (trajectory(policy_version=NOW - 3), "stale", ""),
        (gradients(policy_version=NOW + 1), "future", ""),
        (trajectory(model="other"), "model", "other"),
        (trajectory(steps=T + 1), "shape", "4 steps"),
        (trajectory(side=SIDE + 1), "shape", "[9, 9]"),
        (gradients({"weight": (3, 2), "bias": (2,)}), "shape", "weight"),
        (gradients({"weight": (2, 3)}), "shape", "bias"),
        (gradients(SHAPES | {"more": (1,)}), "shape", "extra tensors"),
        (trajectory(action=ACTIONS), "action", "4"),
    ],
)
def test_other_messages_are_dropped_by_reason(message: Upstream, reason: str, named: str) -> None:
    outcome = judged(message)
    assert isinstance(outcome, Dropped)
    assert outcome.reason == reason
    assert named in outcome.detail


@pytest.mark.parametrize(
    ("message", "request_"), [(trajectory(), "gradients"), (gradients(), "trajectories")]
)
def test_a_kind_that_is_not_requested_is_dropped(message: Upstream, request_: Request) -> None:
    outcome = judged(message, request_)
    assert isinstance(outcome, Dropped)
    assert outcome.reason == "unasked"


def test_the_last_action_and_any_number_of_steps_and_environments_are_accepted() -> None:
    assert isinstance(judged(trajectory(action=ACTIONS - 1)), Accepted)
    assert isinstance(judged(trajectory(steps=1)), Accepted)
    one = trajectory()
    single = replace(one, frames=one.frames[:1], actions=one.actions[:, :1])
    assert isinstance(judged(single), Accepted)


# --- admission -----------------------------------------------------------------------------------


class Admission:
    """An intake for gradients, with the roster, progress and metrics that it updates."""

    def __init__(self, run_dir: Path) -> None:
        self.registry, self.progress, self.roster = CollectorRegistry(), Progress(), Roster()
        run_log = RunLog(RunFolder.create(run_dir), 0)
        self.log = Mock()
        telemetry = Telemetry(LearnerMetrics(self.registry), self.progress, run_log, None, self.log)
        claims = Claims(Asked(games=2, env_steps=10))
        self.intake = Intake(RULES, claims, self.roster, telemetry)
        self.problem: Dropped | None = None

    def admit(self, content: Upstream | DecodeError) -> Upstream | None:
        received = Received(100, content)
        return self.intake.admit(
            received,
            policy_version=NOW,
            lag_of=lag_of,
            request="gradients",
            problem_of=lambda message: self.problem,
            now=1.0,
        )

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"asyncade_learner_{name}", labels)


@pytest.mark.parametrize(
    ("fields", "credit", "env_steps", "used"),
    [
        ({}, {"a": 3}, 5, True),
        ({"policy_version": 0}, {"a": 3}, 5, False),  # stale, but played
        ({"model": "other"}, {}, 0, False),
    ],
)
def test_play_counts_and_gives_credit_unless_it_is_from_another_run(
    tmp_path: Path, fields: dict[str, Any], credit: dict[str, int], env_steps: int, used: bool
) -> None:
    admission = Admission(tmp_path)
    played = {"env_steps": 5, "points_won": 1.0, "episodes": builders.episodes(1.0)}
    message = gradients(sequence=2, **played, **fields)
    assert admission.admit(message) == (message if used else None)
    assert (admission.roster.credit(), admission.progress.env_steps) == (credit, env_steps)
    assert admission.progress.episodes == len(credit)
    assert admission.progress.received_bytes == admission.metric("received_bytes_total") == 100
    admission.roster.forget_absent()
    assert len(admission.roster) == used  # only used messages are part of the batch


def test_lost_messages_are_counted_whatever_the_outcome(tmp_path: Path) -> None:
    admission = Admission(tmp_path)
    for sequence, fields in [(0, {}), (2, {"policy_version": 0}), (4, {"model": "other"}), (6, {})]:
        admission.admit(gradients(sequence=sequence, **fields))
    assert admission.metric("messages_lost_total") == 3
    assert admission.metric("messages_accepted_total", kind="gradients") == 2


def test_two_actors_with_one_id_are_logged_once(tmp_path: Path) -> None:
    admission = Admission(tmp_path)
    for sequence in (0, 0, 1, 1, 2, 2, 3, 3, 4, 4):
        admission.admit(gradients(actor_id="twin", sequence=sequence))
    (call,) = admission.log.warning.call_args_list
    assert call.kwargs == {"actor_id": "twin"}


@pytest.mark.parametrize("reason", ["claim", "adverse"])
def test_of_who_is_not_believed_nothing_counts_but_it_may_go_on(
    tmp_path: Path, reason: str
) -> None:
    admission = Admission(tmp_path)
    played: dict[str, Any] = {"env_steps": 5, "points_won": 1.0, "episodes": builders.episodes(1.0)}
    if reason == "claim":
        played |= {"samples": 2**20, "env_steps": 2**20}
    else:
        admission.problem = Dropped("adverse", "points against the others")
    for sequence in range(3):
        assert admission.admit(gradients(sequence=sequence, **played)) is None
    progress = admission.progress
    assert (progress.env_steps, progress.episodes) == (0, 0)
    assert admission.metric("messages_dropped_total", reason=reason) == 3
    assert admission.roster.credit() == {}  # unnamed, it has full credit
    assert not admission.roster.owes_credit
    assert len(admission.roster) == 0  # nobody waits for it
    (call,) = admission.log.warning.call_args_list  # said once
    assert call.kwargs.items() >= {"actor_id": "a", "reason": reason}.items()


def test_a_mean_of_a_relay_is_dropped_with_the_name_of_the_setting(tmp_path: Path) -> None:
    admission = Admission(tmp_path)
    admission.admit(gradients(samples=200, env_steps=200))
    (call,) = admission.log.warning.call_args_list
    assert "--actors-behind-relay" in call.kwargs["detail"]


def test_play_of_another_run_is_on_no_account(tmp_path: Path) -> None:
    """Its sender gets no credit, and later messages are not compared with it."""
    admission = Admission(tmp_path)
    admission.admit(gradients(model="other", samples=2**20, env_steps=2**20))
    assert admission.metric("messages_dropped_total", reason="model") == 1
    assert admission.metric("messages_dropped_total", reason="claim") == 0


def test_undecodable_frames_are_counted_by_reason(tmp_path: Path) -> None:
    admission = Admission(tmp_path)
    assert admission.admit(DecodeError("malformed", "cut off")) is None
    assert admission.metric("messages_dropped_total", reason="malformed") == 1
    assert (admission.metric("received_bytes_total"), admission.progress.received_bytes) == (100, 0)
