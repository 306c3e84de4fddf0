"""Which messages a learner uses, why it drops the others, and how it counts lost ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from asyncade_learner.intake import DROP_REASONS, DropReason, Intake
from asyncade_proto.messages import Episodes, Gradients, Request, Trajectory, Upstream
from asyncade_runtime.verdicts import Accepted, Dropped

E, T, SIDE, ACTIONS = 2, 3, 8, 4
NOW = 10  # the learner's version
SHAPES = {"weight": (2, 3), "bias": (2,)}


def intake() -> Intake:
    return Intake(
        model="m",
        parameter_shapes=SHAPES,
        num_actions=ACTIONS,
        frame_shape=(SIDE, SIDE),
        unroll_length=T,
        max_policy_lag=2,
    )


NO_EPISODES = Episodes(returns=np.zeros(0, np.float32), lengths=np.zeros(0, np.int32))
HEADER: dict[str, Any] = {"actor_id": "a", "sequence": 0, "policy_version": NOW, "model": "m"}


def trajectory(steps: int = T, side: int = SIDE, action: int = 0, **header: Any) -> Trajectory:
    return Trajectory(
        **HEADER | header,
        frames=np.zeros((E, steps + 4, side, side), np.uint8),
        actions=np.full((steps, E), action, np.uint8),
        behaviour_log_probs=np.zeros((steps, E), np.float32),
        rewards=np.zeros((steps, E), np.float32),
        ends=np.zeros((steps, E), np.uint8),
        bootstrap_values=np.zeros(0, np.float32),
        episodes=NO_EPISODES,
    )


def gradients(shapes: dict[str, tuple[int, ...]] = SHAPES, **header: Any) -> Gradients:
    return Gradients(
        **HEADER | header,
        samples=E * T,
        env_steps=E * T,
        tensors={name: np.zeros(shape, np.float32) for name, shape in shapes.items()},
        losses={"total": 0.0},
        episodes=NO_EPISODES,
    )


def offered(message: Upstream, request: Request | None = None) -> Accepted | Dropped[DropReason]:
    kind: Request = "trajectories" if isinstance(message, Trajectory) else "gradients"
    return intake().offer(message, policy_version=NOW, request=request or kind)


@pytest.mark.parametrize("lag", [0, 1, 2])
@pytest.mark.parametrize("make", [trajectory, gradients])
def test_what_fits_is_accepted_with_its_lag(make: Any, lag: int) -> None:
    assert offered(make(policy_version=NOW - lag)) == Accepted(policy_lag=lag, lost=0)


@pytest.mark.parametrize(
    ("message", "reason", "detail"),
    [
        (trajectory(policy_version=NOW - 3), "stale", "3 versions old, over 2"),
        (gradients(policy_version=0), "stale", "10 versions old, over 2"),
        (trajectory(policy_version=NOW + 1), "future", "version 11 > 10"),
        (gradients(policy_version=NOW + 1), "future", "version 11 > 10"),
        (trajectory(model="other"), "model", "a has network other, this is m"),
        (gradients(model="other", policy_version=0), "model", "a has network other, this is m"),
        (trajectory(steps=T + 1), "shape", "4 steps of frames [8, 8]"),
        (trajectory(steps=T - 1), "shape", "2 steps of frames [8, 8]"),
        (trajectory(side=SIDE + 1), "shape", "3 steps of frames [9, 9]"),
        (gradients({"weight": (3, 2), "bias": (2,)}), "shape", "gradients differ at weight"),
        (gradients({"weight": (2, 3)}), "shape", "gradients differ at bias"),
        (gradients(SHAPES | {"more": (1,)}), "shape", "gradients differ at extra tensors"),
        (trajectory(action=ACTIONS), "action", "4, the game has 4"),
    ],
)
def test_what_does_not_fit_is_dropped(message: Upstream, reason: str, detail: str) -> None:
    verdict = offered(message)
    assert isinstance(verdict, Dropped)
    assert (verdict.reason, verdict.detail) == (reason, detail)
    assert verdict.reason in DROP_REASONS


@pytest.mark.parametrize(
    ("message", "request_"), [(trajectory(), "gradients"), (gradients(), "trajectories")]
)
def test_a_kind_that_is_not_asked_for_is_dropped(message: Upstream, request_: Request) -> None:
    verdict = offered(message, request_)
    assert isinstance(verdict, Dropped)
    assert verdict.reason == "unasked"


def test_the_last_action_and_any_number_of_environments_are_fine() -> None:
    assert isinstance(offered(trajectory(action=ACTIONS - 1)), Accepted)
    one = trajectory()
    single = replace(one, frames=one.frames[:1], actions=one.actions[:, :1])
    assert isinstance(offered(single), Accepted)


def lost(*messages: tuple[str, int]) -> list[int]:
    """What one intake counts for these senders and sequence numbers, in order."""
    one = intake()
    offers = (trajectory(actor_id=actor, sequence=number) for actor, number in messages)
    return [one.offer(m, policy_version=NOW, request="trajectories").lost for m in offers]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([("a", 0), ("a", 1), ("a", 2)], [0, 0, 0]),
        ([("a", 0), ("a", 4), ("a", 5)], [0, 3, 0]),
        ([("a", 7)], [0]),  # a learner that has just started cannot know what went before
        ([("a", 0), ("b", 5), ("a", 2), ("b", 6)], [0, 0, 1, 0]),  # each actor has its own count
        ([("a", 9), ("a", 0), ("a", 1)], [0, 0, 0]),  # started anew under its old name
        ([("a", 9), ("a", 0), ("a", 2)], [0, 0, 1]),  # and then lost one
        ([("a", 3), ("a", 3)], [0, 0]),
    ],
)
def test_gaps_in_the_sequence_are_counted(
    messages: list[tuple[str, int]], expected: list[int]
) -> None:
    assert lost(*messages) == expected


def test_dropped_messages_count_for_the_sequence_too() -> None:
    one = intake()
    for number, version in enumerate([NOW, 0, NOW + 5]):
        one.offer(
            trajectory(sequence=number, policy_version=version),
            policy_version=NOW,
            request="trajectories",
        )
    last = one.offer(trajectory(sequence=4), policy_version=NOW, request="trajectories")
    assert last == Accepted(policy_lag=0, lost=1)
    stale = one.offer(
        trajectory(sequence=7, policy_version=0), policy_version=NOW, request="trajectories"
    )
    assert stale.lost == 2
