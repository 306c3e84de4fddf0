"""Gradients and weights of a tiny network, to be built field by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from asyncade_proto.messages import Assignment, Episodes, Gradients, Objective, Request, Weights

MODEL = "0123456789abcdef"
SHAPES: dict[str, tuple[int, ...]] = {"policy.weight": (2, 3), "policy.bias": (3,), "scale": ()}
SAMPLES = 240  # of a learner's update, for this relay's actors to share
RUN = 7


def make_gradients(
    actor_id: str = "a",
    sequence: int = 0,
    policy_version: int = 1,
    *,
    samples: int = 10,
    env_steps: int = 0,
    returns: Sequence[float] = (),
    seed: int = 0,
    **changes: Any,
) -> Gradients:
    draw = np.random.default_rng([seed, samples, sequence])
    tensors = {n: draw.normal(size=s).astype(np.float32) for n, s in SHAPES.items()}
    said: dict[str, Any] = {
        "actor_id": actor_id,
        "sequence": sequence,
        "policy_version": policy_version,
        "model": MODEL,
        "samples": samples,
        "env_steps": env_steps,
        "tensors": {name: np.asarray(tensor) for name, tensor in tensors.items()},
        "losses": {"total": float(draw.normal()), "value": float(draw.normal())},
        "episodes": Episodes(
            returns=np.array(returns, np.float32),
            lengths=np.arange(1, len(returns) + 1, dtype=np.int32),
        ),
    }
    return Gradients(**said | changes)


def make_weights(
    policy_version: int = 1,
    request: Request = "gradients",
    *,
    received: Mapping[str, int] | None = None,
    messages_in_flight: int = 1,
    **changes: Any,
) -> Weights:
    said: dict[str, Any] = {
        "run": RUN,
        "policy_version": policy_version,
        "model": MODEL,
        "assignment": Assignment(
            request=request,
            game="catch",
            repeat_action_probability=0.0,
            network="small",
            unroll_length=8,
            messages_in_flight=messages_in_flight,
            seed=0,
            objective=Objective(
                discount=0.99,
                lambda_=0.95,
                rho_clip=1.0,
                clip=0.1,
                passes=4,
                minibatch_size=SAMPLES,
                entropy_cost=0.01,
                value_cost=0.5,
                normalise_advantages=True,
            ),
        ),
        "received": {} if received is None else received,
        "safetensors": bytes(range(200)),
        "published_at": 1_000_000.0,
    }
    return Weights(**said | changes)


@pytest.fixture
def gradients() -> Callable[..., Gradients]:
    return make_gradients


@pytest.fixture
def weights() -> Callable[..., Weights]:
    return make_weights
