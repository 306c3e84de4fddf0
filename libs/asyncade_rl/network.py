"""The policy and value network: the classic convolutional actor-critic (Mnih et al. 2015, 2016).

Input normalisation is part of the network: the statistics are buffers, so they travel with the
weights and lie in the checkpoint. On Pong they are worth more than every other choice together.
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
"""Samples that are normalised at a time: 2 MB of bfloat16, what a core's cache holds."""


def patches_of(frames: Tensor) -> Tensor:
    """Cuts stacks of frames into patches of 4x4 pixels, each with all its frames together.

    A convolution of stride 4 over the stack is one of stride 1 over these, with 64 channels in
    place of 4: processors then multiply full vectors. In float32 a training step takes about half
    the time, in bfloat16 a tenth less.

    Args:
        frames: uint8 [N, 4, H, W]; H and W are multiples of 4.

    Returns:
        uint8 [N, H/4, W/4, 64]; the last axis is (frame, row in the patch, column in the patch),
        as in `torch.nn.functional.pixel_unshuffle`.
    """
    count, stack, height, width = frames.shape
    rows, columns = height // PATCH, width // PATCH
    # Four neighbouring pixels are moved as one 32-bit word: eight times faster than one by one. And
    # in two steps, rows of words first: torch copies long runs faster than it gathers runs of four.
    words = frames.contiguous().view(torch.int32).view(count, stack, rows, PATCH, columns)
    bands = words.permute(0, 2, 1, 3, 4).contiguous()
    moved = bands.view(count * rows, stack * PATCH, columns).transpose(1, 2).contiguous()
    return moved.view(torch.uint8).view(count, rows, columns, stack * PATCH * PATCH)


class _Weights(NamedTuple):
    """Parameters as the multiplications take them: in their dtype and memory layout."""

    convolutions: list[tuple[Tensor, Tensor, tuple[int, int]]]  # weight, bias, stride
    dense: tuple[Tensor, Tensor]


class ActorCritic(nn.Module):
    """Frames to a policy and a value.

    Attributes:
        frame_mean: float32 [84, 84], subtracted from every frame. Zero until calibrated.
        frame_scale: float32 [], divides the difference. 255 until calibrated.
        precision: of multiplications. With ``bfloat16`` parameters, gradients, normalisation and
            the last layers stay float32, and training takes about half the time where the processor
            multiplies bfloat16 itself.
    """

    frame_mean: Tensor
    frame_scale: Tensor

    def __init__(self, num_actions: int, shape: Shape) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.precision: Precision = "float32"
        self._held: tuple[Tensor, _Weights] | None = None  # the mean of frames, and parameters
        convolutions: list[nn.Conv2d] = []
        channels, side = STACK, FRAME_SIDE
        for outputs, kernel, stride in shape.convolutions:
            convolutions.append(nn.Conv2d(channels, outputs, kernel, stride))
            channels, side = outputs, (side - kernel) // stride + 1
        self.convolutions = nn.ModuleList(convolutions)
        # Its inputs are ordered (row, column, channel), as they lie in memory.
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
        """Returns what the first layer takes in: patches, less their mean.

        It depends on no parameter: passes over the same frames share it.

        Args:
            frames: uint8 [N, 4, 84, 84].

        Returns:
            [N, 21, 21, 64] in the dtype of `precision`; axes as in `patches_of`.
        """
        mean = self._mean()
        side = FRAME_SIDE // PATCH
        shape = (len(frames), side, side, STACK * PATCH * PATCH)
        inputs = torch.empty(shape, dtype=mean.dtype, device=mean.device)
        # Piece by piece, so that a piece is still in the cache when its mean is subtracted.
        for some, out in zip(torch.split(frames, _PIECE), torch.split(inputs, _PIECE), strict=True):
            torch.sub(patches_of(some).to(mean.dtype), mean, out=out)
        return inputs

    def of_inputs(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what `forward` does, from what `inputs_of` returned.

        Args:
            inputs: [N, 21, 21, 64] in the dtype of `precision`.
        """
        weights = self._weights()
        hidden = inputs.permute(0, 3, 1, 2)
        for weight, bias, stride in weights.convolutions:
            hidden = F.relu(F.conv2d(hidden, weight, bias, stride))
        hidden = hidden.permute(0, 2, 3, 1).flatten(1)  # as it lies in memory: nothing moves
        hidden = F.relu(F.linear(hidden, *weights.dense)).float()
        # The last layers stay float32: a logit of 4 in bfloat16 is off by up to 0.016, and so the
        # ratios, which a clip range of 0.1 is to tell apart.
        return self.policy(hidden), self.value(hidden).squeeze(-1)

    def hold_for_inference(self) -> None:
        """Converts the parameters once for all later passes in `torch.inference_mode`.

        For eight frames the conversion takes a third of a forward pass. Whoever changes parameters
        must call this again, or inference goes on with old ones among them.
        """
        self._held = None
        with torch.inference_mode():
            self._held = (self._mean(), self._weights())

    @property
    def _dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def _mean(self) -> Tensor:
        if self._held is not None and torch.is_inference_mode_enabled():
            return self._held[0]
        mean = F.pixel_unshuffle(self.frame_mean.expand(STACK, -1, -1), PATCH).permute(1, 2, 0)
        # In the patches' own layout: subtracting across layouts takes ten times as long.
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
            if number == 0:  # dividing 4,096 weights does what dividing 28,224 inputs would
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

    The policy's last layer is scaled by 0.01, so that the first policy is nearly uniform
    (Andrychowicz et al. 2021, "What matters in on-policy reinforcement learning?").

    Args:
        num_actions: A.
        name: a key of `NETWORKS`.
        seed: of the weights; None leaves torch's defaults, for a network whose weights are loaded.

    Raises:
        ValueError: no network has this name.
    """
    if name not in NETWORKS:
        raise ValueError(f"there is no network {name!r}; use one of {', '.join(NETWORKS)}")
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
