"""Stacks trajectories into the time-major batch that the losses are computed on.

The meaning of index t, here and everywhere else:

    frames[t]               the observation before step t: the stack x_t          t in [0, T]
    actions[t]              the action in step t, from the behaviour policy       t in [0, T)
    behaviour_log_probs[t]  log mu(actions[t] | frames[t])
    rewards[t]              the reward of step t
    discounts[t]            the discount of everything after step t: gamma, or 0 if the episode
                            ended in step t. Then frames[t + 1] is the next episode's first stack.

frames[T] serves the bootstrap value only. A truncated episode has a future that the unroll does not
show: rewards[t] then includes gamma times the behaviour network's value of the final observation,
and discounts[t] is 0 (Pardo et al. 2018, "Time limits in reinforcement learning").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asyncade_proto.messages import GOES_ON, STACK, TRUNCATED, Trajectory, UInt8


class Batch(NamedTuple):
    """Unrolls of T steps of B environments; index t as in the module's docstring.

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
        """Returns the batch on a device; frames stay uint8."""
        return Batch(*(tensor.to(device) for tensor in self))


def stack_frames(frames: UInt8, ends: UInt8, out: UInt8 | None = None) -> UInt8:
    """Rebuilds the observation of every step, bit for bit.

    Args:
        frames: uint8 [E, T+4, H, W], each frame once (`asyncade_proto.messages.Trajectory.frames`).
        ends: uint8 [T, E].
        out: array for the result, possibly a slice of a larger one; None makes a new one.

    Returns:
        uint8 [T+1, E, 4, H, W]: stack t is frames t..t+3, with zeros for frames of an earlier
        episode.

    Raises:
        ValueError: frames and ends differ in T or E.
    """
    steps, envs = ends.shape
    if frames.shape[:2] != (envs, steps + STACK):
        raise ValueError(f"frames {frames.shape} do not fit ends {ends.shape}")
    if out is None:
        out = np.empty((steps + 1, envs, STACK, *frames.shape[2:]), dtype=np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(frames, STACK, axis=1)
    np.copyto(out, windows.transpose(1, 0, 4, 2, 3))
    for step, env in np.argwhere(ends != GOES_ON):
        # Stack step+1 is the new episode's first, with one frame of its own; the next has two, ...
        for own in range(1, STACK):
            if step + own <= steps:
                out[step + own, env, : STACK - own] = 0
    return out


def batch_of(trajectories: Sequence[Trajectory], discount: float) -> Batch:
    """Joins trajectories of the same T into one batch.

    Args:
        trajectories: at least one; B is the sum of their E.
        discount: gamma.
    """
    parts = [_columns(trajectory, discount) for trajectory in trajectories]
    actions, log_probs, rewards, discounts = (
        torch.from_numpy(np.concatenate(column, axis=1)) for column in zip(*parts, strict=True)
    )
    frames = torch.from_numpy(_frames_of(trajectories))
    return Batch(frames, actions, log_probs, rewards, discounts)


def batches_of(trajectories: Sequence[Trajectory], discount: float) -> list[Batch]:
    """Joins trajectories of any T into one batch for each T; see `batch_of`."""
    by_length: dict[int, list[Trajectory]] = {}
    for trajectory in trajectories:
        by_length.setdefault(len(trajectory.actions), []).append(trajectory)
    return [batch_of(those, discount) for those in by_length.values()]


def _frames_of(trajectories: Sequence[Trajectory]) -> UInt8:
    """Returns the stacks of all trajectories, uint8 [T+1, B, 4, H, W].

    They are written in place: at 28 kB per sample, another copy costs the learner as much as all
    decoding.
    """
    steps = trajectories[0].actions.shape[0]
    envs = [trajectory.actions.shape[1] for trajectory in trajectories]
    side = trajectories[0].frames.shape[2:]
    stacks = np.empty((steps + 1, sum(envs), STACK, *side), dtype=np.uint8)
    start = 0
    for trajectory, count in zip(trajectories, envs, strict=True):
        stack_frames(trajectory.frames, trajectory.ends, stacks[:, start : start + count])
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
