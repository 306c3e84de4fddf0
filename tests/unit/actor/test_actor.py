"""The actor's loop, one step at a time; the tests play the learner."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

import builders
from asyncade_actor import actor as actor_module
from asyncade_actor.actor import Actor
from asyncade_actor.metrics import ActorMetrics
from asyncade_proto.codec import decode, encode
from asyncade_proto.errors import TooLargeError
from asyncade_proto.messages import Assignment, Gradients, Trajectory, Upstream
from asyncade_rl.batch import stack_frames
from asyncade_rl.envs import make_environments
from asyncade_rl.envs.catch import CELLS, Catch
from asyncade_rl.losses import action_log_probs
from asyncade_rl.network import ActorCritic, make_network
from asyncade_rl.params import fingerprint, to_safetensors
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.transport.memory import MemoryBroadcast, MemoryQueue
from asyncade_runtime.transport.roles import ConnectionEvent
from builders import ASSIGNMENT

ME = "me"
E, T = 2, ASSIGNMENT.unroll_length


class Games(Catch):
    """Catch that counts its steps and runs callbacks before some of them."""

    closed = False
    steps = 0

    def __init__(self, num_envs: int, during_step: dict[int, Callable[[], None]]) -> None:
        super().__init__(num_envs)
        self.during_step = during_step

    def close(self) -> None:
        self.closed = True

    def step(self, actions: Any) -> Any:
        assert not self.closed
        self.during_step.pop(self.steps, lambda: None)()
        self.steps += 1
        return super().step(actions)


class Rig:
    """An actor, and the learner's end of its sockets."""

    def __init__(self, capacity: int = 100, actor_id: str = ME, **options: Any) -> None:
        queue, broadcast = MemoryQueue(capacity), MemoryBroadcast()
        self.queue = queue
        self.inbox = queue.inbox()
        self.publisher = broadcast.publisher()
        self.outbox, self.subscriber = queue.outbox(), broadcast.subscriber()
        self.registry = CollectorRegistry()
        self.metrics = ActorMetrics(self.registry)
        self.now = 0.0
        self.health = Health(60.0, clock=lambda: self.now)
        self.games: list[Games] = []
        self.during_step: dict[int, Callable[[], None]] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.network = make_network(3, "small", seed=0)
        self.actor = Actor(
            actor_id=actor_id,
            env_threads=3,
            outbox=self.outbox,
            subscriber=self.subscriber,
            metrics=self.metrics,
            health=self.health,
            **{"envs": E, "make_environments": self.make_environments} | options,
        )

    def make_environments(self, game: str, envs: int, **options: Any) -> Games:
        self.asked.append((game, envs, options))
        self.games.append(Games(envs, self.during_step))
        return self.games[-1]

    def publish(
        self,
        version: int,
        received: dict[str, int] | None = None,
        *,
        run: int = 1,
        assignment: Assignment = ASSIGNMENT,
        network: ActorCritic | None = None,
        **other: Any,
    ) -> None:
        network = network or self.network
        plain = {
            "run": run,
            "policy_version": version,
            "received": received or {},
            "model": fingerprint(network),
            "assignment": assignment,
            "safetensors": to_safetensors(network),
            "published_at": None,
        }
        self.publisher.publish(encode(builders.weights(**plain | other)))

    def steps(self, count: int = 5) -> list[Upstream]:
        """Steps the actor and returns the messages it sent."""
        for _ in range(count):
            self.actor.step()
        return self.inbox_empty()

    def inbox_empty(self) -> list[Upstream]:
        frames = iter(lambda: self.inbox.receive(0), None)
        return [decode(frame) for frame in frames]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"asyncade_actor_{name}", labels)


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor_module, "WAIT_S", 0.0)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.actor.close()


def sequences(messages: list[Upstream]) -> list[int]:
    return [message.sequence for message in messages]


def follows(one: Trajectory, other: Trajectory) -> bool:
    """Returns whether `other` begins with the last frame of `one`."""
    return np.array_equal(one.frames[:, -1], other.frames[:, 3])


# --- weights and credit --------------------------------------------------------------------------


