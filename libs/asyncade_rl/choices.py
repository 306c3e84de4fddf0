"""The networks there are, by name. Without torch: settings name them before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Mode: TypeAlias = Literal["data", "gradients"]
"""Parallelism: actors send trajectories (data) or the gradients computed from them."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Layers of a network.

    Attributes:
        convolutions: (channels, kernel, stride) of each.
        hidden: units of the dense layer.
    """

    convolutions: tuple[tuple[int, int, int], ...]
    hidden: int


NETWORKS: Final = {
    "small": Shape(convolutions=((16, 8, 4), (32, 4, 2)), hidden=256),  # A3C's: Mnih et al. 2016
    "nature": Shape(convolutions=((32, 8, 4), (64, 4, 2), (64, 3, 1)), hidden=512),  # DQN's: 2015
}
"""Name to shape."""

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
"""That computes; auto: a GPU where there is one."""

Precision: TypeAlias = Literal["float32", "bfloat16"]
"""Of a network's multiplications."""
