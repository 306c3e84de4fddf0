"""The actor's loop, step by step: weights, credit, sending, metrics, endings."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from asyncade_actor import actor as actor_module
from asyncade_proto.errors import TooLargeError
from asyncade_proto.messages import Trajectory
from asyncade_rl.batch import stack_frames
from asyncade_rl.envs.catch import CELLS
from asyncade_rl.losses import action_log_probs
from asyncade_rl.network import make_network
from asyncade_rl.objective import minibatches_per_pass
from asyncade_rl.params import fingerprint
from asyncade_runtime.transport.roles import ConnectionEvent
from builders import ASSIGNMENT, OBJECTIVE
from rigs.actor import ME, E, Rig, follows, sequences

T = ASSIGNMENT.unroll_length


# --- weights and credit --------------------------------------------------------------------------


def test_without_weights_it_is_alive_but_not_ready(rig: Rig) -> None:
    rig.clock.now += 100.0
    assert rig.steps() == []
    assert not rig.health.ready
    assert "weights" in rig.health.waiting_for
    assert rig.health.alive()
    assert rig.arcade.made == []  # the game is not known yet


def test_the_actor_waits_for_weights_or_credit(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting too little, the loop would spin; too much, it would delay its messages."""
    waits: list[float] = []
    latest = rig.subscriber.latest
    monkeypatch.setattr(rig.subscriber, "latest", lambda s: waits.append(s) or latest(0.0))
    monkeypatch.setattr(actor_module, "WAIT_S", 7.0)
    rig.steps(1)
    rig.publish(1)
    rig.steps(4)
    unroll = [0.0] * T  # newer weights are taken before each step
    # No weights, no weights, credit for one more message, no credit.
    assert waits == [7.0, 7.0, *unroll, 0.0, *unroll, 7.0, 7.0]


def test_the_actor_plays_with_the_received_weights(rig: Rig) -> None:
    rig.publish(7)
    message, _ = rig.steps()
    assert rig.health.ready
    assert isinstance(message, Trajectory)
    assert (message.actor_id, message.sequence, message.policy_version) == (ME, 0, 7)
    assert message.model == fingerprint(rig.network)
    assert message.actions.shape == (T, E)
    stacks = torch.from_numpy(stack_frames(message.frames, message.ends)[:-1]).flatten(0, 1)
    with torch.no_grad():
        logits, _ = rig.network(stacks)
    log_probs = action_log_probs(logits, torch.from_numpy(message.actions.flatten()).long())
    np.testing.assert_allclose(message.behaviour_log_probs.flatten(), log_probs, rtol=1e-4)


def test_newer_weights_choose_the_remaining_steps_of_an_unroll(rig: Rig) -> None:
    """Log-probabilities are of the weights that chose; the header names the oldest version."""
    newer = make_network(3, "small", seed=1)
    with torch.no_grad():
        newer.policy.weight.mul_(100)  # so that the two differ by more than rounding
    after = 2
    rig.arcade.before_step[after] = lambda: rig.publish(8, network=newer)
    rig.publish(7)
    message, _ = rig.steps()
    assert isinstance(message, Trajectory)
    assert message.policy_version == 7
    stacks = torch.from_numpy(stack_frames(message.frames, message.ends)[:-1])
    with torch.no_grad():
        rows = [(rig.network if t <= after else newer)(stacks[t])[0] for t in range(T)]
    actions = torch.from_numpy(message.actions.astype(np.int64))
    log_probs = action_log_probs(torch.stack(rows), actions)
    # The rig compares with weights that were not rounded for publication.
    np.testing.assert_allclose(message.behaviour_log_probs, log_probs, rtol=1e-3)
    assert rig.metric("policy_version") == 8


def test_a_new_assignment_waits_for_the_end_of_the_unroll(rig: Rig) -> None:
    other = replace(ASSIGNMENT, repeat_action_probability=0.25)
    rig.arcade.before_step[1] = lambda: rig.publish(8, assignment=other)
    rig.publish(7)
    first, second, *_ = rig.steps()
    assert [len(m.actions) for m in (first, second) if isinstance(m, Trajectory)] == [T, T]
    assert (first.policy_version, second.policy_version) == (7, 8)
    assert rig.arcade.closed() == [True, False]


def test_the_age_of_weights_is_observed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not time.time itself, which other threads read too.
    monkeypatch.setattr("asyncade_runtime.metrics.time", SimpleNamespace(time=lambda: 1000.04))
    rig.publish(1, published_at=1000.0)
    rig.publish(2)  # without a time
    rig.steps(1)
    assert rig.metric("weights_latency_seconds_count") == 0
    rig.publish(3, published_at=1000.0)
    rig.steps(1)
    assert rig.metric("weights_latency_seconds_bucket", le="0.05") == 1
    assert rig.metric("weights_latency_seconds_bucket", le="0.03") == 0


