"""Named choices of the settings: modes, policies, networks, devices, precisions.

No torch here: settings are read before torch is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

Mode: TypeAlias = Literal["data", "gradients"]
"""Parallelism: actors send trajectories (data) or the gradients computed from them."""

MODES: Final[tuple[Mode, ...]] = get_args(Mode)

Policy: TypeAlias = Literal["sample", "greedy"]
"""How actions are chosen: sample draws them, as in training; greedy takes the most probable."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The layers of a network.

    Attributes:
        convolutions: (channels, kernel, stride) per layer.
        hidden: units of the fully connected layer.
    """

    convolutions: tuple[tuple[int, int, int], ...]
    hidden: int


Network: TypeAlias = Literal["small", "nature"]

NETWORKS: Final[dict[Network, Shape]] = {
    "small": Shape(convolutions=((16, 8, 4), (32, 4, 2)), hidden=256),  # A3C's: Mnih et al. 2016
    "nature": Shape(convolutions=((32, 8, 4), (64, 4, 2), (64, 3, 1)), hidden=512),  # DQN's: 2015
}
"""Layers by name."""

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
"""Compute device; auto picks a GPU if there is one."""

Precision: TypeAlias = Literal["float32", "bfloat16"]
"""Floating-point format of a network's matrix products."""
