"""Which gradients the relay averages, when it sends the mean, and that no play is lost."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import builders
from asyncade_learner.intake import Rules
from asyncade_proto.codec import decode, encode
from asyncade_proto.limits import MAX_LOSSES, MAX_STEPS
from asyncade_proto.messages import Episodes, Gradients
from asyncade_relay.gathering import DROP_REASONS, Gathering, Play
from asyncade_runtime.admission import Accepted, Dropped, Roster
from rigs.relay import ME, gradients, weights

LAG, PATIENCE_S = 3, 1.0


def gathering() -> tuple[Gathering, Roster]:
    roster = Roster()
    return Gathering(ME, roster, max_policy_lag=LAG, patience_seconds=PATIENCE_S), roster


# --- what is averaged ----------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["0123456789abcdef", "another"])
@pytest.mark.parametrize("version", range(4, 13))
def test_the_relay_decides_as_the_learner_does(version: int, model: str) -> None:
    """The learner after one update to a version, as in gradient mode."""
    message = gradients(policy_version=version, model=model)
    relay, _ = gathering()
    relay.renew(weights(10))
    learner = Rules(
        model="0123456789abcdef",
        parameter_shapes={name: t.shape for name, t in message.tensors.items()},
        num_actions=3,
        frame_shape=(84, 84),
        unroll_length=8,
        max_policy_lag=LAG,
    ).judge(message, policy_version=10, lag_of=lambda version: 10 - version, request="gradients")
    outcome = relay.offer(message, 0.0)
    assert outcome == learner
    assert isinstance(outcome, Accepted) or outcome.reason in DROP_REASONS


def test_gradients_of_other_tensors_are_dropped() -> None:
    relay, roster = gathering()
    relay.renew(weights(1))
    relay.offer(gradients("a"), 0.0)
    odd = gradients("b", tensors={"x": np.zeros(2, np.float32)}, env_steps=9)
    verdict = relay.offer(odd, 0.0)
    assert isinstance(verdict, Dropped)
    assert verdict.reason == "shape"
    assert roster.credit() == {"a": 1}  # none for a sender of another run
    assert relay.take().env_steps == 0


# --- when the mean is sent -----------------------------------------------------------------------


def test_a_mean_has_one_gradient_of_every_actor() -> None:
    relay, roster = gathering()
    relay.renew(weights(1))
    assert not relay.due(100.0)
    relay.offer(gradients("a", 0), 0.0)
    assert relay.due(0.0)  # the only known actor
    first = relay.take()
    assert (first.actor_id, first.sequence, first.policy_version) == (ME, 0, 1)
    relay.renew(weights(2, received={ME: 1}))
    relay.offer(gradients("b", 0, 2), 1.0)
    assert not relay.due(1.0)  # waits for a
    relay.offer(gradients("a", 1, 2), 1.5)
    assert relay.due(1.5)
    assert relay.complete()
    second = relay.take()
    assert (second.sequence, second.samples, second.policy_version) == (1, 20, 2)
    assert len(roster) == 2


def test_a_dead_actor_holds_up_one_mean_only() -> None:
    relay, roster = gathering()
    relay.renew(weights(1))
    for actor in "abc":
        relay.offer(gradients(actor, 0), 0.0)
    relay.take()
    relay.renew(weights(2, received={ME: 1}))
    relay.offer(gradients("a", 1, 2), 10.0)
    relay.offer(gradients("b", 1, 2), 10.5)
    assert not relay.due(10.5 + PATIENCE_S)
    assert relay.due(10.51 + PATIENCE_S)
    assert not relay.complete()
    assert relay.take().samples == 20
    assert len(roster) == 2
    assert roster.credit() == {"a": 2, "b": 2}  # an unnamed sender has full credit
    relay.renew(weights(3, received={ME: 2}))
    relay.offer(gradients("a", 2, 3), 12.0)
    relay.offer(gradients("b", 2, 3), 12.0)
    assert relay.due(12.0)
    relay.offer(gradients("c", 1, 2), 12.0)  # late, but not stale
    assert relay.due(12.0)
    message = relay.take()
    assert (message.samples, message.policy_version) == (30, 2)
    assert len(roster) == 3


@pytest.mark.parametrize("in_flight", [1, 2])
def test_the_relay_keeps_to_the_limit_of_messages_in_flight(in_flight: int) -> None:
    relay, _ = gathering()
    relay.renew(weights(1, messages_in_flight=in_flight, received={"b": 9}))
    for number in range(in_flight):
        relay.offer(gradients("a", number), 0.0)
        assert relay.due(0.0)
        relay.take()
    relay.offer(gradients("a", in_flight), 0.0)
    assert not relay.due(100.0)
    relay.renew(weights(2, messages_in_flight=in_flight, received={ME: 0}))
    assert not relay.due(100.0)  # nothing has arrived at the learner
    relay.offer(gradients("a", in_flight + 1, 2), 0.0)
    relay.renew(weights(3, messages_in_flight=in_flight, received={ME: 1}))
    assert relay.due(0.0)
    assert relay.take().samples == 20  # with the gradient that came meanwhile


def test_an_unnamed_relay_has_nothing_in_flight() -> None:
    relay, roster = gathering()
    relay.renew(weights(1))
    relay.offer(gradients("a"), 0.0)
    relay.take()
    relay.offer(gradients("a", 1), 0.0)
    assert not relay.due(0.0)
    relay.renew(weights(2, received={"another": 3}))  # does not name the relay
    assert relay.due(0.0)
    assert roster.credit() == {"a": 2}
    relay.renew(weights(3, received={}))  # the learner treats everything as lost
    assert roster.credit() == {}
    assert relay.due(0.0)


def test_a_higher_count_belongs_to_a_dead_relay_of_the_same_name() -> None:
    relay, _ = gathering()
    relay.renew(weights(1, received={ME: 57}))
    for number in range(2):
        relay.offer(gradients("a", number), 0.0)
        assert relay.due(0.0) is (number == 0)
        if number == 0:
            relay.take()


# --- another run, another request ----------------------------------------------------------------


def test_gradients_for_another_run_are_sent_at_once() -> None:
    relay, roster = gathering()
    relay.renew(weights(50))
    for actor in "ab":
        relay.offer(gradients(actor, 0, 50, env_steps=8), 0.0)
    relay.take()
    relay.offer(gradients("a", 1, 50, env_steps=8), 0.0)
    late = relay.renew(weights(12, run=8, received={"x": 1}))
    assert late is not None
    assert (late.policy_version, late.env_steps) == (50, 8)
    assert roster.credit() == {}
    assert relay.renew(weights(13, run=8)) is None


def test_gradients_are_sent_before_trajectories_are_requested() -> None:
    relay, _ = gathering()
    relay.renew(weights(1))
    relay.offer(gradients("a", env_steps=8), 0.0)
    late = relay.renew(weights(2, "trajectories", received={"a": 1}))
    assert late is not None
    assert late.env_steps == 8
    assert relay.renew(weights(3, "trajectories", received={"a": 1})) is None


# --- exactly once --------------------------------------------------------------------------------


def test_every_env_step_and_episode_is_reported_exactly_once() -> None:
    """Random actors, gradients used or dropped, means complete or not."""
    draw = random.Random(1)
    relay, _ = gathering()
    reported_steps, reported_returns, played_steps, played_returns = 0, [], 0, []
    reported_points, played_points = np.zeros(2), np.zeros(2)  # won, lost
    sequences = dict.fromkeys("abcd", 0)
    version, sent, now = 10, 0, 0.0
    dropped = 0

    def count(message: Gradients) -> None:
        nonlocal reported_steps, sent
        assert message.sequence == sent
        sent += 1
        reported_steps += message.env_steps
        reported_returns.extend(message.episodes.returns.tolist())
        reported_points[:] += message.points_won, message.points_lost

    relay.renew(weights(version))
    for turn in range(500):
        now += draw.choice([0.0, 0.1, 1.5])
        actor = draw.choice("abcd")
        steps = draw.choice([0, 0, 16])
        returns = [float(turn)] if steps and draw.random() < 0.7 else []
        age = draw.choice([-1, 0, 0, 0, 1, 9])
        points = {
            "points_won": float(steps and 1 + turn % 3),
            "points_lost": float(steps and turn % 2),
        }
        play = {"env_steps": steps, "returns": returns} | points
        verdict = relay.offer(gradients(actor, sequences[actor], version - age, **play), now)
        dropped += isinstance(verdict, Dropped)
        sequences[actor] += 1
        played_steps += steps
        played_returns += returns
        played_points += tuple(points.values())
        if relay.due(now):
            count(relay.take())
        if draw.random() < 0.4:
            version += 1
            received = draw.choice([{}, {ME: sent}, {ME: max(0, sent - 1)}])
            late = relay.renew(weights(version, received=received, run=7 + turn // 200))
            if late is not None:
                count(late)
    if (late := relay.renew(weights(version + 1))) is not None:
        count(late)
    relay.offer(gradients("a", sequences["a"], version), now)
    count(relay.take())
    assert dropped > 50
    assert reported_steps == played_steps
    assert reported_returns == played_returns
    assert reported_points.tolist() == played_points.tolist()


ROUNDED = 2**-3
"""Relative error of what the wire rounds to float8."""


def mean_of(relay: Gathering, *messages: Gradients) -> Gradients:
    """Offers the messages; returns their mean, decoded from its frame."""
    for message in messages:
        assert relay.offer(message, 0.0) == Accepted(1)
    read = decode(encode(relay.take()))
    assert isinstance(read, Gradients)
    return read


def renewed() -> Gathering:
    relay, _ = gathering()
    relay.renew(weights(2))
    return relay


def test_the_mean_is_weighted_by_samples_and_starts_again() -> None:
    relay = renewed()
    messages = [gradients(actor, seed=n, samples=5 + n) for n, actor in enumerate("abc")]
    mean = mean_of(relay, *messages)
    total = sum(m.samples for m in messages)
    assert mean.samples == total
    for name in mean.tensors:
        wanted = sum(m.tensors[name].astype(np.float64) * m.samples / total for m in messages)
        np.testing.assert_allclose(mean.tensors[name], wanted, rtol=ROUNDED, atol=2**-17)
    for name in ("total", "value"):
        wanted = sum(m.losses[name] * m.samples / total for m in messages)
        assert mean.losses[name] == pytest.approx(wanted)
    again = mean_of(relay, replace(messages[0], sequence=1))
    for name, tensor in again.tensors.items():  # nothing of the last mean is left
        np.testing.assert_allclose(tensor, messages[0].tensors[name], rtol=ROUNDED)
    assert again.losses == pytest.approx(messages[0].losses)


def test_the_mean_has_the_oldest_version() -> None:
    relay, _ = gathering()
    relay.renew(weights(9))
    for actor, version in [("a", 8), ("b", 6), ("c", 9)]:
        relay.offer(gradients(actor, 0, version), 0.0)
    assert relay.take().policy_version == 6


def test_a_mean_too_large_for_the_wire_is_clipped_to_what_it_allows() -> None:
    largest = 57_344.0  # of float8; float32 has larger numbers
    huge = {"w": np.full(3, 1e5, np.float32), "v": np.zeros(1, np.float32)}
    mean = mean_of(renewed(), *(gradients(a, tensors=huge, env_steps=8) for a in "ab"))
    assert (mean.env_steps, mean.tensors["w"].tolist()) == (16, [largest] * 3)
    assert mean.tensors["v"].tolist() == [0.0]
    one = mean_of(renewed(), gradients("a", tensors={"w": np.full(3, 6e4, np.float32)}, samples=1))
    assert one.tensors["w"].tolist() == [largest] * 3  # finite, but rounded up


# --- hostile actors ------------------------------------------------------------------------------


def gathered(lie: Callable[[Gradients], Gradients], rounds: int) -> list[Gradients]:
    """Returns the means of four actors, of which one lies in every round."""
    relay, draw = gathering()[0], np.random.default_rng(1)
    means = []
    for number in range(rounds):
        relay.renew(weights(number + 1, received={ME: number}))
        for actor in "abcd":
            tensors = {"w": (0.3 + draw.normal(size=2000)).astype(np.float32)}
            honest = gradients(actor, number, number + 1, tensors=tensors, env_steps=8)
            relay.offer(lie(honest) if actor == "a" else honest, 0.0)
        means.append(relay.take())
    return means


def scaled(by: float) -> Callable[[Gradients], Gradients]:
    return lambda one: replace(one, tensors={"w": one.tensors["w"] * np.float32(by)})


def along(mean: Gradients) -> float:
    """Returns the mean's component along the true gradient, of which 0.3 is right."""
    return float(mean.tensors["w"].mean())