def test_without_weights_it_waits_and_is_alive_but_not_ready(rig: Rig) -> None:
    rig.now = 100.0
    assert rig.steps() == []
    assert not rig.health.ready
    assert "weights" in rig.health.waiting_for
    assert rig.health.alive()
    assert rig.games == []  # the game is not known yet


def test_it_waits_for_what_is_missing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the loop would either spin or hold up its messages."""
    waits: list[float] = []
    latest = rig.subscriber.latest
    monkeypatch.setattr(rig.subscriber, "latest", lambda s: waits.append(s) or latest(0.0))
    monkeypatch.setattr(actor_module, "WAIT_S", 7.0)
    rig.steps(1)
    rig.publish(1)
    rig.steps(4)
    unroll = [0.0] * T  # a look before each step
    # None yet, none yet, credit for one more, none left.
    assert waits == [7.0, 7.0, *unroll, 0.0, *unroll, 7.0, 7.0]


def test_it_plays_with_the_weights_it_received(rig: Rig) -> None:
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
    """Each log-probability is of the weights that chose; the header names the oldest version."""
    newer = make_network(3, "small", seed=1)
    with torch.no_grad():
        newer.policy.weight.mul_(100)  # further from the other than rounding
    after = 2
    rig.during_step[after] = lambda: rig.publish(8, network=newer)
    rig.publish(7)
    message, _ = rig.steps()
    assert isinstance(message, Trajectory)
    assert message.policy_version == 7
    stacks = torch.from_numpy(stack_frames(message.frames, message.ends)[:-1])
    with torch.no_grad():
        rows = [(rig.network if t <= after else newer)(stacks[t])[0] for t in range(T)]
    actions = torch.from_numpy(message.actions.astype(np.int64))
    log_probs = action_log_probs(torch.stack(rows), actions)
    np.testing.assert_allclose(message.behaviour_log_probs, log_probs, rtol=1e-4, atol=1e-6)
    assert rig.metric("policy_version") == 8


def test_another_assignment_waits_for_the_end_of_the_unroll(rig: Rig) -> None:
    other = dataclasses.replace(ASSIGNMENT, repeat_action_probability=0.25)
    rig.during_step[1] = lambda: rig.publish(8, assignment=other)
    rig.publish(7)
    first, second, *_ = rig.steps()
    assert [len(m.actions) for m in (first, second) if isinstance(m, Trajectory)] == [T, T]
    assert (first.policy_version, second.policy_version) == (7, 8)
    assert [games.closed for games in rig.games] == [True, False]


def test_the_age_of_weights_is_measured(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    # The module's name only: threads of libraries read the clock of the whole process.
    monkeypatch.setattr("asyncade_runtime.metrics.time", SimpleNamespace(time=lambda: 1000.04))
    rig.publish(1, published_at=1000.0)
    rig.publish(2)  # does not say
    rig.steps(1)
    assert rig.metric("weights_latency_seconds_count") == 0
    rig.publish(3, published_at=1000.0)
    rig.steps(1)
    assert rig.metric("weights_latency_seconds_bucket", le="0.05") == 1
    assert rig.metric("weights_latency_seconds_bucket", le="0.03") == 0


def test_only_the_newest_weights_count(rig: Rig) -> None:
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


@pytest.mark.parametrize("in_flight", [1, 3])
def test_the_limit_is_the_learners(rig: Rig, in_flight: int) -> None:
    assignment = dataclasses.replace(ASSIGNMENT, messages_in_flight=in_flight)
    rig.publish(1, assignment=assignment)
    assert sequences(rig.steps()) == list(range(in_flight))


@pytest.mark.parametrize(
    "received", [{}, {"another": 7}, {ME: 2}, {ME: 1000}], ids=["{}", "other", "all", "more"]
)
def test_full_credit(rig: Rig, received: dict[str, int]) -> None:
    """An unnamed actor has nothing in flight; a count above its own is a dead namesake's."""
    rig.publish(1)
    rig.steps()
    rig.publish(2, received)
    assert sequences(rig.steps()) == [2, 3]


