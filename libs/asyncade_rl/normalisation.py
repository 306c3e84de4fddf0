"""Frame statistics of random play, for the input normalisation of `ActorCritic`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from asyncade_rl.network import ActorCritic

MIN_SCALE: Final = 1.0
"""In grey levels; keeps a game whose screen never changes from dividing by zero."""


class FrameStatistics:
    """Per-pixel mean and standard deviation of frames, accumulated unroll by unroll."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: npt.NDArray[Any] = np.zeros((), dtype=np.float64)
        self._squares: npt.NDArray[Any] = np.zeros((), dtype=np.float64)

    def add(self, frames: npt.NDArray[np.uint8]) -> None:
        """Adds frames, uint8 [..., H, W]."""
        flat = frames.reshape(-1, *frames.shape[-2:]).astype(np.float64)
        self.count += len(flat)
        self._sum = self._sum + flat.sum(axis=0)
        self._squares = self._squares + np.square(flat).sum(axis=0)

    def mean(self) -> npt.NDArray[np.float64]:
        """Returns the mean image, [H, W], in grey levels."""
        return np.asarray(self._sum / self.count)

    def scale(self) -> float:
        """Returns half the largest per-pixel standard deviation, in grey levels (Pong: about 10).

        One number for all pixels: dividing each by its own deviation would amplify the noise of
        pixels that hardly ever change.
        """
        variance = self._squares / self.count - np.square(self.mean())
        return max(float(np.sqrt(np.maximum(variance, 0.0)).max()) / 2, MIN_SCALE)

    def kept(self) -> dict[str, torch.Tensor]:
        """Returns the sums, float64 [] and [H, W], for a checkpoint; empty without a frame."""
        if not self.count:
            return {}
        count = np.float64(self.count)
        sums = {"count": count, "sum": self._sum, "squares": self._squares}
        return {name: torch.from_numpy(np.array(value)) for name, value in sums.items()}

    def restore(self, kept: Mapping[str, torch.Tensor]) -> None:
        """Continues with the sums that `kept` returned."""
        if kept:
            self.count = int(kept["count"])
            self._sum, self._squares = kept["sum"].numpy(), kept["squares"].numpy()

    def apply_to(self, network: ActorCritic) -> None:
        """Writes the statistics into the network's buffers."""
        network.frame_mean.copy_(torch.from_numpy(self.mean()))
        network.frame_scale.fill_(self.scale())
