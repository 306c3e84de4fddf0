"""The optimiser: the only code that changes parameters in training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from asyncade_rl.params import ModelMismatchError

_BETAS: Final = (0.9, 0.999)
"""Decay of Adam's moments per step: its authors' values."""

_STEP: Final = "step"
_MOMENTS: Final = ("exp_avg", "exp_avg_sq")
"""What torch's Adam keeps of each parameter."""


class Optimiser:
    """Adam (Kingma & Ba 2015) after clipping the gradient's global norm."""

    def __init__(self, network: nn.Module, *, max_gradient_norm: float, epsilon: float) -> None:
        self._names = [name for name, _ in network.named_parameters()]
        self._parameters = list(network.parameters())
        self._max_gradient_norm = max_gradient_norm
        self._adam = torch.optim.Adam(self._parameters, lr=0.0, eps=epsilon, fused=True)

    def step(
        self, learning_rate: float, steps_side_by_side: float = 1.0, limit: float = math.inf
    ) -> float:
        """Takes one step with the parameters' ``grad``, unless its norm is beyond a limit.

        Args:
            learning_rate: step size.
            steps_side_by_side: how many steps all actors together take on a batch for each one
                taken here. The moments then forget as much per batch as if this one took them all:
                Adam's second moment looks back 1,000 steps, a run's whole play for one of many
                actors.
            limit: largest norm.

        Returns:
            The gradient's norm before clipping. If it is not finite, or above `limit`, nothing has
            changed, neither parameters nor moments: one bad batch must not end the run.
        """
        norm = float(nn.utils.clip_grad_norm_(self._parameters, self._max_gradient_norm))
        if not (math.isfinite(norm) and norm <= limit):
            return norm
        betas = tuple(beta**steps_side_by_side for beta in _BETAS)
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
            group["betas"] = betas
        self._adam.step()
        return norm

    def state(self) -> dict[str, Tensor]:
        """Returns Adam's moments and step counts as named tensors, for a checkpoint."""
        return {
            f"{kind}.{name}": tensor.clone()
            for name, parameter in zip(self._names, self._parameters, strict=True)
            for kind, tensor in self._adam.state[parameter].items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores a `state`; its names are ``KIND.PARAMETER``. Empty, it is that before a step.

        Raises:
            ModelMismatchError: it is another optimiser's, or of another network; nothing changes.
        """
        if not state:
            self._adam.state.clear()
            return
        parameters = dict(zip(self._names, self._parameters, strict=True))
        shapes = {f"{k}.{n}": p.shape for n, p in parameters.items() for k in _MOMENTS}
        shapes |= {f"{_STEP}.{name}": torch.Size() for name in parameters}
        odd = [n for n, t in state.items() if shapes.get(n) != t.shape or t.dtype != torch.float32]
        if odd or state.keys() != shapes.keys():
            names = sorted(odd or state.keys() ^ shapes.keys())
            raise ModelMismatchError(f"no state of this optimiser: {', '.join(names[:4])}")
        for name, parameter in parameters.items():
            self._adam.state[parameter] = {
                k: state[f"{k}.{name}"].to(parameter.device, copy=True) for k in (_STEP, *_MOMENTS)
            }