def test_only_the_newest_weights_are_used(rig: Rig) -> None:
    rig.publish(1)
    rig.publish(2)
    assert [message.policy_version for message in rig.steps()] == [2, 2]


def test_messages_in_flight_are_limited(rig: Rig) -> None:
    rig.publish(1)
    assert sequences(rig.steps()) == [0, 1]
    rig.publish(2, {ME: 0})
    assert sequences(rig.steps()) == []
    rig.publish(3, {ME: 1})
    assert sequences(rig.steps()) == [2]
    rig.publish(4, {ME: 3})
    assert sequences(rig.steps()) == [3, 4]


@pytest.mark.parametrize(
    "received", [{}, {"another": 7}, {ME: 2}, {ME: 1000}], ids=["{}", "other", "all", "more"]
)
def test_with_nothing_in_flight_credit_is_full(rig: Rig, received: dict[str, int]) -> None:
    """Also if it is not named; a count above its own belongs to a dead actor of its name."""
    rig.publish(1)
    rig.steps()
    rig.publish(2, received)
    assert sequences(rig.steps()) == [2, 3]


def test_an_actor_whose_id_another_one_uses_says_so_once(rig: Rig) -> None:
    rig.actor._log = log = Mock()
    sent = 0
    for version in range(1, 24):
        rig.publish(version, {ME: 1000})
        sent += len(rig.steps())
        assert log.warning.called == (sent > 32), sent
    (call,) = log.warning.call_args_list
    assert "--actor-id" in call.kwargs["cure"]


def test_repeated_weights_give_no_credit(rig: Rig) -> None:
    rig.publish(5)
    rig.steps()
    for version in (5, 4):
        rig.publish(version)
        assert rig.steps() == []
    assert rig.metric("weights_received_total") == 1
    assert rig.metric("policy_version") == 5


def test_a_new_run_may_begin_at_a_lower_version(rig: Rig) -> None:
    rig.publish(5, run=1)
    rig.steps()
    network = make_network(3, "small", seed=1)
    rig.publish(2, run=2, network=network)
    assert [(m.sequence, m.policy_version) for m in rig.steps()] == [(2, 2), (3, 2)]
    assert len(rig.arcade.made) == 1
    rig.publish(2, run=2)
    assert rig.steps() == []


@pytest.mark.parametrize("request_", ["trajectories", "gradients"])
def test_the_actor_can_be_suspended_before_every_env_step(rig: Rig, request_: Any) -> None:
    rig.publish(1, assignment=replace(ASSIGNMENT, request=request_))
    turn = rig.actor.advance()
    for played in range(T):
        next(turn)
        assert rig.arcade.made[0].steps == played
        assert rig.sent() == []
    assert list(turn) == []
    assert sequences(rig.sent()) == [0]
    assert rig.arcade.made[0].steps == T


def test_steps_start_from_the_version_in_the_header(rig: Rig) -> None:
    """Weights that arrive within the unroll wait for the next message."""
    assignment = replace(ASSIGNMENT, request="gradients")
    rig.arcade.before_step[1] = lambda: rig.publish(8, assignment=assignment)
    rig.publish(7, assignment=assignment)
    (message,) = rig.steps(1)
    assert message.policy_version == rig.metric("policy_version") == 7
    assert rig.steps(1)[0].policy_version == 8


# --- sending -------------------------------------------------------------------------------------


def test_an_unsent_message_is_kept_and_sent_later() -> None:
    rig = Rig(capacity=1)
    assignment = replace(ASSIGNMENT, messages_in_flight=5)
    rig.publish(1, assignment=assignment)
    rig.actor.step()
    for _ in range(3):  # no room: the second message waits, no third is made
        rig.actor.step()
    assert rig.metric("send_timeouts_total") == 3
    assert rig.metric("messages_sent_total", kind="trajectory") == 1
    assert rig.metric("env_steps_total") == 2 * T * E
    messages = [message for _ in range(10) for message in rig.steps(1)]
    assert sequences(messages) == [0, 1, 2, 3, 4]
    assert all(follows(*pair) for pair in itertools.pairwise(messages))


def test_an_unsent_message_is_sent_to_the_next_learner() -> None:
    rig = Rig(capacity=1)
    rig.publish(5, run=1)
    rig.inbox.close()
    rig.steps()
    assert rig.metric("messages_sent_total", kind="trajectory") is None
    rig.inbox = rig.queue.inbox()
    rig.publish(2, run=2)
    rig.actor.step()
    (kept,) = rig.sent()
    assert (kept.sequence, kept.policy_version) == (0, 5)
    messages = [message for _ in range(5) for message in rig.steps(1)]
    assert [(m.sequence, m.policy_version) for m in messages] == [(1, 2), (2, 2)]