def test_honest_actors_are_averaged_exactly() -> None:
    means = gathered(scaled(1.0), 100)
    assert {mean.samples for mean in means} == {40}
    assert {mean.env_steps for mean in means} == {32}
    assert np.mean([along(mean) for mean in means]) == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("by", [1000.0, -1000.0])
def test_a_giant_gradient_is_clipped(by: float) -> None:
    means = gathered(scaled(by), 20)
    assert all(0 < along(mean) < 0.6 for mean in means)


def test_the_wrong_sign_is_found_and_left_out() -> None:
    means = gathered(scaled(-1.0), 150)
    assert np.mean([along(mean) for mean in means[:50]]) == pytest.approx(0.15, abs=0.02)
    assert np.mean([along(mean) for mean in means[-30:]]) == pytest.approx(0.3, abs=0.02)
    assert means[-1].samples == 30
    assert means[-1].env_steps == 24  # nor does its play count


def test_what_is_not_finite_is_left_out() -> None:
    for by in (math.nan, 3e37):
        means = gathered(scaled(by), 5)
        assert {mean.samples for mean in means} == {30}
        assert all(0.2 < along(mean) < 0.4 for mean in means)


def test_claims_of_actors_are_bounded_by_the_assignment() -> None:
    relay, roster = gathering()
    relay.renew(weights(1, games=2, unroll_length=8))  # 16 env steps, as the batch has
    reasons = []
    for sequence, samples in enumerate((32, 33, 2**20)):
        outcome = relay.offer(gradients("a", sequence, samples=samples, env_steps=samples), 0.0)
        reasons.append(outcome.reason if isinstance(outcome, Dropped) else None)
    assert reasons == [None, "claim", "claim"]
    assert roster.credit() == {}  # unnamed, it has full credit and may go on
    assert relay.due(0.0)
    message = relay.take()
    assert (message.samples, message.env_steps) == (32, 32)


