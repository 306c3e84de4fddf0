"""Statistics of the frames that random play shows, for `ActorCritic`'s input normalisation."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from asyncade_rl.network import ActorCritic

MIN_SCALE: Final = 1.0
"""Grey levels. A game whose screen never changes must not divide by zero."""


class FrameStatistics:
    """Per-pixel mean and deviation of frames, gathered unroll by unroll."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: npt.NDArray[Any] = np.zeros((), dtype=np.float64)
        self._squares: npt.NDArray[Any] = np.zeros((), dtype=np.float64)

    def add(self, frames: npt.NDArray[np.uint8]) -> None:
        """Takes frames in: uint8 [..., H, W]."""
        flat = frames.reshape(-1, *frames.shape[-2:]).astype(np.float64)
        self.count += len(flat)
        self._sum = self._sum + flat.sum(axis=0)
        self._squares = self._squares + np.square(flat).sum(axis=0)

    def mean(self) -> npt.NDArray[np.float64]:
        """Returns the mean image, [H, W], in grey levels."""
        return np.asarray(self._sum / self.count)

    def scale(self) -> float:
        """Returns half the largest per-pixel standard deviation, in grey levels (Pong: about 10).

        One number for all pixels: dividing each by its own deviation would blow up the noise of
        those that hardly ever change.
        """
        variance = self._squares / self.count - np.square(self.mean())
        return max(float(np.sqrt(np.maximum(variance, 0.0)).max()) / 2, MIN_SCALE)

    def apply_to(self, network: ActorCritic) -> None:
        """Writes the statistics into the network's buffers."""
        network.frame_mean.copy_(torch.from_numpy(self.mean()))
        network.frame_scale.fill_(self.scale())
