"""The actor's loop, one step at a time, against a learner that is these tests."""

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

from asyncade_actor import actor as actor_module
from asyncade_actor.actor import Actor
from asyncade_actor.metrics import ActorMetrics
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Assignment, Gradients, Trajectory, Upstream, Weights
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
    """Catch, and when it was closed."""

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


class Bench:
    """An actor, and the learner's side of all that it holds."""

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
            envs=E,
            env_threads=3,
            outbox=self.outbox,
            subscriber=self.subscriber,
            metrics=self.metrics,
            health=self.health,
            **{"make_environments": self.make_environments} | options,
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
        weights = Weights(
            run=run,
            policy_version=version,
            model=fingerprint(network),
            assignment=assignment,
            received=received or {},
            safetensors=to_safetensors(network),
        )
        self.publisher.publish(encode(dataclasses.replace(weights, **other)))

    def steps(self, count: int = 5) -> list[Upstream]:
        """Steps the actor and returns what came of it."""
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
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.actor.close()


def sequences(messages: list[Upstream]) -> list[int]:
    return [message.sequence for message in messages]


def follows(one: Trajectory, other: Trajectory) -> bool:
    """Whether an unroll begins with the frame that the other ended with."""
    return np.array_equal(one.frames[:, -1], other.frames[:, 3])


# --- weights and credit --------------------------------------------------------------------------


def test_without_weights_it_waits_and_is_alive_but_not_ready(bench: Bench) -> None:
    bench.now = 100.0
    assert bench.steps() == []
    assert not bench.health.ready
    assert "weights" in bench.health.waiting_for
    assert bench.health.alive()
    assert bench.games == []  # nothing is known of the game yet


def test_it_waits_for_the_thing_that_is_missing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the loop would either spin or hold up its messages."""
    waits: list[float] = []
    latest = bench.subscriber.latest
    monkeypatch.setattr(bench.subscriber, "latest", lambda s: waits.append(s) or latest(0.0))
    monkeypatch.setattr(actor_module, "WAIT_S", 7.0)
    bench.steps(1)
    bench.publish(1)
    bench.steps(4)
    unroll = [0.0] * T  # a look before each step
    # None yet, none yet, credit for one more, none left.
    assert waits == [7.0, 7.0, *unroll, 0.0, *unroll, 7.0, 7.0]


def test_with_weights_it_plays_by_them(bench: Bench) -> None:
    bench.publish(7)
    message, _ = bench.steps()
    assert bench.health.ready
    assert isinstance(message, Trajectory)
    assert (message.actor_id, message.sequence, message.policy_version) == (ME, 0, 7)
    assert message.model == fingerprint(bench.network)
    assert message.actions.shape == (T, E)
    stacks = torch.from_numpy(stack_frames(message.frames, message.ends)[:-1]).flatten(0, 1)
    with torch.no_grad():
        logits, _ = bench.network(stacks)
    log_probs = action_log_probs(logits, torch.from_numpy(message.actions.flatten()).long())
    np.testing.assert_allclose(message.behaviour_log_probs.flatten(), log_probs, rtol=1e-4)


def test_weights_that_come_within_an_unroll_choose_the_steps_that_are_left(bench: Bench) -> None:
    """Each step's log-probability is of the weights that chose; the message says the oldest."""
    newer = make_network(3, "small", seed=1)
    with torch.no_grad():
        newer.policy.weight.mul_(100)  # further from the other than rounding
    after = 2
    bench.during_step[after] = lambda: bench.publish(8, network=newer)
    bench.publish(7)
    message, _ = bench.steps()
    assert isinstance(message, Trajectory)
    assert message.policy_version == 7
    stacks = torch.from_numpy(stack_frames(message.frames, message.ends)[:-1])
    with torch.no_grad():
        rows = [(bench.network if t <= after else newer)(stacks[t])[0] for t in range(T)]
    actions = torch.from_numpy(message.actions.astype(np.int64))
    log_probs = action_log_probs(torch.stack(rows), actions)
    np.testing.assert_allclose(message.behaviour_log_probs, log_probs, rtol=1e-4, atol=1e-6)
    assert bench.metric("policy_version") == 8


