"""Writes the golden vectors: ``python proto/vectors/make_vectors.py [FOLDER]``.

The values are chosen by hand, so that what a vector must decode to is known without decoding it.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from asyncade_proto.codec import encode
from asyncade_proto.messages import (
    GOES_ON,
    STACK,
    TERMINATED,
    TRUNCATED,
    Assignment,
    Episodes,
    Gradients,
    Message,
    Objective,
    Trajectory,
    Weights,
)

MODEL = "0123456789abcdef"
NO_EPISODES = Episodes(returns=np.zeros(0, np.float32), lengths=np.zeros(0, np.int32))

# Each float32 and what float8_e5m2 keeps of it. It has 2 bits after the point.
FLOAT8_VALUES = [
    (0.0, 0.0),
    (-0.0, -0.0),
    (-2.5, -2.5),
    (1.125, 1.0),  # a tie: down, to the even one
    (1.375, 1.5),  # a tie: up, to the even one
    (1.125 + 2**-10, 1.25),  # just over the tie
    (-(1.125 - 2**-10), -1.0),  # just under it
    (2**-149, 0.0),  # the smallest float32
    (2**-16, 2**-16),  # the smallest float8
    (57_344.0, 57_344.0),  # the largest float8
]


def trajectory() -> Trajectory:
    """Two environments, five steps, frames of 3 x 4 pixels so that no axis can be mistaken."""
    envs, steps, height, width = 2, 5, 3, 4
    frames = np.arange(envs * (steps + STACK) * height * width) // 3 * 3  # zstd can shorten it
    ends = np.full((steps, envs), GOES_ON, np.uint8)
    ends[1, 0] = TERMINATED
    ends[3, 1] = TRUNCATED
    return Trajectory(
        actor_id="actor-7",
        sequence=41,
        policy_version=1000,
        model=MODEL,
        frames=frames.astype(np.uint8).reshape(envs, steps + STACK, height, width),
        actions=(np.arange(steps * envs) % 6).astype(np.uint8).reshape(steps, envs),
        behaviour_log_probs=-np.arange(steps * envs, dtype=np.float32).reshape(steps, envs),
        rewards=np.array([[0, 0], [-1, 0], [0, 1], [0, 0], [0, 0]], np.float32),
        ends=ends,
        bootstrap_values=np.array([0.75], np.float32),
        episodes=Episodes(
            returns=np.array([-21, 3.5], np.float32), lengths=np.array([764, 27000], np.int32)
        ),
    )


def gradients(values: list[float]) -> Gradients:
    """A matrix, a vector and a scalar."""
    return Gradients(
        actor_id="actor-7",
        sequence=42,
        policy_version=1000,
        model=MODEL,
        samples=256,
        env_steps=256,
        tensors={
            "policy.weight": np.array(values, np.float32).reshape(2, -1),
            "policy.bias": np.array([0.5, -0.25, 1e-20], np.float32),
            "scale": np.array(3.0, np.float32),
        },
        losses={"policy": -0.125, "value": 2.5},
        episodes=NO_EPISODES,
    )


def weights() -> Weights:
    """Safetensors bytes of two tensors, written by hand: the library may order them otherwise."""
    tensors = {
        "policy.bias": np.array([0.5, -0.25, 0.0], np.float32),
        "policy.weight": np.arange(6, dtype=np.float32).reshape(3, 2),
    }
    table: dict[str, Any] = {}
    end = 0
    for name, tensor in tensors.items():
        offsets = [end, end + tensor.nbytes]
        table[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}
        end += tensor.nbytes
    header = json.dumps(table, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    objective = Objective(
        discount=0.99,
        lambda_=0.95,
        rho_clip=1.0,
        clip=None,
        passes=2,
        minibatch_size=128,
        entropy_cost=0.01,
        value_cost=0.5,
        normalise_advantages=True,
        vtrace=True,
        batch_samples=1024,
        learning_rate=0.001,
        max_gradient_norm=0.5,
        adam_epsilon=1e-5,
    )
    assignment = Assignment(
        request="trajectories",
        game="pong",
        repeat_action_probability=0.0,
        network="small",
        unroll_length=32,
        messages_in_flight=2,
        seed=1,
        objective=objective,
    )
    return Weights(
        run=2**64 - 1,
        policy_version=1001,
        model=MODEL,
        assignment=assignment,
        received={"actor-7": 43},
        safetensors=struct.pack("<Q", len(header))
        + header
        + b"".join(tensor.tobytes() for tensor in tensors.values()),
    )


def vectors() -> dict[str, tuple[Message, Message, dict[str, bool]]]:
    """Returns, by name: what to encode, what it decodes to, and the options of `encode`."""
    exact, rounded = map(list, zip(*FLOAT8_VALUES, strict=True))
    float32 = gradients([*exact, 2.0**127 * (2 - 2**-23), -(2.0**-126)])
    lossy = gradients(rounded)
    rounded_bias = np.array([0.5, -0.25, 0.0], np.float32)  # 1e-20 is far below the smallest
    lossy_tensors = dict(lossy.tensors) | {"policy.bias": rounded_bias}
    lossy = replace(lossy, tensors=lossy_tensors)
    dated = replace(weights(), published_at=1_700_000_000.25)
    fewer = replace(
        weights(),
        assignment=replace(weights().assignment, games=2),
        unroll_lengths={"actor-7": 16, "actor-8": 1024},
    )
    return {
        "trajectory": (trajectory(), trajectory(), {}),
        "gradients-float32": (float32, float32, {"float8": False}),
        "gradients-float8": (gradients(exact), lossy, {}),
        "weights": (weights(), weights(), {}),
        "weights-published-at": (dated, dated, {}),
        "weights-games": (fewer, fewer, {}),
    }


def plain(value: Any) -> Any:
    """Returns a field as JSON: arrays with dtype and shape, bytes as hexadecimal digits."""
    match value:
        case np.ndarray():
            return {
                "dtype": value.dtype.str,
                "shape": list(value.shape),
                "values": value.reshape(-1).tolist(),
            }
        case Episodes() | Assignment():
            return {name: plain(inner) for name, inner in _fields(value).items()}
        case Objective():
            return asdict(value)
        case bytes():
            return {"hex": value.hex()}
        case dict():
            return {name: plain(inner) for name, inner in value.items()}
    return value


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def write(folder: Path) -> None:
    """Writes every vector and ``vectors.json``."""
    lines = []
    for name, (message, expected, options) in vectors().items():
        (folder / f"{name}.a3c").write_bytes(encode(message, **options))
        entry = {
            "type": type(message).__name__.lower(),
            "encode": options,
            "decodes_to": plain(_fields(expected)),
        }
        lines.append(f"{json.dumps(name)}: {json.dumps(entry)}")
    (folder / "vectors.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