def test_repeated_weights_give_no_credit(rig: Rig) -> None:
    rig.publish(5)
    rig.steps()
    for version in (5, 4):
        rig.publish(version)
        assert rig.steps() == []
    assert rig.metric("weights_received_total") == 1
    assert rig.metric("policy_version") == 5


def test_a_new_learner_may_begin_at_a_lower_version(rig: Rig) -> None:
    rig.publish(5, run=1)
    rig.steps()
    network = make_network(3, "small", seed=1)
    rig.publish(2, run=2, network=network)
    assert [(m.sequence, m.policy_version) for m in rig.steps()] == [(2, 2), (3, 2)]
    assert len(rig.games) == 1  # the same games go on
    rig.publish(2, run=2)
    assert rig.steps() == []


def test_games_continue_across_weights(rig: Rig) -> None:
    messages = []
    for version in range(1, 7):
        rig.publish(version)
        messages += rig.steps()
    assert sequences(messages) == list(range(12))
    assert all(follows(*pair) for pair in itertools.pairwise(messages))


@pytest.mark.parametrize("request_", ["trajectories", "gradients"])
def test_it_can_be_suspended_before_every_env_step(rig: Rig, request_: Any) -> None:
    """Within an unroll, and while it plays ahead."""
    rig.publish(1, assignment=dataclasses.replace(ASSIGNMENT, request=request_))
    turn = rig.actor.advance()
    for played in range(T):
        next(turn)
        assert rig.games[0].steps == played
        assert rig.inbox_empty() == []
    ahead = list(turn)
    assert sequences(rig.inbox_empty()) == [0]
    assert rig.games[0].steps == T + len(ahead)
    assert len(ahead) == (1 if request_ == "gradients" else 0)


def test_a_gradient_is_of_the_version_in_its_header(rig: Rig) -> None:
    """Weights that arrive within the unroll wait for the next message."""
    assignment = dataclasses.replace(ASSIGNMENT, request="gradients")
    rig.during_step[1] = lambda: rig.publish(8, assignment=assignment)
    rig.publish(7, assignment=assignment)
    (message,) = rig.steps(1)
    assert message.policy_version == rig.metric("policy_version") == 7
    assert rig.steps(1)[0].policy_version == 8


# --- sending -------------------------------------------------------------------------------------


def test_an_unsent_message_is_kept_and_sent_later() -> None:
    rig = Rig(capacity=1)
    assignment = dataclasses.replace(ASSIGNMENT, messages_in_flight=5)
    rig.publish(1, assignment=assignment)
    rig.actor.step()
    for _ in range(3):  # no room: the second message waits, and no third is made
        rig.actor.step()
    assert rig.metric("send_timeouts_total") == 3
    assert rig.metric("messages_sent_total", kind="trajectory") == 1
    assert rig.metric("env_steps_total") == 2 * T * E
    messages: list[Upstream] = []
    for _ in range(10):
        messages += rig.steps(1)
    assert sequences(messages) == [0, 1, 2, 3, 4]  # the first was there already
    assert all(follows(*pair) for pair in itertools.pairwise(messages))


def test_a_message_outlives_its_learner() -> None:
    rig = Rig(capacity=1)
    rig.publish(5, run=1)
    rig.inbox.close()
    rig.steps()
    assert rig.metric("messages_sent_total", kind="trajectory") is None
    rig.inbox = rig.queue.inbox()
    rig.publish(2, run=2)
    rig.actor.step()
    (kept,) = rig.inbox_empty()
    assert (kept.sequence, kept.policy_version) == (0, 5)
    messages = [message for _ in range(5) for message in rig.steps(1)]
    assert [(m.sequence, m.policy_version) for m in messages] == [(1, 2), (2, 2)]


# --- weights that cannot be used -----------------------------------------------------------------


def test_frames_that_are_no_weights_are_refused_and_counted(rig: Rig) -> None:
    rig.publish(1)
    trajectory, _ = rig.steps()
    for frame in (b"", b"GET / HTTP/1.1", b"A3C\x63", b"A3C\x01", encode(trajectory)):
        rig.publisher.publish(frame)
        assert rig.steps(1) == []
    assert rig.metric("weights_refused_total", reason="not_ours") == 2
    assert rig.metric("weights_refused_total", reason="protocol_version") == 1
    assert rig.metric("weights_refused_total", reason="malformed") == 2
    rig.publish(2)
    assert sequences(rig.steps()) == [2, 3]


