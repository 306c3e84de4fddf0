"""The policy and value network: the classic convolutional actor-critic (Mnih et al. 2015, 2016).

Input normalisation is part of the network: the statistics are buffers, so they travel with the
weights and lie in the checkpoint. On Pong they are worth more than every other choice together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from asyncade_proto.messages import STACK
from asyncade_rl.games import FRAME_SIDE
from asyncade_rl.shapes import NETWORKS, Precision, Shape


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
        layers: list[nn.Module] = []
        channels, side = STACK, FRAME_SIDE
        for outputs, kernel, stride in shape.convolutions:
            layers += [nn.Conv2d(channels, outputs, kernel, stride), nn.ReLU()]
            channels, side = outputs, (side - kernel) // stride + 1
        layers += [nn.Flatten(), nn.Linear(channels * side * side, shape.hidden), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.policy = nn.Linear(shape.hidden, num_actions)
        self.value = nn.Linear(shape.hidden, 1)
        self.register_buffer("frame_mean", torch.zeros(FRAME_SIDE, FRAME_SIDE))
        self.register_buffer("frame_scale", torch.tensor(255.0))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits, float32 [N, A], and values, float32 [N].

        Args:
            frames: uint8 [N, 4, 84, 84], kept so until inside the network: a quarter of the bytes.
        """
        normalised = torch.sub(frames, self.frame_mean).div_(self.frame_scale)
        with torch.autocast(
            frames.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            hidden = self.body(normalised).float()
        # The last layers stay float32: a logit of 4 in bfloat16 is off by up to 0.016, and so the
        # ratios, which a clip range of 0.1 is to tell apart.
        return self.policy(hidden), self.value(hidden).squeeze(-1)


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


def fastest_precision() -> Precision:
    """Returns bfloat16 where this processor has instructions for it (AVX512-BF16), else float32.

    Elsewhere bfloat16 is emulated, and slower than float32.
    """
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bfloat16" if supported() else "float32"
