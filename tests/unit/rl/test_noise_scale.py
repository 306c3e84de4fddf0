"""The gradient noise scale against gradients whose mean and covariance are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from asyncade_rl.noise_scale import GradientSum, NoiseScale

GRADIENT = torch.linspace(-0.3, 0.6, 40, dtype=torch.float64)  # G
DEVIATIONS = torch.linspace(0.5, 4.0, 40, dtype=torch.float64)  # Sigma is their squares' diagonal
NOISE_SCALE = float(DEVIATIONS.square().sum() / GRADIENT.square().sum())
SIZES = {"equal": (16,) * 8, "unequal": (4, 12, 16, 64)}


def gradients(sizes: tuple[int, ...], random: torch.Generator) -> Tensor:
    """Returns one gradient per size, [len(sizes), 40]: means over so many normal samples."""
    per_sample = torch.randn(len(sizes), 40, generator=random, dtype=torch.float64) * DEVIATIONS
    return GRADIENT + per_sample / torch.tensor(sizes).sqrt().unsqueeze(1)


class Holder(nn.Module):
    """A network of two parameters, and one that no loss depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.zeros(5, 6, dtype=torch.float64))
        self.two = nn.Parameter(torch.zeros(10, dtype=torch.float64))
        self.unused = nn.Parameter(torch.zeros(3))

    def hold(self, gradient: Tensor) -> None:
        self.one.grad, self.two.grad = gradient[:30].view(5, 6), gradient[30:]


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_the_noise_scale_is_that_of_known_gradients(sizes: tuple[int, ...]) -> None:
    noise, random, network = NoiseScale(1000), torch.Generator().manual_seed(1), Holder()
    for _ in range(2000):
        measured = GradientSum()
        for gradient, samples in zip(gradients(sizes, random), sizes, strict=True):
            network.hold(gradient)
            measured.add(network, samples)
        measured.measure(noise)
    assert noise.samples() == pytest.approx(NOISE_SCALE, rel=0.1)


def test_one_measurement_is_the_ratio_of_the_two_estimates() -> None:
    noise = NoiseScale(8)
    noise.add(10, 5.0, 40, 2.0)
    # |G|^2 = (40 x 2 - 10 x 5) / 30 = 1; tr(Sigma) = 3 / (1/10 - 1/40) = 40
    assert noise.samples() == pytest.approx(40.0)


def test_estimates_are_averaged_before_their_ratio_and_old_ones_fade() -> None:
    noise = NoiseScale(2)
    noise.add(10, 5.0, 40, 2.0)  # |G|^2 1, tr(Sigma) 40
    noise.add(10, 5.0, 40, 4.25)  # |G|^2 4, tr(Sigma) 10
    assert noise.samples() == pytest.approx((40 / 4 + 10 / 2) / (1 / 4 + 4 / 2))


def test_it_is_not_known_while_noise_hides_the_gradient() -> None:
    noise = NoiseScale(2)
    assert noise.samples() is None
    noise.add(10, 5.0, 40, 1.0)  # |G|^2 -1/3
    assert noise.samples() is None
    noise.add(10, 5.0, 40, 2.0)
    assert noise.samples() == pytest.approx((4 * 40 / 3 / 4 + 40 / 2) / (-1 / 3 / 4 + 1 / 2))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_left_out(bad: float) -> None:
    noise = NoiseScale(8)
    noise.add(10, 5.0, 40, 2.0)
    noise.add(10, bad, 40, 2.0)
    noise.add(10, 5.0, 40, bad)
    assert noise.samples() == pytest.approx(40.0)


def test_a_single_gradient_is_no_measurement() -> None:
    noise, network, measured = NoiseScale(1), Holder(), GradientSum()
    measured.measure(noise)
    network.hold(GRADIENT)
    measured.add(network, 16)
    measured.measure(noise)
    assert noise.samples() is None
