"""Messages with plain default values, for tests to override field by field, and a clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from asyncade_proto.messages import (
    STACK,
    TRUNCATED,
    Assignment,
    Episodes,
    Gradients,
    Objective,
    Trajectory,
    Weights,
)
from asyncade_runtime.transport.roles import Inbox

MODEL = "0123456789abcdef"

OBJECTIVE = Objective(
    discount=0.9,
    lambda_=0.8,
    rho_clip=1.0,
    clip=0.1,
    passes=2,
    minibatch_size=4,
    entropy_cost=0.02,
    value_cost=0.7,
    normalise_advantages=True,
    vtrace=True,
    batch_samples=16,
    learning_rate=1e-3,
    max_gradient_norm=0.5,
    adam_epsilon=1e-5,
)

ASSIGNMENT = Assignment(
    request="trajectories",
    game="catch",
    repeat_action_probability=0.0,
    network="small",
    unroll_length=4,
    messages_in_flight=2,
    seed=0,
    objective=OBJECTIVE,
)


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def episodes(*returns: float) -> Episodes:
    """Finished games with these returns; the first lasted one env step, the second two, ..."""
    return Episodes(
        returns=np.array(returns, np.float32),
        lengths=np.arange(1, len(returns) + 1, dtype=np.int32),
    )


def trajectory(steps: int = 3, envs: int = 2, side: int = 2, **fields: Any) -> Trajectory:
    """An unroll of zeros with frames of `side` x `side` pixels."""
    ends = fields.get("ends", np.zeros((steps, envs), np.uint8))
    zeros: dict[str, Any] = {
        "actor_id": "a",
        "sequence": 0,
        "policy_version": 1,
        "model": MODEL,
        "frames": np.zeros((envs, steps + STACK, side, side), np.uint8),
        "actions": np.zeros((steps, envs), np.uint8),
        "behaviour_log_probs": np.zeros((steps, envs), np.float32),
        "rewards": np.zeros((steps, envs), np.float32),
        "ends": ends,
        "bootstrap_values": np.zeros(int((ends == TRUNCATED).sum()), np.float32),
        "episodes": episodes(),
    }
    return Trajectory(**zeros | fields)


def gradients(shapes: Mapping[str, tuple[int, ...]] | None = None, **fields: Any) -> Gradients:
    """A gradient of zeros for parameters of these shapes."""
    shapes = {"weight": (2, 3), "bias": (3,)} if shapes is None else shapes
    zeros: dict[str, Any] = {
        "actor_id": "a",
        "sequence": 0,
        "policy_version": 1,
        "model": MODEL,
        "samples": 10,
        "env_steps": 0,
        "tensors": {name: np.zeros(shape, np.float32) for name, shape in shapes.items()},
        "losses": {"total": 0.0},
        "episodes": episodes(),
    }
    return Gradients(**zeros | fields)


def weights(*, objective: Mapping[str, Any] | None = None, **fields: Any) -> Weights:
    """Weights with `ASSIGNMENT`; its fields and those of `Weights` may be given alike."""
    of_assignment = {n: fields.pop(n) for n in Assignment.__slots__ if n in fields}
    assignment = replace(
        ASSIGNMENT, **of_assignment, objective=replace(OBJECTIVE, **(objective or {}))
    )
    plain: dict[str, Any] = {
        "run": 7,
        "policy_version": 1,
        "model": MODEL,
        "assignment": assignment,
        "received": {},
        "safetensors": bytes(range(200)),
        "published_at": 1_000_000.0,
    }
    return Weights(**plain | fields)


def frame_from(inbox: Inbox, timeout_s: float) -> bytes | None:
    """Returns the next frame, whoever sent it."""
    envelope = inbox.receive(timeout_s)
    return None if envelope is None else envelope.frame
