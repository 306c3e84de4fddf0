"""The gradient noise scale: how large a batch may be before more samples buy nothing.

McCandlish et al. 2018, "An empirical model of large-batch training", appendix A.1.
https://arxiv.org/abs/1812.06162
"""

from __future__ import annotations

import math

import torch
from torch import nn


class NoiseScale:
    """The simple noise scale, tr(Sigma) / |G|^2, from gradient norms at two batch sizes.

    G is the expected gradient, Sigma the covariance of one sample's. The mean over b samples has
    E|g_b|^2 = |G|^2 + tr(Sigma) / b, so two sizes b < B give unbiased estimates of both:

        |G|^2     = (B |g_B|^2 - b |g_b|^2) / (B - b)
        tr(Sigma) = (|g_b|^2 - |g_B|^2) / (1/b - 1/B)

    The mean of their ratios would be biased. So both are averaged, exponentially, and the result is
    the ratio of the averages. Samples that go together (steps of one game) count as independent.

    Args:
        span: measurements that the averages reach back over.
    """

    def __init__(self, span: int) -> None:
        self._fresh = 1 / span
        self._squared = self._trace = 0.0  # that they begin at 0 cancels in the ratio

    def add(
        self, samples_small: float, squared_small: float, samples_big: float, squared_big: float
    ) -> None:
        """Adds a measurement; leaves out one that is not finite, which averages never lose again.

        Args:
            samples_small: b; of gradients of unequal sizes the mean size.
            squared_small: mean of |g_b|^2, each weighted by its samples: for unequal sizes, too,
                its expectation is |G|^2 + tr(Sigma) / b.
            samples_big: B, greater than b.
            squared_big: |g_B|^2, of the mean over all B samples.
        """
        trace = (squared_small - squared_big) / (1 / samples_small - 1 / samples_big)
        squared = squared_big - trace / samples_big  # the same as above
        if math.isfinite(trace) and math.isfinite(squared):
            self._trace += self._fresh * (trace - self._trace)
            self._squared += self._fresh * (squared - self._squared)

    def samples(self) -> float | None:
        """Returns the noise scale in samples; None while |G|^2's estimate is not positive."""
        return self._trace / self._squared if self._squared > 0 else None

    def kept(self) -> tuple[float, float]:
        """Returns the two averages; see `restore`."""
        return self._squared, self._trace

    def restore(self, kept: tuple[float, float]) -> None:
        """Continues with the averages that `kept` returned."""
        self._squared, self._trace = kept


class GradientSum:
    """Gradients that a network holds one after another: their mean, and their squared norms."""

    def __init__(self) -> None:
        self._count = self._samples = 0
        self._sum = self._squared = torch.zeros(())  # [] until there is a gradient, then [P]

    def add(self, network: nn.Module, samples: int) -> None:
        """Adds the present gradient, which is a mean over so many samples and not yet clipped."""
        parts = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
        gradient = torch.cat(parts)
        self._count += 1
        self._samples += samples
        self._sum = torch.add(self._sum, gradient, alpha=samples)
        self._squared = self._squared + samples * gradient.dot(gradient)  # float() would wait

    def measure(self, noise: NoiseScale) -> None:
        """Adds a measurement, if there are two gradients or more."""
        if self._count > 1:
            samples, mean = self._samples, self._sum / self._samples
            each, squared = samples / self._count, float(self._squared) / samples
            noise.add(each, squared, samples, float(mean.dot(mean)))
