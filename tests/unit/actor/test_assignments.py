"""Weights that an actor refuses, and what a new assignment changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from asyncade_proto.codec import encode
from asyncade_proto.messages import Gradients, Trajectory, Upstream
from asyncade_rl.envs import make_environments
from asyncade_rl.network import make_network
from asyncade_rl.params import fingerprint, to_safetensors
from builders import ASSIGNMENT
from rigs.actor import ME, E, Rig, follows, sequences

T = ASSIGNMENT.unroll_length


# --- weights that cannot be used -----------------------------------------------------------------


def test_frames_other_than_weights_are_refused_and_counted(rig: Rig) -> None:
    rig.publish(1)
    trajectory, _ = rig.steps()
    for frame in (b"", b"GET / HTTP/1.1", b"A3C\x63", b"A3C\x02", encode(trajectory)):
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
    "shape": {"assignment": replace(ASSIGNMENT, network="large")},
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
    rig.publish(2)  # older than the version in use
    assert rig.steps() == []


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_nothing_is_played_without_valid_weights(rig: Rig, wrong: dict[str, Any]) -> None:
    """A refusal leaves a network with arbitrary parameters, which must not play."""
    rig.publish(1, **wrong)
    assert rig.steps() == []
    assert not rig.health.ready
    rig.publish(2)
    assert sequences(rig.steps()) == [0, 1]


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_new_assignment_begins_with_valid_weights(rig: Rig, wrong: dict[str, Any]) -> None:
    """The old weights stay in use meanwhile, as far as their credit goes."""
    many = replace(ASSIGNMENT, messages_in_flight=5)
    rig.publish(1, assignment=many)
    assert len(rig.steps(2)) == 2
    sticky = replace(many, repeat_action_probability=0.25)
    rig.publish(2, **{"assignment": sticky} | wrong)
    assert [m.policy_version for m in rig.steps()] == [1] * 3
    rig.publish(3, assignment=sticky)
    assert [m.policy_version for m in rig.steps()] == [3] * 5


def test_an_unknown_game_is_refused_and_survived() -> None:
    rig = Rig(make_environments=make_environments)
    rig.publish(1, assignment=replace(ASSIGNMENT, game="pongg"))
    assert rig.steps() == []
    rig.publish(2)
    assert sequences(rig.steps()) == [0, 1]


# --- assignments ---------------------------------------------------------------------------------


def test_environments_are_made_as_assigned(rig: Rig) -> None:
    rig.publish(1, assignment=replace(ASSIGNMENT, repeat_action_probability=0.25))
    rig.steps()
    options = {"repeat_action_probability": 0.25, "num_threads": 3}
    assert rig.arcade.asked == [("catch", E, options)]


def test_another_mode_continues_the_games(rig: Rig) -> None:
    rig.publish(1)
    *_, last = rig.steps()
    gradients = replace(ASSIGNMENT, request="gradients", messages_in_flight=2)
    rig.publish(2, assignment=gradients)
    messages = rig.steps()
    assert all(isinstance(message, Gradients) for message in messages)
    assert [message.env_steps for message in messages] == [T * E, T * E]
    rig.publish(3)
    first, _ = rig.steps()
    assert isinstance(first, Trajectory)
    assert len(rig.arcade.made) == 1
    assert not rig.arcade.made[0].closed
    assert not follows(last, first)  # two unrolls were played between them
    assert first.frames[:, :3].any()  # not padded: the games were not reset
    assert rig.metric("messages_sent_total", kind="trajectory") == 4
    assert rig.metric("messages_sent_total", kind="gradients") == 2


@pytest.mark.parametrize(
    "change",
    [{"game": "freeway"}, {"repeat_action_probability": 0.25}, {"network": "nature"}],
    ids=lambda change: next(iter(change)),
)
def test_another_game_starts_new_environments(rig: Rig, change: dict[str, Any]) -> None:
    rig.publish(1)
    *_, last = rig.steps()
    assignment = replace(ASSIGNMENT, **change)
    network = make_network(3, assignment.network, seed=1)
    rig.publish(2, assignment=assignment, network=network)
    first, second = rig.steps()
    assert first.model == fingerprint(network)
    assert not first.frames[:, :3].any()  # a first stack is padded
    assert not follows(last, first)
    assert follows(first, second)
    assert rig.arcade.closed() == [True, False]
    assert rig.arcade.asked[1][0] == assignment.game


def test_other_changes_apply_from_the_next_message(rig: Rig) -> None:
    rig.publish(1)
    *_, last = rig.steps()
    rig.publish(2, assignment=replace(ASSIGNMENT, unroll_length=7))
    first, _ = rig.steps()
    assert first.actions.shape == (7, E)
    assert follows(last, first)


def shapes(messages: list[Upstream]) -> list[tuple[int, ...]]:
    return [message.actions.shape for message in messages if isinstance(message, Trajectory)]


def test_fewer_games_are_played_if_fewer_are_assigned() -> None:
    rig = Rig(envs=8)
    rig.publish(1, assignment=replace(ASSIGNMENT, games=3))
    assert shapes(rig.steps()) == [(T, 3), (T, 3)]
    assert sum(envs for _, envs, _ in rig.arcade.asked) == 3
    rig.publish(2, assignment=replace(ASSIGNMENT, games=5))
    *_, last = rig.steps()
    rig.publish(3, assignment=replace(ASSIGNMENT, games=100))
    first, _ = rig.steps()
    assert shapes([last, first]) == [(T, 5), (T, 8)]
    rig.publish(4)
    assert shapes(rig.steps()) == [(T, 8), (T, 8)]


def test_games_end_before_there_are_fewer(rig: Rig) -> None:
    """All of them end after 11 steps, in the third unroll of 4."""
    rig.publish(1, assignment=replace(ASSIGNMENT, messages_in_flight=2))
    rig.steps()
    rig.publish(2, assignment=replace(ASSIGNMENT, messages_in_flight=3, games=1))
    messages = rig.steps()
    assert shapes(messages) == [(T, 2), (T, 1), (T, 1)]
    assert [len(message.episodes.returns) for message in messages] == [2, 0, 0]


def test_an_actor_may_be_asked_for_another_unroll_length(rig: Rig) -> None:
    rig.publish(1, unroll_lengths={ME: 3, "other": 2})
    assert shapes(rig.steps()) == [(3, E), (3, E)]
    rig.publish(2, unroll_lengths={"other": 2})
    assert shapes(rig.steps()) == [(T, E), (T, E)]


def test_an_unroll_in_progress_keeps_its_length_and_games() -> None:
    rig = Rig(envs=4)
    more = replace(ASSIGNMENT, games=4, unroll_length=7)
    rig.arcade.before_step[1] = lambda: rig.publish(2, assignment=more)
    rig.publish(1, assignment=replace(ASSIGNMENT, games=2))
    first, second, *_ = rig.steps()
    assert shapes([first, second]) == [(T, 2), (7, 4)]
    assert (first.policy_version, second.policy_version) == (1, 2)


def test_a_change_of_games_or_unroll_length_is_logged_once(rig: Rig) -> None:
    with capture_logs() as lines:
        for version, games, steps in [(1, 2, T), (2, 2, T), (3, 1, T), (4, 1, 3), (5, 1, 3)]:
            lengths = {} if steps == T else {ME: steps}
            assignment = replace(ASSIGNMENT, games=games)
            rig.publish(version, assignment=assignment, unroll_lengths=lengths)
            rig.steps()
    said = [(line["games"], line["T"]) for line in lines if line["event"] == "assignment"]
    assert said == [(2, T), (1, T), (1, 3)]


def test_no_two_actors_play_the_same_games() -> None:
    def first_of(actor_id: str, seed: int, version: int) -> bytes:
        rig = Rig(actor_id=actor_id)
        rig.publish(version, assignment=replace(ASSIGNMENT, seed=seed))
        return rig.steps()[0].frames.tobytes()

    # The last one is an actor restarted under its old name.
    played = [first_of(*which) for which in [("a", 0, 1), ("b", 0, 1), ("a", 1, 1), ("a", 0, 9)]]
    assert first_of("a", 0, 1) == played[0]
    assert len(set(played)) == len(played)
