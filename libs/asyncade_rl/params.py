"""Converts parameters and gradients between torch and the wire."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor, nn

from asyncade_rl.network import ActorCritic

NamedArrays = Mapping[str, npt.NDArray[np.float32]]


class ModelMismatchError(ValueError):
    """The tensors are not those of this network."""


def fingerprint(network: nn.Module) -> str:
    """Returns a hash of the names, shapes and dtypes of the network's state: 16 hex digits."""
    lines = [f"{n} {t.dtype} {list(t.shape)}" for n, t in sorted(network.state_dict().items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def to_safetensors(network: ActorCritic) -> bytes:
    """Returns parameters and buffers in the safetensors format, for whoever only plays.

    In bfloat16, half the bytes, what a pass in bfloat16 rounds anyway: `ActorCritic.multiplied`.
    The rest, and the network's own tensors, stay float32.
    """
    rounded = network.multiplied()
    return safetensors.torch.save(
        {
            name: tensor.to(torch.bfloat16 if name in rounded else tensor.dtype).contiguous()
            for name, tensor in network.state_dict().items()
        }
    )


def load_safetensors(network: nn.Module, blob: bytes) -> None:
    """Copies parameters and buffers into the network's tensors in place, whatever their precision.

    Raises:
        ModelMismatchError: the bytes are no safetensors, or of another network; nothing is written.
    """
    try:
        tensors = safetensors.torch.load(blob)
    except Exception as error:  # the library raises several kinds of its own
        raise ModelMismatchError(f"no safetensors: {error}") from error
    copy_into(network.state_dict(), tensors)


def copy_into(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copies tensors into the state's tensors of the same name.

    Raises:
        ModelMismatchError: names or shapes differ, or one holds numbers of another kind; nothing is
            written.
    """
    if state.keys() != tensors.keys():
        odd = sorted(state.keys() ^ tensors.keys())
        raise ModelMismatchError(f"tensors on one side only: {', '.join(odd)}")
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape:
            raise ModelMismatchError(
                f"{name} is {list(tensor.shape)}, this network's {list(state[name].shape)}"
            )
        if tensor.is_floating_point() != state[name].is_floating_point():
            raise ModelMismatchError(
                f"{name} is {tensor.dtype}, this network's {state[name].dtype}"
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)


def copies_of_parameters(network: nn.Module) -> dict[str, Tensor]:
    """Returns a copy of every parameter by name."""
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def move(network: nn.Module, against: NamedArrays, step_size: float) -> None:
    """Subtracts `step_size` times the arrays from the parameters of the same names.

    Raises:
        ModelMismatchError: names or shapes differ; nothing is changed.
    """
    parameters = dict(network.named_parameters())
    tensors = {n: torch.from_numpy(np.array(a, dtype=np.float32)) for n, a in against.items()}
    steps = {name: torch.empty_like(parameter) for name, parameter in parameters.items()}
    copy_into(steps, tensors)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.sub_(steps[name], alpha=step_size)
