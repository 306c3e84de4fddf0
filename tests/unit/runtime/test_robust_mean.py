"""The robust mean against a slow oracle, and against hostile senders."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from asyncade_proto.messages import Float32
from asyncade_runtime.robust_mean import RobustMean

SHAPES: dict[str, tuple[int, ...]] = {"weight": (40, 32), "bias": (32,), "scale": ()}
SIZE = sum(math.prod(shape) for shape in SHAPES.values())
SENDERS = ("a", "b", "c", "d")

Tensors = dict[str, Float32]


def tensors_of(flat: Any) -> Tensors:
    found, at = {}, 0
    for name, shape in SHAPES.items():
        size = math.prod(shape)
        found[name] = np.asarray(flat[at : at + size], np.float32).reshape(shape)
        at += size
    return found


def flat_of(tensors: Tensors) -> Any:
    return np.concatenate([tensors[name].astype(np.float64).reshape(-1) for name in SHAPES])


class Oracle:
    """The same with all gradients in memory, in float64, and exact products."""

    def __init__(self) -> None:
        self.norms: list[float] = []
        self.distances: list[float] = []
        self.samples: list[int] = []
        self.centre: Any = np.zeros(SIZE)

    def round(self, gradients: list[tuple[Any, int]]) -> Any:
        known = (self.norms[-64:], self.distances[-64:])
        norm_limit, distance_limit = (
            2 * statistics.median_low(one) if len(one) >= 8 else math.inf for one in known
        )
        most = 2 * statistics.median_low(self.samples[-64:]) if self.samples else math.inf
        self.norms += [float(np.linalg.norm(g)) for g, _ in gradients]
        self.samples += [samples for _, samples in gradients]
        if len(known[0]) < 8:
            norm_limit = 2 * min(self.norms)
        total, weights = np.zeros(SIZE), 0.0
        for gradient, samples in gradients:
            clipped = gradient * min(1, norm_limit / np.linalg.norm(gradient))
            away = clipped - self.centre
            distance = float(np.linalg.norm(away))
            self.distances.append(distance)
            weight = min(samples, most)
            total += weight * (self.centre + away * min(1, distance_limit / distance))
            weights += weight
        self.centre = total / weights
        return self.centre


def drawn(draw: np.random.Generator, truth: Any, noise: float = 1.0) -> Any:
    return truth + noise * draw.normal(size=SIZE)


def test_it_is_the_oracles_mean_whatever_is_clipped() -> None:
    """Angles are those of sketches, here of all parameters: the tensors' blocks are as large."""
    draw = np.random.default_rng(1)
    mean, oracle = RobustMean(seed=1), Oracle()
    mean._sketch._block = lambda size: slice(0, size)  # type: ignore[method-assign]
    for number in range(30):
        gradients = []
        for _ in range(int(draw.integers(2, 6))):
            gradient = drawn(draw, np.ones(SIZE)) * float(draw.choice([0.3, 1, 1, 1, 1, 5, -1000]))
            gradients.append((flat_of(tensors_of(gradient)), int(draw.choice([16, 64, 64, 512]))))
        for sender, (gradient, samples) in enumerate(gradients):
            mean.add(str(sender), tensors_of(gradient), samples)
        if number > 5:  # before, the oracle knows the smallest norm of the whole round
            expected = oracle.round(gradients)
            np.testing.assert_allclose(flat_of(mean.take()), expected, rtol=2e-3, atol=2e-3)
        else:
            oracle.round(gradients)
            oracle.centre = flat_of(mean.take())
            oracle.distances = list(mean._distances)
    assert mean.clipped > 30


def test_of_gradients_that_are_alike_it_is_the_plain_mean() -> None:
    draw = np.random.default_rng(2)
    mean = RobustMean(seed=1)
    for _ in range(40):
        gradients = [drawn(draw, np.ones(SIZE)) for _ in SENDERS]
        for sender, gradient in zip(SENDERS, gradients, strict=True):
            assert mean.problem(sender, tensors_of(gradient)) is None
            assert mean.add(sender, tensors_of(gradient), 64) == 64
        squares = [float(gradient @ gradient) for gradient in gradients]
        assert mean.mean_square() == pytest.approx(np.mean(squares), rel=1e-5)
        np.testing.assert_allclose(
            flat_of(mean.take()), np.mean(gradients, axis=0), rtol=1e-5, atol=1e-6
        )
    assert mean.clipped == 0


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("lie", [lambda g: 1000 * g, lambda g: -1000 * g, lambda g: 1e15 * g])
def test_a_giant_moves_the_mean_no_further_than_a_few_honest_ones(
    place: int, lie: Callable[[Any], Any]
) -> None:
    """From the first round on, wherever in the round it comes."""
    draw, truth = np.random.default_rng(3), np.ones(SIZE)
    mean = RobustMean(seed=1)
    for _ in range(20):
        for number, sender in enumerate(SENDERS):
            gradient = drawn(draw, truth)
            gradient = lie(gradient) if number == place else gradient
            mean.add(sender, tensors_of(gradient), 64)
        taken = flat_of(mean.take())
        assert np.linalg.norm(taken) < 2 * np.linalg.norm(truth)
        assert taken @ truth > 0


