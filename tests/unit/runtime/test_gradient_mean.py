"""The mean of gradients against its exact definition."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from asyncade_proto.messages import Float32
from asyncade_runtime.gradient_mean import GradientMean

SHAPES: dict[str, tuple[int, ...]] = {"weight": (2, 3), "bias": (3,), "scale": ()}
EPSILON = 2.0**-24


def drawn(seed: int) -> dict[str, Float32]:
    draw = np.random.default_rng(seed)
    return {n: np.asarray(draw.normal(size=s).astype(np.float32)) for n, s in SHAPES.items()}


def mean_of(gradients: Sequence[dict[str, Float32]], samples: Sequence[int]) -> GradientMean:
    mean = GradientMean()
    for tensors, count in zip(gradients, samples, strict=True):
        mean.add(tensors, count)
    return mean


@pytest.mark.parametrize("samples", [[3], [1, 30, 7, 256], [64] * 40])
def test_the_mean_is_over_all_samples(samples: list[int]) -> None:
    """Within the error bound of its docstring."""
    gradients = [drawn(seed) for seed in range(len(samples))]
    mean = mean_of(gradients, samples)
    assert (mean.count, mean.samples) == (len(samples), sum(samples))
    found = mean.tensors()
    assert found.keys() == SHAPES.keys()
    for name, tensor in found.items():
        assert (tensor.dtype, tensor.shape) == (np.float32, SHAPES[name])
        for index in np.ndindex(tensor.shape):
            terms = [
                Fraction(float(g[name][index])) * count
                for g, count in zip(gradients, samples, strict=True)
            ]
            exact = sum(terms) / sum(samples)
            bound = (len(terms) + 2) * EPSILON * sum(map(abs, terms)) / sum(samples)
            assert abs(Fraction(float(tensor[index])) - exact) <= bound


def test_means_of_relays_average_to_the_mean_over_their_actors() -> None:
    samples = [64, 10, 33, 64, 1]
    gradients = [drawn(seed) for seed in range(5)]
    relays = [mean_of(gradients[:2], samples[:2]), mean_of(gradients[2:], samples[2:])]
    relayed = mean_of([r.tensors() for r in relays], [r.samples for r in relays]).tensors()
    for name, direct in mean_of(gradients, samples).tensors().items():
        np.testing.assert_allclose(relayed[name], direct, rtol=1e-5, atol=1e-7)


def test_a_gradient_is_not_changed_and_may_be_read_only() -> None:
    first = np.ones(3, np.float32)
    first.flags.writeable = False
    mean = mean_of([{"x": first}, {"x": 3 * first}], [1, 1])
    assert first.tolist() == [1.0, 1.0, 1.0]
    assert mean.tensors()["x"].tolist() == [2.0, 2.0, 2.0]


def test_a_gradient_and_the_sum_can_be_scaled() -> None:
    mean = GradientMean()
    assert mean.shapes() == {}
    mean.add({"x": np.ones(2, np.float32)}, 2, scale=0.5)
    mean.scale(10.0)
    mean.add({"x": np.ones(2, np.float32)}, 2)
    assert mean.tensors()["x"].tolist() == [3.0, 3.0]
    assert mean.shapes() == {"x": (2,)}
