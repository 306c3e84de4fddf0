"""The average against its definition, computed slowly and in another way."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from asyncade_proto.codec import decode, encode
from asyncade_proto.limits import MAX_LOSSES, MAX_STEPS
from asyncade_proto.messages import Gradients
from asyncade_relay.averaging import Average, Play
from asyncade_rl.params import GradientMean

Make = Callable[..., Gradients]


def averaged(messages: list[Gradients]) -> Average:
    made = Average(messages[0])
    for message in messages[1:]:
        made.add(message)
    return made


def mean_of_all_samples(values: list[tuple[float, int]]) -> float:
    """Exact: as if every sample had been written down with its gradient's value."""
    total = sum(Fraction(value) * samples for value, samples in values)
    return float(total / sum(samples for _, samples in values))


def test_it_is_the_mean_over_all_samples(gradients: Make) -> None:
    messages = [gradients(seed=n, samples=samples) for n, samples in enumerate([1, 30, 7, 256])]
    made = averaged(messages)
    tensors = made.tensors()
    assert tensors.keys() == messages[0].tensors.keys()
    for name, mean in tensors.items():
        assert (mean.dtype, mean.shape) == (np.float32, messages[0].tensors[name].shape)
        for index in np.ndindex(mean.shape):
            values = [(float(m.tensors[name][index]), m.samples) for m in messages]
            assert mean[index] == np.float32(mean_of_all_samples(values))
    assert made.losses() == {
        name: pytest.approx(mean_of_all_samples([(m.losses[name], m.samples) for m in messages]))
        for name in ("total", "value")
    }
    assert (made.count, made.samples) == (4, 294)


def test_averages_of_relays_average_to_the_average_of_their_actors(gradients: Make) -> None:
    """What a learner makes of two relays' averages is what it would make of five actors."""
    samples = [64, 10, 33, 64, 1]
    messages = [gradients(seed=n, samples=s) for n, s in enumerate(samples)]
    direct, relayed = GradientMean(), GradientMean()
    for message in messages:
        direct.add(message.tensors, message.samples)
    for zone in (averaged(messages[:2]), averaged(messages[2:])):
        relayed.add(zone.tensors(), zone.samples)
    for name, mean in direct.tensors().items():
        np.testing.assert_allclose(relayed.tensors()[name], mean, rtol=1e-5, atol=1e-7)


def test_one_gradient_is_its_own_average(gradients: Make) -> None:
    one = gradients(samples=3)
    for name, mean in averaged([one]).tensors().items():
        np.testing.assert_array_equal(mean, one.tensors[name])


def test_what_is_received_is_not_changed(gradients: Make) -> None:
    first, second = (decode(encode(gradients(seed=n))) for n in range(2))
    assert isinstance(first, Gradients)
    assert isinstance(second, Gradients)
    before = {name: tensor.copy() for name, tensor in first.tensors.items()}
    averaged([first, second])
    for name, tensor in before.items():
        np.testing.assert_array_equal(first.tensors[name], tensor)


def test_the_oldest_version_counts(gradients: Make) -> None:
    versions = [5, 3, 9]
    assert averaged([gradients(policy_version=v) for v in versions]).policy_version == 3


def test_other_tensors_do_not_fit(gradients: Make) -> None:
    made = averaged([gradients()])
    same = gradients().tensors
    assert made.fits(gradients(seed=1))
    assert not made.fits(gradients(tensors={n: t for n, t in same.items() if n != "scale"}))
    assert not made.fits(gradients(tensors={**same, "more": np.zeros(1, np.float32)}))
    assert not made.fits(gradients(tensors={**same, "scale": np.zeros(1, np.float32)}))


def test_the_largest_gradients_have_a_finite_average(gradients: Make) -> None:
    huge = {"w": np.full(3, np.finfo(np.float32).max, np.float32)}
    mean = averaged([gradients(tensors=huge, samples=MAX_STEPS) for _ in range(3)]).tensors()
    np.testing.assert_array_equal(mean["w"], huge["w"])


def test_the_learner_can_read_whatever_losses_there_are(gradients: Make) -> None:
    many = [{f"loss-{n}-{k}": 1.0 for k in range(MAX_LOSSES)} for n in range(3)]
    assert averaged([gradients(losses=losses) for losses in many]).losses() == many[0]
    overflowing = [gradients(losses={"a": 1.7e308, "b": 1.0}, samples=MAX_STEPS)] * 2
    assert averaged(overflowing).losses() == {"b": 1.0}


def test_a_loss_that_some_do_not_tell_is_the_mean_of_those_who_do(gradients: Make) -> None:
    told = [gradients(losses={"a": 1.0}, samples=1), gradients(losses={"a": 4.0}, samples=2)]
    made = averaged([told[0], gradients(losses={}, samples=50), told[1]])
    assert made.losses() == {"a": pytest.approx(3.0)}


# --- play ----------------------------------------------------------------------------------------


def test_play_is_told_once(gradients: Make) -> None:
    play = Play()
    play.add(gradients(env_steps=16, returns=[1.0, -2.0]))
    play.add(gradients(env_steps=0))
    play.add(gradients(env_steps=8, returns=[3.0]))
    env_steps, episodes = play.take()
    assert env_steps == 24
    assert episodes.returns.tolist() == [1.0, -2.0, 3.0]
    assert episodes.lengths.tolist() == [1, 2, 1]
    assert play.take()[0] == 0
    assert not len(play.take()[1].returns)


def test_more_play_than_a_message_may_tell_waits_for_the_next(gradients: Make) -> None:
    play = Play()
    for _ in range(3):
        play.add(gradients(env_steps=MAX_STEPS))
    play.add(gradients(env_steps=5))
    assert [play.take()[0] for _ in range(5)] == [MAX_STEPS] * 3 + [5, 0]
