"""Batches from trajectories: frame stacks, rewards, discounts, time-major order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import builders
from asyncade_proto.messages import GOES_ON, STACK, TERMINATED, TRUNCATED, Trajectory
from asyncade_rl.batch import batch_of, batches_of, stack_frames

UInt8 = npt.NDArray[np.uint8]

H, W = 3, 2
GAMMA = 0.9


def oracle(frames: UInt8, ends: UInt8) -> UInt8:
    """Stacks the unroll's frames one by one, as the environment did."""
    steps, envs = ends.shape
    stacks = np.zeros((steps + 1, envs, STACK, H, W), dtype=np.uint8)
    for env in range(envs):
        seen = list(frames[env, :STACK])
        stacks[0, env] = seen
        for step in range(steps):
            nothing = [np.zeros((H, W), dtype=np.uint8)] * (STACK - 1)
            before = seen[1:] if ends[step, env] == GOES_ON else nothing
            seen = [*before, frames[env, step + STACK]]
            stacks[step + 1, env] = seen
    return stacks


def some_frames(envs: int, steps: int) -> UInt8:
    """Returns frames without a zero, so that only padding is black."""
    rng = np.random.default_rng(envs + steps)
    return rng.integers(1, 256, size=(envs, steps + STACK, H, W), dtype=np.uint8)


def some_trajectory(ends: Any, seed: int = 0) -> Trajectory:
    rng = np.random.default_rng(seed)
    ends = np.array(ends, dtype=np.uint8)
    steps, envs = ends.shape
    trajectory = builders.trajectory(
        frames=some_frames(envs, steps),
        actions=rng.integers(6, size=ends.shape, dtype=np.uint8),
        behaviour_log_probs=-rng.random(ends.shape, dtype=np.float32),
        rewards=rng.normal(size=ends.shape).astype(np.float32),
        ends=ends,
        bootstrap_values=rng.normal(size=(ends == TRUNCATED).sum()).astype(np.float32),
    )
    for array in (trajectory.rewards, trajectory.frames):
        array.flags.writeable = False  # as from the wire
    return trajectory


@pytest.mark.parametrize("steps", range(1, 8))
def test_stacks_are_rebuilt_for_every_pattern_of_ends(steps: int) -> None:
    """One environment for each of the 2^T patterns of ends."""
    patterns = np.arange(2**steps)[None] >> np.arange(steps)[:, None] & 1
    ends = (patterns * np.where(np.arange(2**steps) % 3, TERMINATED, TRUNCATED)).astype(np.uint8)
    frames = some_frames(2**steps, steps)
    np.testing.assert_array_equal(stack_frames(frames, ends), oracle(frames, ends))


def test_the_first_stack_is_kept() -> None:
    frames = some_frames(1, 2)
    frames[0, :2] = 0  # an episode of two frames
    stacks = stack_frames(frames, np.full((2, 1), GOES_ON, dtype=np.uint8))
    np.testing.assert_array_equal(stacks[0, 0], frames[0, :4])
    np.testing.assert_array_equal(stacks[2, 0], frames[0, 2:])


def test_stacking_does_not_change_the_frames() -> None:
    trajectory = some_trajectory([[TERMINATED]] * 5)
    before = trajectory.frames.copy()
    stack_frames(trajectory.frames, trajectory.ends)[:] = 7
    np.testing.assert_array_equal(trajectory.frames, before)


@pytest.mark.parametrize(
    "shape",
    [(2, 5 + STACK + 1), (2, 5 + STACK - 1), (3, 5 + STACK), (5, 2 + STACK)],
    ids=["a frame too many", "too few", "another environment", "transposed"],
)
def test_mismatched_frames_and_ends_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        stack_frames(np.zeros((*shape, H, W), np.uint8), np.zeros((5, 2), np.uint8))


def test_ends_set_rewards_and_discounts() -> None:
    ends = [[GOES_ON, TRUNCATED], [TERMINATED, GOES_ON], [TRUNCATED, TRUNCATED]]
    trajectory = some_trajectory(ends)
    batch = batch_of([trajectory], GAMMA)
    first, second, third = trajectory.bootstrap_values  # in the order of `ends`: by time
    cut_off = np.array([[0, first], [0, 0], [second, third]])
    np.testing.assert_allclose(batch.rewards, trajectory.rewards + GAMMA * cut_off, rtol=1e-6)
    np.testing.assert_array_equal(batch.discounts, np.float32([[GAMMA, 0], [0, GAMMA], [0, 0]]))


def test_a_batch_joins_trajectories_along_environments() -> None:
    """Each environment's column is the same as in a batch of its trajectory alone."""
    endings = [[[GOES_ON] * 2, [TRUNCATED, GOES_ON]] * 2, [[TRUNCATED]] * 4, [[GOES_ON] * 3] * 4]
    parts = [some_trajectory(ends, seed) for seed, ends in enumerate(endings)]
    batch = batch_of(parts, GAMMA)
    assert batch.frames.shape == (5, 6, STACK, H, W)
    assert batch.frames.dtype == torch.uint8
    assert batch.actions.dtype == torch.int64
    for name in ("actions", "behaviour_log_probs", "rewards", "discounts"):
        assert getattr(batch, name).shape == (4, 6)
    for name in ("behaviour_log_probs", "rewards", "discounts"):
        assert getattr(batch, name).dtype == torch.float32
    start = 0
    for part in parts:
        columns = slice(start, start := start + part.ends.shape[1])
        alone = batch_of([part], GAMMA)
        for name in ("frames", "actions", "behaviour_log_probs", "rewards", "discounts"):
            assert torch.equal(getattr(batch, name)[:, columns], getattr(alone, name)), name
        np.testing.assert_array_equal(alone.actions, part.actions)
        np.testing.assert_array_equal(alone.behaviour_log_probs, part.behaviour_log_probs)
        np.testing.assert_array_equal(alone.frames, oracle(part.frames, part.ends))


def test_unrolls_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="dimension"):
        batch_of([some_trajectory([[GOES_ON]] * steps) for steps in (3, 4)], GAMMA)


def test_unrolls_are_joined_by_their_length() -> None:
    parts = [some_trajectory([[GOES_ON]] * steps, seed) for seed, steps in enumerate((3, 4, 3))]
    three, four = batches_of(parts, GAMMA)
    for batch, those in ((three, [parts[0], parts[2]]), (four, [parts[1]])):
        alone = batch_of(those, GAMMA)
        for name in ("frames", "actions", "behaviour_log_probs", "rewards", "discounts"):
            assert torch.equal(getattr(batch, name), getattr(alone, name)), name


def test_moving_a_batch_keeps_dtypes_and_shapes() -> None:
    batch = batch_of([some_trajectory([[GOES_ON], [TRUNCATED]])], GAMMA)
    moved = batch.to(torch.device("meta"))
    for name in ("frames", "actions", "behaviour_log_probs", "rewards", "discounts"):
        there, here = getattr(moved, name), getattr(batch, name)
        assert (there.device.type, there.dtype, there.shape) == ("meta", here.dtype, here.shape)
