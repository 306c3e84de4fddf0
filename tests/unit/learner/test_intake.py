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
from asyncade_runtime.entrance import Entrance
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.transport.roles import Peer

HERE = Peer("10.0.0.1")

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
        self.log, self.now = Mock(), 1.0
        metrics = LearnerMetrics(self.registry)
        telemetry = Telemetry(metrics, self.progress, run_log, None, self.log)
        self.entrance = Entrance(8, metrics.shut_out, self.log)
        claims = Claims(Asked(games=2, env_steps=10))
        self.intake = Intake(self.entrance, RULES, claims, self.roster, telemetry)
        self.problem: Dropped | None = None

    def admit(
        self, content: Upstream | DecodeError, peer: Peer = HERE, actor_id: str | None = None
    ) -> Upstream | None:
        claimed = actor_id if isinstance(content, DecodeError) else content.actor_id
        received = Received(100, content, peer, claimed)
        return self.intake.admit(
            received,
            policy_version=NOW,
            lag_of=lag_of,
            request="gradients",
            problem_of=lambda message: self.problem,
            now=self.now,
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


# --- identity and conduct ------------------------------------------------------------------------

THERE = Peer("10.0.0.2")


def test_a_message_under_an_id_of_another_peer_touches_nothing_of_its_owner(tmp_path: Path) -> None:
    admission = Admission(tmp_path)
    admission.admit(gradients(sequence=0, env_steps=5))
    before = admission.roster.credit(), admission.progress.env_steps, admission.progress.episodes
    for sequence in (1, 2**53 - 1):
        claim = gradients(sequence=sequence, env_steps=7, episodes=builders.episodes(21.0))
        assert admission.admit(claim, THERE) is None
    after = admission.roster.credit(), admission.progress.env_steps, admission.progress.episodes
    assert after == before
    assert not admission.roster.owes_credit
    assert admission.metric("messages_dropped_total", reason="identity") == 2
    (call,) = admission.log.warning.call_args_list  # once, with the id and both addresses
    assert {"a", HERE.address, THERE.address} < set(call.kwargs["detail"].replace(",", "").split())
    assert admission.admit(gradients(sequence=1)) is not None
    assert admission.metric("messages_lost_total") == 0


def test_a_message_sent_twice_is_counted_once(tmp_path: Path) -> None:
    admission = Admission(tmp_path)
    one = gradients(sequence=3, env_steps=5, episodes=builders.episodes(1.0))
    assert admission.admit(one) == one
    for again in (one, replace(one, policy_version=0), replace(one, policy_version=2**53)):
        assert admission.admit(again) is None
    assert (admission.progress.env_steps, admission.progress.episodes) == (5, 1)
    assert admission.metric("messages_dropped_total", reason="replay") == 3


@pytest.mark.parametrize("reason", ["future", "sequence"])
def test_a_number_from_the_future_spoils_neither_credit_nor_counts(
    tmp_path: Path, reason: str
) -> None:
    admission = Admission(tmp_path)
    admission.admit(gradients(sequence=0))
    odd = {"policy_version": 2**53} if reason == "future" else {"sequence": 2**53 - 1}
    assert admission.admit(gradients(**{"sequence": 1} | odd)) is None
    assert admission.metric("messages_dropped_total", reason=reason) == 1
    assert admission.admit(gradients(sequence=2)) is not None
    assert admission.roster.credit() == {"a": 3}
    assert admission.metric("messages_lost_total") == (reason == "sequence")


def test_a_hundred_ids_from_one_peer_cost_the_others_nothing(tmp_path: Path) -> None:
    admission = Admission(tmp_path)  # eight ids per peer
    admission.admit(gradients(actor_id="honest"), THERE)
    for number in range(100):
        admission.admit(gradients(actor_id=f"fake-{number}", env_steps=1))
    assert admission.metric("messages_dropped_total", reason="crowded") == 92
    assert len(admission.roster.credit()) == len(admission.roster) == 9
    assert admission.admit(gradients(actor_id="honest", sequence=1), THERE) is not None
    rows = admission.intake.telemetry._senders.report(0.0, late=[])["actors"]
    assert len(rows) == 9
    (call,) = admission.log.warning.call_args_list
    assert "--actors-per-peer" in call.kwargs["detail"]


def test_whoever_goes_on_offending_is_shut_out_named_and_counted(tmp_path: Path) -> None:
    admission = Admission(tmp_path)
    for sequence in range(40):
        admission.admit(gradients({"other": (1,)}, actor_id="bad", sequence=sequence))
        assert admission.admit(gradients(sequence=sequence)) is not None  # of the same peer
        assert admission.admit(gradients(actor_id="c", sequence=sequence), THERE) is not None
    assert admission.metric("shut_out", who="actor") == 1
    assert admission.metric("shut_out", who="peer") == 0
    assert admission.metric("messages_dropped_total", reason="shut_out") == 40 - 17
    (call,) = admission.log.warning.call_args_list
    assert (call.kwargs["actor_id"], call.kwargs["peer"]) == ("bad", str(HERE))
    for _ in range(17):
        admission.admit(DecodeError("not_ours", "junk"), THERE)
    assert admission.entrance.shut_out(THERE)
    assert admission.metric("shut_out", who="peer") == 1


def test_an_undecodable_frame_that_names_its_sender_is_that_ids_offence(tmp_path: Path) -> None:
    """Behind a relay one peer forwards for many, and decodes no trajectories."""
    admission = Admission(tmp_path)
    for _ in range(17):
        admission.admit(DecodeError("malformed", "cut off"), actor_id="bad")
    assert admission.metric("shut_out", who="actor") == 1
    assert not admission.entrance.shut_out(HERE)
