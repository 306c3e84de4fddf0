"""The convolutional policy and value network (Mnih et al. 2015, 2016).

Input normalisation is part of the network: its statistics are buffers, so they are published with
the weights and saved in the checkpoint. On Pong it matters more than all other choices together.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asyncade_proto.messages import STACK
from asyncade_rl.choices import NETWORKS, Precision, Shape
from asyncade_rl.games import FRAME_SIDE

PATCH: Final = 4
"""Pixels along the side of a patch: the stride of every network's first convolution."""

_PIECE: Final = 32
"""Samples normalised at a time: 2 MB of bfloat16, which fits a core's cache."""


def patches_of(frames: Tensor) -> Tensor:
    """Rearranges stacks of frames into 4x4-pixel patches, all four frames in one patch.

    A convolution of stride 4 over the stack equals one of stride 1 over the patches, with 64
    channels instead of 4, so processors multiply full vectors. A training step takes about half the
    time in float32 and a tenth less in bfloat16.

    Args:
        frames: uint8 [N, 4, H, W]; H and W are multiples of 4.

    Returns:
        uint8 [N, H/4, W/4, 64]; the last axis is (frame, row in the patch, column in the patch),
        as in `torch.nn.functional.pixel_unshuffle`.
    """
    count, stack, height, width = frames.shape
    rows, columns = height // PATCH, width // PATCH
    # Moving four neighbouring pixels as one 32-bit word is eight times faster than one by one. Two
    # steps, rows of words first: torch copies long runs faster than it gathers runs of four.
    words = frames.contiguous().view(torch.int32).view(count, stack, rows, PATCH, columns)
    bands = words.permute(0, 2, 1, 3, 4).contiguous()
    moved = bands.view(count * rows, stack * PATCH, columns).transpose(1, 2).contiguous()
    return moved.view(torch.uint8).view(count, rows, columns, stack * PATCH * PATCH)


class _Weights(NamedTuple):
    """Parameters in the dtype and memory layout of the matrix products."""

    convolutions: list[tuple[Tensor, Tensor, tuple[int, int]]]  # weight, bias, stride
    dense: tuple[Tensor, Tensor]


