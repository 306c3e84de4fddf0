"""Trajectories to the time-major batch that learning works on.

What index t means, here and everywhere else:

    frames[t]               what was seen before step t: the stack x_t            t in [0, T]
    actions[t]              what was done then, drawn from the behaviour policy   t in [0, T)
    behaviour_log_probs[t]  log mu(actions[t] | frames[t])
    rewards[t]              what came of it
    discounts[t]            what the future after step t is worth: gamma, 0 if the episode ended
                            in step t. Then frames[t + 1] is the next episode's first stack.

frames[T] is there for the bootstrap value alone. Where the time limit cut an episode off, its
future is not worthless: rewards[t] then holds gamma times the behaviour network's value of the
observation that was cut off, and discounts[t] is 0 (Pardo et al. 2018, "Time limits in RL").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asyncade_proto.messages import GOES_ON, STACK, TRUNCATED, Trajectory, UInt8


@dataclass(frozen=True, slots=True)
class Batch:
    """B environments' unrolls of T steps; the module's docstring says what index t means.

    Attributes:
        frames: uint8 [T+1, B, 4, H, W].
        actions: int64 [T, B].
        behaviour_log_probs: float32 [T, B].
        rewards: float32 [T, B].
        discounts: float32 [T, B].
    """

    frames: Tensor
    actions: Tensor
    behaviour_log_probs: Tensor
    rewards: Tensor
    discounts: Tensor

    def to(self, device: torch.device) -> Batch:
        """Returns the batch on a device; frames move as uint8."""
        return Batch(
            frames=self.frames.to(device),
            actions=self.actions.to(device),
            behaviour_log_probs=self.behaviour_log_probs.to(device),
            rewards=self.rewards.to(device),
            discounts=self.discounts.to(device),
        )


def stack_frames(frames: UInt8, ends: UInt8) -> UInt8:
    """Rebuilds what every step saw, bit for bit.

    Args:
        frames: uint8 [E, T+4, H, W], each frame once (`asyncade_proto.messages.Trajectory.frames`).
        ends: uint8 [T, E].

    Returns:
        uint8 [T+1, E, 4, H, W]: stack t is frames t..t+3, but zeros where those are of an episode
        that had ended before.
    """
    steps, envs = ends.shape
    height, width = frames.shape[2:]
    if frames.shape[:2] != (envs, steps + STACK):
        raise ValueError(f"frames {frames.shape} do not fit ends {ends.shape}")
    windows = np.lib.stride_tricks.sliding_window_view(frames, STACK, axis=1)
    stacks = np.empty((steps + 1, envs, STACK, height, width), dtype=np.uint8)
    np.copyto(stacks, windows.transpose(1, 0, 4, 2, 3))
    for step, env in np.argwhere(ends != GOES_ON):
        # Stack step+1 is the new episode's first: one frame of its own, the next one two, ...
        for own in range(1, STACK):
            if step + own <= steps:
                stacks[step + own, env, : STACK - own] = 0
    return stacks


def batch_of(trajectories: Sequence[Trajectory], discount: float) -> Batch:
    """Puts trajectories of the same T side by side.

    Args:
        trajectories: at least one; B is the sum of their environments.
        discount: gamma.
    """
    parts = [_columns(trajectory, discount) for trajectory in trajectories]
    frames, actions, log_probs, rewards, discounts = (
        torch.from_numpy(column[0] if len(column) == 1 else np.concatenate(column, axis=1))
        for column in zip(*parts, strict=True)
    )
    return Batch(frames, actions, log_probs, rewards, discounts)


def _columns(trajectory: Trajectory, discount: float) -> tuple[np.ndarray, ...]:
    rewards = trajectory.rewards.astype(np.float32)  # a copy: the message is read-only
    rewards[trajectory.ends == TRUNCATED] += np.float32(discount) * trajectory.bootstrap_values
    return (
        stack_frames(trajectory.frames, trajectory.ends),
        trajectory.actions.astype(np.int64),
        trajectory.behaviour_log_probs.astype(np.float32),
        rewards,
        np.where(trajectory.ends == GOES_ON, np.float32(discount), np.float32(0)),
    )
