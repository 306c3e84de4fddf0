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
    stacks = np.empty((steps + 1, envs, STACK, *frames.shape[2:]), dtype=np.uint8)
    _stack_into(stacks, frames, ends)
    return stacks


def _stack_into(stacks: UInt8, frames: UInt8, ends: UInt8) -> None:
    """Writes what `stack_frames` returns into `stacks`, which may be a part of a larger array."""
    steps, envs = ends.shape
    if frames.shape[:2] != (envs, steps + STACK):
        raise ValueError(f"frames {frames.shape} do not fit ends {ends.shape}")
    windows = np.lib.stride_tricks.sliding_window_view(frames, STACK, axis=1)
    np.copyto(stacks, windows.transpose(1, 0, 4, 2, 3))
    for step, env in np.argwhere(ends != GOES_ON):
        # Stack step+1 is the new episode's first: one frame of its own, the next one two, ...
        for own in range(1, STACK):
            if step + own <= steps:
                stacks[step + own, env, : STACK - own] = 0


def batch_of(trajectories: Sequence[Trajectory], discount: float) -> Batch:
    """Puts trajectories of the same T side by side.

    Args:
        trajectories: at least one; B is the sum of their environments.
        discount: gamma.
    """
    parts = [_columns(trajectory, discount) for trajectory in trajectories]
    actions, log_probs, rewards, discounts = (
        torch.from_numpy(np.concatenate(column, axis=1)) for column in zip(*parts, strict=True)
    )
    frames = torch.from_numpy(_frames_of(trajectories))
    return Batch(frames, actions, log_probs, rewards, discounts)


def _frames_of(trajectories: Sequence[Trajectory]) -> UInt8:
    """Returns the stacks of all, uint8 [T+1, B, 4, H, W].

    Written once, where they stay: at 28 kB a sample, every copy more costs the learner as much as
    all decoding.
    """
    steps = trajectories[0].actions.shape[0]
    envs = [trajectory.actions.shape[1] for trajectory in trajectories]
    side = trajectories[0].frames.shape[2:]
    stacks = np.empty((steps + 1, sum(envs), STACK, *side), dtype=np.uint8)
    start = 0
    for trajectory, count in zip(trajectories, envs, strict=True):
        _stack_into(stacks[:, start : start + count], trajectory.frames, trajectory.ends)
        start += count
    return stacks


def _columns(trajectory: Trajectory, discount: float) -> tuple[np.ndarray, ...]:
    rewards = trajectory.rewards.astype(np.float32)  # a copy: the message is read-only
    rewards[trajectory.ends == TRUNCATED] += np.float32(discount) * trajectory.bootstrap_values
    return (
        trajectory.actions.astype(np.int64),
        trajectory.behaviour_log_probs.astype(np.float32),
        rewards,
        np.where(trajectory.ends == GOES_ON, np.float32(discount), np.float32(0)),
    )