class ActorCritic(nn.Module):
    """Maps stacks of frames to a policy and a value.

    Attributes:
        frame_mean: float32 [84, 84], subtracted from every frame. Zero until calibrated.
        frame_scale: float32 [], divides the difference. 255 until calibrated.
        precision: of the matrix products. With ``bfloat16``, parameters, gradients, normalisation
            and the last layers stay float32; training takes about half the time on processors that
            multiply bfloat16 natively.
    """

    frame_mean: Tensor
    frame_scale: Tensor

    def __init__(self, num_actions: int, shape: Shape) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.precision: Precision = "float32"
        self._held: tuple[Tensor, _Weights] | None = None  # mean frame and parameters, converted
        convolutions: list[nn.Conv2d] = []
        channels, side = STACK, FRAME_SIDE
        for outputs, kernel, stride in shape.convolutions:
            convolutions.append(nn.Conv2d(channels, outputs, kernel, stride))
            channels, side = outputs, (side - kernel) // stride + 1
        self.convolutions = nn.ModuleList(convolutions)
        # Its inputs are ordered (row, column, channel), as in memory.
        self.fully_connected = nn.Linear(side * side * channels, shape.hidden)
        self.policy = nn.Linear(shape.hidden, num_actions)
        self.value = nn.Linear(shape.hidden, 1)
        self.register_buffer("frame_mean", torch.zeros(FRAME_SIDE, FRAME_SIDE))
        self.register_buffer("frame_scale", torch.tensor(255.0))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits, float32 [N, A], and values, float32 [N].

        Args:
            frames: uint8 [N, 4, 84, 84].
        """
        return self.of_inputs(self.inputs_of(frames))

    def inputs_of(self, frames: Tensor) -> Tensor:
        """Returns the first layer's input: patches minus their mean.

        It depends on no parameter, so passes over the same frames share it.

        Args:
            frames: uint8 [N, 4, 84, 84].

        Returns:
            [N, 21, 21, 64] in the dtype of `precision`; axes as in `patches_of`.
        """
        mean = self._mean()
        side = FRAME_SIDE // PATCH
        shape = (len(frames), side, side, STACK * PATCH * PATCH)
        inputs = torch.empty(shape, dtype=mean.dtype, device=mean.device)
        # In pieces, so that a piece is still in the cache when the mean is subtracted.
        for some, out in zip(torch.split(frames, _PIECE), torch.split(inputs, _PIECE), strict=True):
            torch.sub(patches_of(some).to(mean.dtype), mean, out=out)
        return inputs

    def of_inputs(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the outputs of `forward` for inputs prepared with `inputs_of`.

        Args:
            inputs: [N, 21, 21, 64] in the dtype of `precision`.
        """
        weights = self._weights()
        hidden = inputs.permute(0, 3, 1, 2)
        for weight, bias, stride in weights.convolutions:
            hidden = F.relu(F.conv2d(hidden, weight, bias, stride))
        hidden = hidden.permute(0, 2, 3, 1).flatten(1)  # the order in memory: no copy
        hidden = F.relu(F.linear(hidden, *weights.dense)).float()
        # The last layers stay float32: a logit of 4 in bfloat16 is off by up to 0.016, and so are
        # the ratios, for a clip range of 0.1.
        return self.policy(hidden), self.value(hidden).squeeze(-1)

    def hold_for_inference(self) -> None:
        """Converts the parameters once for all later passes in `torch.inference_mode`.

        For eight frames the conversion takes a third of a forward pass. Call this again after every
        change of the parameters, or inference uses some of the old ones.
        """
        self._held = None
        with torch.inference_mode():
            self._held = (self._mean(), self._weights())

    def multiplied(self) -> frozenset[str]:
        """Returns the names of the parameters that forward passes round to `precision` unchanged.

        Rounding them to bfloat16 beforehand changes no pass in bfloat16. The first convolution's
        weight is not among them: it is divided by `frame_scale` before it is rounded.
        """
        layers = ("convolutions.", "fully_connected.")
        names = {name for name, _ in self.named_parameters() if name.startswith(layers)}
        return frozenset(names - {"convolutions.0.weight"})

    @property
    def _dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def _mean(self) -> Tensor:
        if self._held is not None and torch.is_inference_mode_enabled():
            return self._held[0]
        mean = F.pixel_unshuffle(self.frame_mean.expand(STACK, -1, -1), PATCH).permute(1, 2, 0)
        # In the patches' layout: subtracting across layouts takes ten times as long.
        return mean.to(self._dtype, memory_format=torch.contiguous_format)

    def _weights(self) -> _Weights:
        if self._held is not None and torch.is_inference_mode_enabled():
            return self._held[1]
        dtype = self._dtype
        convolutions = []
        for number, layer in enumerate(self.convolutions):
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            weight, stride = layer.weight, (layer.stride[0], layer.stride[1])
            if number == 0:  # dividing 4,096 weights equals dividing 28,224 inputs
                weight, stride = F.pixel_unshuffle(weight / self.frame_scale, PATCH), (1, 1)
            weight = weight.to(dtype, memory_format=torch.channels_last)
            convolutions.append((weight, layer.bias.to(dtype), stride))
        dense = self.fully_connected
        return _Weights(
            convolutions=convolutions,
            dense=(dense.weight.to(dtype), dense.bias.to(dtype)),
        )


def make_network(num_actions: int, name: str, seed: int | None = None) -> ActorCritic:
    """Returns a network with orthogonal weights (Saxe et al. 2014) and zero biases.

    The policy's last layer is scaled by 0.01, so that the initial policy is nearly uniform
    (Andrychowicz et al. 2021, "What matters in on-policy reinforcement learning?").

    Args:
        num_actions: A.
        name: a key of `NETWORKS`.
        seed: of the weights; None keeps torch's defaults, for weights that are loaded later.

    Raises:
        ValueError: no network has this name.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; use one of {', '.join(NETWORKS)}")
    network = ActorCritic(num_actions, NETWORKS[name])
    if seed is None:
        return network
    generator = torch.Generator().manual_seed(seed)
    gains: dict[nn.Module, float] = {network.policy: 0.01, network.value: 1.0}
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            gain = gains.get(module, math.sqrt(2))
            nn.init.orthogonal_(module.weight, gain, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
