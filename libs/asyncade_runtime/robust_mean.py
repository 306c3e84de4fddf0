"""The mean of gradients of which some may be wrong or hostile: in the learner and in relays.

Three rules, none of which touches what honest actors send
([decision 14](../../docs/decisions/0014-claims-and-gradients-are-bounded.md) has the figures):
a gradient is clipped to twice the median norm of recent ones; its distance from the mean of the
round before is clipped to twice the median of such distances (centred clipping: Karimireddy, He
and Jaggi 2021, "Learning from history for Byzantine robust optimization", one iteration); and who
points against the others again and again, while most do not, is not averaged.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from asyncade_proto.messages import Float32
from asyncade_runtime.agreement import Agreement, Sketch
from asyncade_runtime.gradient_mean import GradientMean

_RECENT: Final = 64
"""Accepted gradients that a median looks back on."""

_FEW: Final = 8
"""Below this many known norms the smallest stands for the median: the first round has no past."""

_TIMES_MEDIAN: Final = 2.0
"""Norms and distances up to this many times their medians are left as they are."""

_TIMES_SAMPLES: Final = 2
"""A gradient weighs at most as much as this many usual ones."""


class _Measured(NamedTuple):
    """What is known of a gradient before it is added."""

    tensors: Mapping[str, Float32]
    norm: float
    sketch: Float32


class RobustMean:
    """A mean of gradients, weighted by samples; round after round, with a memory of rounds before.

    Memory: the sum and the last mean, however many gradients are added, and a small part of each
    sender's. Where nothing is clipped it is exactly `GradientMean`.

    Args:
        actors_behind: actors whose mean one gradient may be; it may weigh as much more.
        seed: of the parameters that a sketch is made of; None: nobody can know them.

    Attributes:
        clipped: gradients clipped so far, in all rounds.
    """

    def __init__(self, actors_behind: int = 1, seed: int | None = None) -> None:
        self.clipped = 0
        self._actors_behind = actors_behind
        self._sketch = Sketch(seed)
        self._agreement = Agreement()
        self._norms: deque[float] = deque(maxlen=_RECENT)
        self._distances: deque[float] = deque(maxlen=_RECENT)
        self._samples: deque[int] = deque(maxlen=_RECENT)
        self._centre: dict[str, Float32] = {}
        self._measured: _Measured | None = None
        self._largest = 0.0  # norm in this round, after the first clip
        self._begin()

    @property
    def count(self) -> int:
        """Gradients in this round."""
        return self._sum.count

    @property
    def samples(self) -> int:
        """Samples that count in this round."""
        return self._sum.samples

    def fits(self, tensors: Mapping[str, Float32]) -> bool:
        """True if the tensors have the names and shapes of those before, if any."""
        known = self._sum.shapes() or _shapes(self._centre)
        return not known or _shapes(tensors) == known

    def problem(self, sender: str, tensors: Mapping[str, Float32]) -> str | None:
        """Returns why a gradient must not be added; None if it may be.

        To be called once per gradient, before `add`, with tensors that fit.
        """
        measured = self._measure(tensors)
        if not math.isfinite(measured.norm):
            return "a gradient without a finite norm"
        consistency = self._agreement.adverse(sender, measured.sketch)
        return None if consistency is None else f"points against the others ({consistency:.2f})"

    def add(self, sender: str, tensors: Mapping[str, Float32], samples: int) -> int:
        """Adds a gradient, clipped if need be.

        Args:
            sender: who made it, or the relay that averaged it.
            tensors: float32 by name; of finite norm, or the round's mean is not finite.
            samples: that it is the mean over.

        Returns:
            The samples that count.
        """
        _, norm, sketch = self._measure(tensors)
        self._measured = None
        if not math.isfinite(norm):
            self._sum.add(tensors, samples)
            self._finite = False
            return samples
        self._norms.append(norm)
        self._samples.append(samples)
        if len(self._norms) < _FEW:
            self._lower_limit(_TIMES_MEDIAN * min(self._norms))
        scale = min(1.0, self._norm_limit / norm) if norm else 1.0
        weight = int(max(1, min(samples, self._most_samples)))
        distance = self._distance(norm, scale, sketch)
        self._distances.append(distance)
        kept = min(1.0, self._distance_limit / distance) if distance else 1.0
        self.clipped += scale < 1 or kept < 1
        self._sum.add(tensors, weight, scale * kept)
        self._agreement.add(sender, sketch, weight * scale * kept)
        self._towards_centre += weight * (1 - kept)
        self._squares += weight * (scale * norm) ** 2
        self._largest = max(self._largest, scale * norm)
        return weight

    def mean_square(self) -> float:
        """Returns the mean of the squared norms in this round, after the first clip."""
        return self._squares / self.samples

    def take(self) -> dict[str, Float32]:
        """Returns the round's mean by name, which is the centre of the next round."""
        mean = self._sum.tensors()
        if self._towards_centre:
            share = np.float32(self._towards_centre / self.samples)
            for name, tensor in self._centre.items():
                mean[name] = np.asarray(mean[name] + share * tensor)
        if self._finite:
            self._centre = mean
        self._agreement.next_round()
        self._begin()
        return mean

    def _begin(self) -> None:
        self._sum = GradientMean()
        self._finite = True
        self._towards_centre: float = 0.0
        self._squares: float = 0.0
        self._largest = 0.0
        self._norm_limit: float = _TIMES_MEDIAN * _median(self._norms)
        self._distance_limit: float = _TIMES_MEDIAN * _median(self._distances)
        usual = statistics.median_low(self._samples) if self._samples else math.inf
        self._most_samples: float = _TIMES_SAMPLES * self._actors_behind * usual
        self._centre_sketch = self._sketch.of(self._centre) if self._centre else None

    def _measure(self, tensors: Mapping[str, Float32]) -> _Measured:
        if self._measured is None or self._measured.tensors is not tensors:
            self._measured = _Measured(tensors, _norm(tensors), self._sketch.of(tensors))
        return self._measured

    def _lower_limit(self, limit: float) -> None:
        """Clips what this round has added already, if the limit is below it."""
        self._norm_limit = limit
        if self._largest > limit:
            factor = limit / self._largest
            self._sum.scale(factor)
            self._squares *= factor**2
            self._largest *= factor

    def _distance(self, norm: float, scale: float, sketch: Float32) -> float:
        """Returns a scaled gradient's distance from the centre, as far as its sketch shows it."""
        seen = math.sqrt(float(np.dot(sketch, sketch)))
        if self._centre_sketch is None or not seen:
            return scale * norm
        away = np.float32(scale) * sketch - self._centre_sketch
        return math.sqrt(float(np.dot(away, away))) * norm / seen


def _median(values: deque[float]) -> float:
    return statistics.median_low(values) if len(values) >= _FEW else math.inf


def _norm(tensors: Mapping[str, Float32]) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return math.sqrt(sum(float(np.vdot(one, one)) for one in tensors.values()))


def _shapes(tensors: Mapping[str, Float32]) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in tensors.items()}