WRONG: dict[str, dict[str, Any]] = {
    "fingerprint": {"model": "0123456789abcdef"},
    "blob": {"safetensors": b"no safetensors"},
    "tensors": {"safetensors": to_safetensors(make_network(4, "small"))},
    "shape": {"assignment": dataclasses.replace(ASSIGNMENT, network="large")},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_weights_of_another_network_are_refused(rig: Rig, wrong: dict[str, Any]) -> None:
    """The old weights stay in use, and later valid ones are used."""
    rig.publish(1)
    before = rig.steps()
    rig.publish(2, network=make_network(3, "small", seed=1), **wrong)
    rig.steps()
    assert rig.metric("weights_refused_total", reason="model") == 1
    assert rig.metric("policy_version") == 1
    rig.publish(3)
    after = rig.steps()
    assert [m.policy_version for m in (*before, *after)] == [1, 1, 3, 3]
    rig.publish(2)  # older than what is in use
    assert rig.steps() == []


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_nothing_is_played_before_valid_weights(rig: Rig, wrong: dict[str, Any]) -> None:
    """The network may exist by then, with arbitrary parameters."""
    rig.publish(1, **wrong)
    assert rig.steps() == []
    assert not rig.health.ready
    rig.publish(2)
    assert sequences(rig.steps()) == [0, 1]


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_new_assignment_begins_with_its_weights(rig: Rig, wrong: dict[str, Any]) -> None:
    """Until they arrive the old ones stay in use, as long as their credit lasts."""
    many = dataclasses.replace(ASSIGNMENT, messages_in_flight=5)
    rig.publish(1, assignment=many)
    assert len(rig.steps(2)) == 2
    sticky = dataclasses.replace(many, repeat_action_probability=0.25)
    rig.publish(2, **{"assignment": sticky} | wrong)
    assert [m.policy_version for m in rig.steps()] == [1] * 3
    rig.publish(3, assignment=sticky)
    assert [m.policy_version for m in rig.steps()] == [3] * 5


def test_an_unknown_game_is_refused_and_survived() -> None:
    rig = Rig(make_environments=make_environments)
    rig.publish(1, assignment=dataclasses.replace(ASSIGNMENT, game="pongg"))
    assert rig.steps() == []
    rig.publish(2)
    assert sequences(rig.steps()) == [0, 1]


# --- assignments ---------------------------------------------------------------------------------


def test_the_games_are_made_as_assigned(rig: Rig) -> None:
    rig.publish(1, assignment=dataclasses.replace(ASSIGNMENT, repeat_action_probability=0.25))
    rig.steps()
    options = {"repeat_action_probability": 0.25, "num_threads": 3}
    assert rig.asked == [("catch", E, options)]


def test_another_mode_continues_the_same_games(rig: Rig) -> None:
    rig.publish(1)
    *_, last = rig.steps()
    gradients = dataclasses.replace(ASSIGNMENT, request="gradients", messages_in_flight=5)
    rig.publish(2, assignment=gradients)
    messages = rig.steps()
    assert all(isinstance(message, Gradients) for message in messages)
    # Two minibatches, twice over, and then a new unroll.
    assert [message.env_steps for message in messages] == [T * E, 0, 0, 0, T * E]
    rig.publish(3)
    first, _ = rig.steps()
    assert isinstance(first, Trajectory)
    assert len(rig.games) == 1
    assert not rig.games[0].closed
    assert not follows(last, first)  # two unrolls were played between them
    assert rig.metric("messages_sent_total", kind="trajectory") == 4
    assert rig.metric("messages_sent_total", kind="gradients") == 5


@pytest.mark.parametrize(
    "change",
    [{"game": "freeway"}, {"repeat_action_probability": 0.25}, {"network": "nature"}],
    ids=lambda change: next(iter(change)),
)
def test_another_game_starts_new_environments(rig: Rig, change: dict[str, Any]) -> None:
    rig.publish(1)
    *_, last = rig.steps()
    assignment = dataclasses.replace(ASSIGNMENT, **change)
    network = make_network(3, assignment.network, seed=1)
    rig.publish(2, assignment=assignment, network=network)
    first, second = rig.steps()
    assert first.model == fingerprint(network)
    assert not first.frames[:, :3].any()  # a first stack is padded
    assert not follows(last, first)
    assert follows(first, second)
    assert [games.closed for games in rig.games] == [True, False]
    assert rig.asked[1][0] == assignment.game


def test_other_changes_apply_from_the_next_message(rig: Rig) -> None:
    rig.publish(1)
    *_, last = rig.steps()
    rig.publish(2, assignment=dataclasses.replace(ASSIGNMENT, unroll_length=7))
    first, _ = rig.steps()
    assert first.actions.shape == (7, E)
    assert follows(last, first)


def test_no_two_actors_play_the_same_games() -> None:
    def first_of(actor_id: str, seed: int, version: int) -> bytes:
        rig = Rig(actor_id=actor_id)
        rig.publish(version, assignment=dataclasses.replace(ASSIGNMENT, seed=seed))
        return rig.steps()[0].frames.tobytes()

    # The last is an actor that died and came back under its old name.
    played = [first_of(*which) for which in [("a", 0, 1), ("b", 0, 1), ("a", 1, 1), ("a", 0, 9)]]
    assert first_of("a", 0, 1) == played[0]
    assert len(set(played)) == len(played)


# --- the rest ------------------------------------------------------------------------------------


def test_metrics_of_play_and_sending(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncade_runtime.metrics.time.time", lambda: 1234.5)
    assignment = dataclasses.replace(ASSIGNMENT, unroll_length=CELLS - 1)
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
    rig.publish(1, assignment=dataclasses.replace(ASSIGNMENT, request="gradients"))
    entered: list[str] = []
    monkeypatch.setattr(rig.metrics.stages, "enter", entered.append)
    rig.steps(1)
    assert entered == [
        "wait",
        "weights",
        *["inference", "environment"] * T,
        "gradient",
        "encode",
        "send",
        *["inference", "environment"],  # plays ahead while the gradient is on its way
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


def test_run_steps_until_stop_is_set(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current message is sent, and no further one is begun."""
    stop = threading.Event()
    send = rig.outbox.send

    def send_and_stop(frame: bytes, timeout_s: float) -> bool:
        stop.set()
        return send(frame, timeout_s)

    monkeypatch.setattr(rig.outbox, "send", send_and_stop)
    rig.publish(1)
    rig.actor.run(stop)
    assert sequences(rig.inbox_empty()) == [0]


@pytest.mark.parametrize("request_", ["trajectories", "gradients"])
def test_a_stop_within_an_unroll_abandons_it(rig: Rig, request_: Any) -> None:
    stop = threading.Event()
    rig.during_step[1] = stop.set
    rig.publish(1, assignment=dataclasses.replace(ASSIGNMENT, request=request_))
    rig.actor.run(stop)
    assert rig.games[0].steps == 2  # the env step in hand is the last one
    assert rig.inbox_empty() == []
    assert rig.metric("env_steps_total") == 0


def test_with_stop_set_beforehand_it_does_nothing(rig: Rig) -> None:
    stop = threading.Event()
    stop.set()
    rig.publish(1)
    rig.actor.run(stop)
    assert rig.inbox_empty() == []


def test_closing_closes_the_environments(rig: Rig) -> None:
    rig.actor.close()  # none yet
    rig.publish(1)
    rig.steps()
    rig.actor.close()
    assert [games.closed for games in rig.games] == [True]


def test_an_unroll_that_no_message_can_hold_ends_the_actor() -> None:
    """Trying again would fail for ever."""
    rig = Rig(envs=600)
    large = dataclasses.replace(ASSIGNMENT, unroll_length=64)
    rig.publish(1, assignment=large)
    with pytest.raises(TooLargeError, match="557 environments"):
        rig.actor.step()
    assert rig.games == []
    rig = Rig(envs=600)
    rig.publish(1, assignment=dataclasses.replace(large, request="gradients"))
    rig.actor.advance().send(None)