def test_relays_behind_a_relay_claim_more_if_a_setting_says_so() -> None:
    relay = Gathering(
        ME, Roster(), max_policy_lag=LAG, patience_seconds=PATIENCE_S, actors_behind_relay=4
    )
    relay.renew(weights(1, games=2, unroll_length=8))
    assert relay.offer(gradients("a", samples=128, env_steps=128), 0.0) == Accepted(0)


def test_losses_of_the_mean_keep_the_limits_of_the_wire() -> None:
    many = [{f"loss-{n}-{k}": 1.0 for k in range(MAX_LOSSES)} for n in range(3)]
    messages = [gradients(str(n), losses=losses) for n, losses in enumerate(many)]
    assert mean_of(renewed(), *messages).losses == many[0]
    overflow = [gradients(str(a), losses={"a": a, "b": 1.0}) for a in (1.7e308, -1.7e308)]
    assert mean_of(renewed(), *overflow).losses == {"b": 1.0}


def test_a_loss_is_the_mean_over_the_actors_that_report_it() -> None:
    messages = [
        gradients("a", losses={"a": 1.0}, samples=1),
        gradients("b", losses={}, samples=50),
        gradients("c", losses={"a": 4.0}, samples=2),
    ]
    assert mean_of(renewed(), *messages).losses == {"a": pytest.approx(3.0)}