def test_another_assignment_waits_for_the_end_of_the_unroll(bench: Bench) -> None:
    other = dataclasses.replace(ASSIGNMENT, repeat_action_probability=0.25)
    bench.during_step[1] = lambda: bench.publish(8, assignment=other)
    bench.publish(7)
    first, second, *_ = bench.steps()
    assert [len(m.actions) for m in (first, second) if isinstance(m, Trajectory)] == [T, T]
    assert (first.policy_version, second.policy_version) == (7, 8)
    assert [games.closed for games in bench.games] == [True, False]


def test_the_age_of_weights_is_measured(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # The module's name only: threads of libraries read the clock of the whole process.
    monkeypatch.setattr(actor_module, "time", SimpleNamespace(time=lambda: 1000.04))
    bench.publish(1, published_at=1000.0)
    bench.publish(2)  # does not say
    bench.steps(1)
    assert bench.metric("weights_latency_seconds_count") == 0
    bench.publish(3, published_at=1000.0)
    bench.steps(1)
    assert bench.metric("weights_latency_seconds_bucket", le="0.05") == 1
    assert bench.metric("weights_latency_seconds_bucket", le="0.03") == 0


def test_only_the_newest_weights_count(bench: Bench) -> None:
    bench.publish(1)
    bench.publish(2)
    assert [message.policy_version for message in bench.steps()] == [2, 2]


def test_never_more_messages_on_their_way_than_allowed(bench: Bench) -> None:
    bench.publish(1)
    assert sequences(bench.steps()) == [0, 1]
    bench.publish(2, {ME: 0})
    assert sequences(bench.steps()) == []
    bench.publish(3, {ME: 1})
    assert sequences(bench.steps()) == [2]
    bench.publish(4, {ME: 3})
    assert sequences(bench.steps()) == [3, 4]


@pytest.mark.parametrize("in_flight", [1, 3])
def test_the_learner_says_how_many(bench: Bench, in_flight: int) -> None:
    assignment = dataclasses.replace(ASSIGNMENT, messages_in_flight=in_flight)
    bench.publish(1, assignment=assignment)
    assert sequences(bench.steps()) == list(range(in_flight))


@pytest.mark.parametrize(
    "received", [{}, {"another": 7}, {ME: 2}, {ME: 1000}], ids=["{}", "other", "all", "more"]
)
def test_full_credit(bench: Bench, received: dict[str, int]) -> None:
    """Not named is nothing on its way; a count above one's own is a dead namesake's."""
    bench.publish(1)
    bench.steps()
    bench.publish(2, received)
    assert sequences(bench.steps()) == [2, 3]


def test_weights_that_come_again_give_no_credit(bench: Bench) -> None:
    bench.publish(5)
    bench.steps()
    for version in (5, 4):
        bench.publish(version)
        assert bench.steps() == []
    assert bench.metric("weights_received_total") == 1
    assert bench.metric("policy_version") == 5


def test_a_new_learner_may_begin_at_a_lower_version(bench: Bench) -> None:
    bench.publish(5, run=1)
    bench.steps()
    network = make_network(3, "small", seed=1)
    bench.publish(2, run=2, network=network)
    assert [(m.sequence, m.policy_version) for m in bench.steps()] == [(2, 2), (3, 2)]
    assert len(bench.games) == 1  # the same games go on
    bench.publish(2, run=2)
    assert bench.steps() == []


def test_games_go_on_whatever_the_weights(bench: Bench) -> None:
    messages = []
    for version in range(1, 7):
        bench.publish(version)
        messages += bench.steps()
    assert sequences(messages) == list(range(12))
    assert all(follows(*pair) for pair in itertools.pairwise(messages))


@pytest.mark.parametrize("request_", ["trajectories", "gradients"])
def test_it_can_be_suspended_before_every_env_step(bench: Bench, request_: Any) -> None:
    """Between two of them, in an unroll and while playing ahead, nothing else of it runs."""
    bench.publish(1, assignment=dataclasses.replace(ASSIGNMENT, request=request_))
    turn = bench.actor.advance()
    for played in range(T):
        next(turn)
        assert bench.games[0].steps == played
        assert bench.inbox_empty() == []
    ahead = list(turn)
    assert sequences(bench.inbox_empty()) == [0]
    assert bench.games[0].steps == T + len(ahead)
    assert len(ahead) == (1 if request_ == "gradients" else 0)


def test_a_gradient_is_of_the_version_in_its_header(bench: Bench) -> None:
    """Weights that arrive within the unroll wait for the next message."""
    assignment = dataclasses.replace(ASSIGNMENT, request="gradients")
    bench.during_step[1] = lambda: bench.publish(8, assignment=assignment)
    bench.publish(7, assignment=assignment)
    (message,) = bench.steps(1)
    assert message.policy_version == bench.metric("policy_version") == 7
    assert bench.steps(1)[0].policy_version == 8


# --- sending -------------------------------------------------------------------------------------


def test_a_message_nobody_takes_is_kept_and_sent_later() -> None:
    bench = Bench(capacity=1)
    assignment = dataclasses.replace(ASSIGNMENT, messages_in_flight=5)
    bench.publish(1, assignment=assignment)
    bench.actor.step()
    for _ in range(3):  # no room: the second message waits, and no third is made
        bench.actor.step()
    assert bench.metric("send_timeouts_total") == 3
    assert bench.metric("messages_sent_total", kind="trajectory") == 1
    assert bench.metric("env_steps_total") == 2 * T * E
    messages: list[Upstream] = []
    for _ in range(10):
        messages += bench.steps(1)
    assert sequences(messages) == [0, 1, 2, 3, 4]  # the first was there already
    assert all(follows(*pair) for pair in itertools.pairwise(messages))


def test_a_message_outlives_its_learner() -> None:
    bench = Bench(capacity=1)
    bench.publish(5, run=1)
    bench.inbox.close()
    bench.steps()
    assert bench.metric("messages_sent_total", kind="trajectory") is None
    bench.inbox = bench.queue.inbox()
    bench.publish(2, run=2)
    bench.actor.step()
    (kept,) = bench.inbox_empty()
    assert (kept.sequence, kept.policy_version) == (0, 5)
    messages = [message for _ in range(5) for message in bench.steps(1)]
    assert [(m.sequence, m.policy_version) for m in messages] == [(1, 2), (2, 2)]


# --- weights that cannot be used -----------------------------------------------------------------


def test_a_frame_that_is_no_weights_is_counted_and_survived(bench: Bench) -> None:
    bench.publish(1)
    trajectory, _ = bench.steps()
    for frame in (b"", b"GET / HTTP/1.1", b"A3C\x63", b"A3C\x01", encode(trajectory)):
        bench.publisher.publish(frame)
        assert bench.steps(1) == []
    assert bench.metric("weights_refused_total", reason="not_ours") == 2
    assert bench.metric("weights_refused_total", reason="protocol_version") == 1
    assert bench.metric("weights_refused_total", reason="malformed") == 2
    bench.publish(2)
    assert sequences(bench.steps()) == [2, 3]


WRONG: dict[str, dict[str, Any]] = {
    "fingerprint": {"model": "0123456789abcdef"},
    "blob": {"safetensors": b"no safetensors"},
    "tensors": {"safetensors": to_safetensors(make_network(4, "small"))},
    "shape": {"assignment": dataclasses.replace(ASSIGNMENT, network="large")},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_weights_of_another_network_are_refused(bench: Bench, wrong: dict[str, Any]) -> None:
    """What was there stays in use, and the right ones are taken afterwards."""
    bench.publish(1)
    before = bench.steps()
    bench.publish(2, network=make_network(3, "small", seed=1), **wrong)
    bench.steps()
    assert bench.metric("weights_refused_total", reason="model") == 1
    assert bench.metric("policy_version") == 1
    bench.publish(3)
    after = bench.steps()
    assert [m.policy_version for m in (*before, *after)] == [1, 1, 3, 3]
    bench.publish(2)  # older than what is in use
    assert bench.steps() == []


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_nothing_is_played_by_weights_that_never_came(bench: Bench, wrong: dict[str, Any]) -> None:
    """The network is there then, but with whatever numbers it was made with."""
    bench.publish(1, **wrong)
    assert bench.steps() == []
    assert not bench.health.ready
    bench.publish(2)
    assert sequences(bench.steps()) == [0, 1]


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_new_assignment_begins_with_its_weights(bench: Bench, wrong: dict[str, Any]) -> None:
    """Until they come the old ones stay in use, for as long as their credit lasts."""
    many = dataclasses.replace(ASSIGNMENT, messages_in_flight=5)
    bench.publish(1, assignment=many)
    assert len(bench.steps(2)) == 2
    sticky = dataclasses.replace(many, repeat_action_probability=0.25)
    bench.publish(2, **{"assignment": sticky} | wrong)
    assert [m.policy_version for m in bench.steps()] == [1] * 3
    bench.publish(3, assignment=sticky)
    assert [m.policy_version for m in bench.steps()] == [3] * 5


def test_an_unknown_game_is_refused_and_survived() -> None:
    bench = Bench(make_environments=make_environments)
    bench.publish(1, assignment=dataclasses.replace(ASSIGNMENT, game="pongg"))
    assert bench.steps() == []
    bench.publish(2)
    assert sequences(bench.steps()) == [0, 1]


# --- assignments ---------------------------------------------------------------------------------


def test_the_games_are_made_as_assigned(bench: Bench) -> None:
    bench.publish(1, assignment=dataclasses.replace(ASSIGNMENT, repeat_action_probability=0.25))
    bench.steps()
    options = {"repeat_action_probability": 0.25, "num_threads": 3}
    assert bench.asked == [("catch", E, options)]


def test_another_kind_of_message_is_made_of_the_same_games(bench: Bench) -> None:
    bench.publish(1)
    *_, last = bench.steps()
    gradients = dataclasses.replace(ASSIGNMENT, request="gradients", messages_in_flight=5)
    bench.publish(2, assignment=gradients)
    messages = bench.steps()
    assert all(isinstance(message, Gradients) for message in messages)
    # Two minibatches, twice over, and then a new unroll.
    assert [message.env_steps for message in messages] == [T * E, 0, 0, 0, T * E]
    bench.publish(3)
    first, _ = bench.steps()
    assert isinstance(first, Trajectory)
    assert len(bench.games) == 1
    assert not bench.games[0].closed
    assert not follows(last, first)  # two unrolls were played between them
    assert bench.metric("messages_sent_total", kind="trajectory") == 4
    assert bench.metric("messages_sent_total", kind="gradients") == 5


@pytest.mark.parametrize(
    "change",
    [{"game": "freeway"}, {"repeat_action_probability": 0.25}, {"network": "nature"}],
    ids=lambda change: next(iter(change)),
)
def test_another_game_is_begun_anew(bench: Bench, change: dict[str, Any]) -> None:
    bench.publish(1)
    *_, last = bench.steps()
    assignment = dataclasses.replace(ASSIGNMENT, **change)
    network = make_network(3, assignment.network, seed=1)
    bench.publish(2, assignment=assignment, network=network)
    first, second = bench.steps()
    assert first.model == fingerprint(network)
    assert not first.frames[:, :3].any()  # a first stack is padded
    assert not follows(last, first)
    assert follows(first, second)
    assert [games.closed for games in bench.games] == [True, False]
    assert bench.asked[1][0] == assignment.game


def test_what_else_changes_changes_with_the_next_message(bench: Bench) -> None:
    bench.publish(1)
    *_, last = bench.steps()
    bench.publish(2, assignment=dataclasses.replace(ASSIGNMENT, unroll_length=7))
    first, _ = bench.steps()
    assert first.actions.shape == (7, E)
    assert follows(last, first)


def test_no_two_actors_play_the_same_games() -> None:
    def first_of(actor_id: str, seed: int, version: int) -> bytes:
        bench = Bench(actor_id=actor_id)
        bench.publish(version, assignment=dataclasses.replace(ASSIGNMENT, seed=seed))
        return bench.steps()[0].frames.tobytes()

    # The last is an actor that died and came back under its old name.
    played = [first_of(*which) for which in [("a", 0, 1), ("b", 0, 1), ("a", 1, 1), ("a", 0, 9)]]
    assert first_of("a", 0, 1) == played[0]
    assert len(set(played)) == len(played)


# --- the rest ------------------------------------------------------------------------------------


def test_what_is_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor_module.time, "time", lambda: 1234.5)
    assignment = dataclasses.replace(ASSIGNMENT, unroll_length=CELLS - 1)
    bench.publish(3, assignment=assignment)
    frames = []
    send = bench.outbox.send
    monkeypatch.setattr(bench.outbox, "send", lambda f, timeout_s: frames.append(f) or send(f, 0))
    *_, last = bench.steps()
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
    assert {name: bench.metric(name) for name in expected} == expected
    assert bench.metric("messages_sent_total", kind="trajectory") == 2


def test_every_stage_is_entered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.publish(1, assignment=dataclasses.replace(ASSIGNMENT, request="gradients"))
    entered: list[str] = []
    monkeypatch.setattr(bench.metrics.stages, "enter", entered.append)
    bench.steps(1)
    assert entered == [
        "wait",
        "weights",
        *["inference", "environment"] * T,
        "gradient",
        "encode",
        "send",
        *["inference", "environment"],  # plays ahead while the gradient is on its way
    ]


def test_what_happens_to_connections_is_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [ConnectionEvent("retried", "tcp://x:1"), ConnectionEvent("connected", "tcp://x:1")]
    monkeypatch.setattr(bench.outbox, "events", lambda: events)
    monkeypatch.setattr(bench.subscriber, "events", lambda: events[:1])
    bench.steps(2)
    counted = {
        (socket, event): bench.metric("connection_events_total", socket=socket, event=event)
        for socket in ("upstream", "weights")
        for event in ("retried", "connected")
    }
    assert counted == {
        ("upstream", "retried"): 2,
        ("upstream", "connected"): 2,
        ("weights", "retried"): 2,
        ("weights", "connected"): None,
    }


def test_run_steps_until_it_is_told_to_stop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message in hand is sent, and none is begun after it."""
    stop = threading.Event()
    send = bench.outbox.send

    def send_and_stop(frame: bytes, timeout_s: float) -> bool:
        stop.set()
        return send(frame, timeout_s)

    monkeypatch.setattr(bench.outbox, "send", send_and_stop)
    bench.publish(1)
    bench.actor.run(stop)
    assert sequences(bench.inbox_empty()) == [0]


def test_told_to_stop_beforehand_it_does_nothing(bench: Bench) -> None:
    stop = threading.Event()
    stop.set()
    bench.publish(1)
    bench.actor.run(stop)
    assert bench.inbox_empty() == []


def test_closing_ends_the_games(bench: Bench) -> None:
    bench.actor.close()  # none yet
    bench.publish(1)
    bench.steps()
    bench.actor.close()
    assert [games.closed for games in bench.games] == [True]
