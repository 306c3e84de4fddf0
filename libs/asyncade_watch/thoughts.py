"""What the network makes of an observation: probabilities, value, and what they depend on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from asyncade_rl.network import ActorCritic


@dataclass(frozen=True, eq=False, slots=True)
class Thought:
    """The network's outputs for one observation.

    Attributes:
        probabilities: float32 [A].
        action: the one that is taken.
        value: expected discounted return.
        looked_at: uint8 [21, 21], how much the probability of the action depends on each part of
            the screen, 255 for the most; None if it was not asked for.
    """

    probabilities: npt.NDArray[np.float32]
    action: int
    value: float
    looked_at: npt.NDArray[np.uint8] | None


def think(
    network: ActorCritic,
    observations: npt.NDArray[np.uint8],
    drawn: float,
    looks_at_network: bool,
) -> Thought:
    """Returns what the network makes of an observation.

    Args:
        network: its present weights.
        observations: uint8 [1, 4, 84, 84].
        drawn: random number in [0, 1) that chooses the action, as in training.
        looks_at_network: whether to compute `Thought.looked_at`.
    """
    frames = torch.from_numpy(observations)
    with torch.inference_mode():
        logits, values = network(frames)
        probabilities = logits[0].softmax(-1).numpy()
    sums = probabilities.cumsum()
    action = min(int(np.searchsorted(sums, drawn * sums[-1], side="right")), len(sums) - 1)
    looked_at = attribution(network, frames, action) if looks_at_network else None
    return Thought(probabilities, action, float(values[0]), looked_at)


def attribution(network: ActorCritic, frames: torch.Tensor, action: int) -> npt.NDArray[np.uint8]:
    """Returns how much the logarithm of the action's probability depends on each patch.

    Gradient times input, summed over the 64 pixels of a patch (Shrikumar et al. 2016, "Not just a
    black box"). The input is the difference from the mean frame: what never changes counts nothing.

    Args:
        network: its present weights.
        frames: uint8 [1, 4, 84, 84].
        action: the one that was taken.

    Returns:
        uint8 [21, 21]; 255 at the greatest.
    """
    inputs = network.inputs_of(frames).detach().requires_grad_(True)
    logits, _ = network.of_inputs(inputs)
    (gradient,) = torch.autograd.grad(logits.log_softmax(-1)[0, action], inputs)
    parts = (gradient * inputs).detach().float().abs().sum(-1)[0]
    most = parts.max()
    if most > 0:
        parts = parts / most
    return np.asarray((255 * parts).round().to(torch.uint8).numpy())