# --- play ----------------------------------------------------------------------------------------


def test_play_is_forwarded_once() -> None:
    play = Play()
    play.add(gradients(env_steps=16, returns=[1.0, -2.0], points_won=3.0, points_lost=1.0))
    play.add(gradients(env_steps=0))
    play.add(gradients(env_steps=8, returns=[3.0], points_won=0.5))
    taken = play.take()
    assert taken["episodes"].returns.tolist() == [1.0, -2.0, 3.0]
    assert taken["episodes"].lengths.tolist() == [1, 2, 1]
    assert (taken["env_steps"], taken["points_won"], taken["points_lost"]) == (24, 3.5, 1.0)
    rest = play.take()
    assert len(rest["episodes"].returns) == 0
    assert (rest["env_steps"], rest["points_won"], rest["points_lost"]) == (0, 0.0, 0.0)


def test_no_more_episodes_are_held_than_a_message_takes() -> None:
    """An actor that reports the most with every message must not fill the relay's memory."""
    play = Play()
    many = builders.episodes(*[1.0] * 3)
    most = Episodes(
        returns=np.zeros(MAX_STEPS - 1, np.float32), lengths=np.ones(MAX_STEPS - 1, np.int32)
    )
    for episodes in (most, many, most):
        play.add(gradients(episodes=episodes))
    taken = play.take()["episodes"]
    assert len(taken.returns) == len(taken.lengths) == MAX_STEPS
    assert (taken.returns[-1], taken.lengths[-1]) == (1.0, 1)
    assert len(play.take()["episodes"].returns) == 0


def test_play_beyond_the_limit_of_a_message_waits_for_the_next() -> None:
    play = Play()
    most: float = MAX_STEPS
    for _ in range(3):
        play.add(gradients(env_steps=MAX_STEPS, points_won=most))
    play.add(gradients(env_steps=5, points_won=1.0, points_lost=2.0))
    taken = [play.take() for _ in range(5)]
    assert [one["env_steps"] for one in taken] == [MAX_STEPS] * 3 + [5, 0]
    assert [one["points_won"] for one in taken] == [most] * 3 + [1.0, 0.0]
    assert [one["points_lost"] for one in taken] == [2.0, 0.0, 0.0, 0.0, 0.0]