def test_a_gradient_weighs_no_more_than_two_usual_ones_or_as_a_relay() -> None:
    for behind, most in ((1, 128), (4, 512)):
        mean = RobustMean(behind, seed=1)
        for number, sender in enumerate(SENDERS):
            mean.add(sender, tensors_of(np.ones(SIZE)), 64)
            if number == len(SENDERS) - 1:
                mean.take()
        assert mean.add("a", tensors_of(np.ones(SIZE)), 2**20) == most


def rounds(mean: RobustMean, count: int, of: dict[str, Callable[[Any], Any]]) -> dict[str, int]:
    """Plays rounds of the senders, each with its own lie; returns refused gradients by sender."""
    draw, truth = np.random.default_rng(4), 0.4 * np.ones(SIZE)
    refused = dict.fromkeys(of, 0)
    for _ in range(count):
        for sender, lie in of.items():
            tensors = tensors_of(lie(drawn(draw, truth)))
            if mean.problem(sender, tensors) is None:
                mean.add(sender, tensors, 64)
            else:
                refused[sender] += 1
        mean.take()
    return refused


def honest(gradient: Any) -> Any:
    return gradient


def test_who_points_the_wrong_way_is_found_and_nobody_else() -> None:
    senders = {"a": lambda g: -g, "b": honest, "c": honest, "d": honest}
    refused = rounds(RobustMean(seed=1), 200, senders)
    assert refused["a"] > 100
    assert sum(refused.values()) == refused["a"]


def test_two_senders_that_disagree_are_both_heard() -> None:
    """Nobody can tell which of them is wrong."""
    assert rounds(RobustMean(seed=1), 200, {"a": lambda g: -g, "b": honest}) == {"a": 0, "b": 0}


def test_of_two_camps_neither_is_adverse() -> None:
    """Each points against the rest, and nobody can tell which is right."""
    camps = {"a": lambda g: -g, "b": lambda g: -g, "c": honest, "d": honest}
    assert not any(rounds(RobustMean(seed=1), 300, camps).values())


def test_two_that_are_left_and_disagree_are_both_heard() -> None:
    """Though one of them is new, and the other has agreed with many before."""
    mean = RobustMean(seed=1)
    rounds(mean, 200, dict.fromkeys(SENDERS, honest))
    assert not any(rounds(mean, 200, {"a": lambda g: -g, "new": honest}).values())


def test_when_all_swing_together_nobody_is_adverse() -> None:
    """As with a step size that is too large: each mean points against the one before."""
    mean, draw = RobustMean(seed=1), np.random.default_rng(5)
    for number in range(300):
        for sender in SENDERS:
            tensors = tensors_of(drawn(draw, (-1) ** number * np.ones(SIZE)))
            assert mean.problem(sender, tensors) is None
            mean.add(sender, tensors, 64)
        mean.take()


def test_of_pure_noise_nobody_is_adverse() -> None:
    draw = np.random.default_rng(6)
    mean = RobustMean(seed=1)
    for _ in range(500):
        for sender in SENDERS:
            tensors = tensors_of(draw.normal(size=SIZE))
            assert mean.problem(sender, tensors) is None
            mean.add(sender, tensors, 64)
        mean.take()


def test_a_gradient_without_a_finite_norm_is_refused() -> None:
    mean = RobustMean(seed=1)
    assert mean.problem("a", tensors_of(np.full(SIZE, 3e38))) is not None
    assert mean.problem("a", tensors_of(np.full(SIZE, np.nan))) is not None
    assert mean.problem("a", tensors_of(np.ones(SIZE))) is None


def test_a_mean_that_is_not_finite_is_forgotten() -> None:
    mean = RobustMean(seed=1)
    for value in (1.0, np.nan, 3e38, 2.0):
        for sender in SENDERS:
            mean.add(sender, tensors_of(np.full(SIZE, value)), 64)
        taken = flat_of(mean.take())
    assert taken == pytest.approx(np.full(SIZE, 2.0))


def test_zeros_stay_zeros() -> None:
    """At the end of a cooldown nobody moves."""
    mean = RobustMean(seed=1)
    for _ in range(5):
        for sender in SENDERS:
            assert mean.problem(sender, tensors_of(np.zeros(SIZE))) is None
            mean.add(sender, tensors_of(np.zeros(SIZE)), 64)
        assert not flat_of(mean.take()).any()


def test_only_tensors_of_the_same_names_and_shapes_fit() -> None:
    mean = RobustMean(seed=1)
    one, odd = tensors_of(np.ones(SIZE)), {"weight": np.ones((2, 2), np.float32)}
    assert mean.fits(odd)
    mean.add("a", one, 64)
    for _ in range(2):  # within a round, and before the first gradient of the next
        assert mean.fits(one)
        assert not mean.fits(odd)
        if mean.count:
            mean.take()