# --- metrics and endings -------------------------------------------------------------------------


def test_play_and_sending_are_counted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncade_runtime.metrics.time.time", lambda: 1234.5)
    assignment = replace(ASSIGNMENT, unroll_length=CELLS - 1)
    rig.publish(3, assignment=assignment)
    frames = []
    send = rig.outbox.send
    monkeypatch.setattr(rig.outbox, "send", lambda f, timeout_s: frames.append(f) or send(f, 0))
    *_, last = rig.steps()
    expected = {
        "env_steps_total": 2 * (CELLS - 1) * E,
        "episodes_total": 2 * E,
        "episode_return_last": last.episodes.returns[-1],
        "sent_bytes_total": sum(len(frame) for frame in frames),
        "send_timeouts_total": 0,
        "weights_received_total": 1,
        "weights_last_received_timestamp_seconds": 1234.5,
        "policy_version": 3,
    }
    assert {name: rig.metric(name) for name in expected} == expected
    assert rig.metric("messages_sent_total", kind="trajectory") == 2


def test_every_stage_is_entered(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.publish(1, assignment=replace(ASSIGNMENT, request="gradients"))
    entered: list[str] = []
    monkeypatch.setattr(rig.metrics.stages, "enter", lambda stage, _amount=1: entered.append(stage))
    rig.steps(1)
    assert entered == [
        "wait",
        "weights",
        *["inference", "environment"] * T,
        "prepare",
        *["gradient"] * OBJECTIVE.passes * minibatches_per_pass(E * T, OBJECTIVE),
        "encode",
        "send",
    ]


def test_connection_events_are_counted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [ConnectionEvent("retried", "tcp://x:1"), ConnectionEvent("connected", "tcp://x:1")]
    monkeypatch.setattr(rig.outbox, "events", lambda: events)
    monkeypatch.setattr(rig.subscriber, "events", lambda: events[:1])
    rig.steps(2)
    counted = {
        (socket, event): rig.metric("connection_events_total", socket=socket, event=event)
        for socket in ("upstream", "weights")
        for event in ("retried", "connected")
    }
    assert counted == {
        ("upstream", "retried"): 2,
        ("upstream", "connected"): 2,
        ("weights", "retried"): 2,
        ("weights", "connected"): None,
    }


def test_run_sends_the_current_message_and_stops(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    send = rig.outbox.send

    def send_and_stop(frame: bytes, timeout_s: float) -> bool:
        stop.set()
        return send(frame, timeout_s)

    monkeypatch.setattr(rig.outbox, "send", send_and_stop)
    rig.publish(1)
    rig.actor.run(stop)
    assert sequences(rig.sent()) == [0]
    rig.actor.run(stop)
    assert rig.sent() == []


@pytest.mark.parametrize("request_", ["trajectories", "gradients"])
def test_a_stop_within_an_unroll_abandons_it(rig: Rig, request_: Any) -> None:
    stop = threading.Event()
    rig.arcade.before_step[1] = stop.set
    rig.publish(1, assignment=replace(ASSIGNMENT, request=request_))
    rig.actor.run(stop)
    assert rig.arcade.made[0].steps == 2  # the env step in progress is the last one
    assert rig.sent() == []
    assert rig.metric("env_steps_total") == 0


def test_closing_closes_the_environments(rig: Rig) -> None:
    rig.actor.close()  # none yet
    rig.publish(1)
    rig.steps()
    rig.actor.close()
    assert rig.arcade.closed() == [True]


def test_an_unroll_that_no_message_can_hold_ends_the_actor() -> None:
    """Retrying would never succeed."""
    rig = Rig(envs=600)
    large = replace(ASSIGNMENT, unroll_length=64)
    rig.publish(1, assignment=large)
    with pytest.raises(TooLargeError, match="557 environments"):
        rig.actor.step()
    assert rig.arcade.made == []
    rig = Rig(envs=600)
    rig.publish(1, assignment=replace(large, request="gradients"))
    rig.actor.advance().send(None)


@pytest.mark.parametrize("fields", [{"games": 500}, {"unroll_lengths": {ME: 32}}])
def test_only_what_it_will_play_must_fit_a_message(fields: dict[str, Any]) -> None:
    rig = Rig(envs=600)
    rig.publish(1, **{"unroll_length": 64} | fields)
    rig.actor.advance().send(None)
