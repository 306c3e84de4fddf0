"""Builds messages from a header and its buffers; checks every field as `proto/SPEC.md` asks."""

from __future__ import annotations

import math
from typing import Any, Final

from asyncade_proto.buffers import ANY, Buffers
from asyncade_proto.errors import DecodeError
from asyncade_proto.fields import Fields
from asyncade_proto.limits import (
    MAX_COUNT,
    MAX_ENVIRONMENTS,
    MAX_LOSSES,
    MAX_SENDERS,
    MAX_STEPS,
    MAX_UNROLL_LENGTH,
    MAX_UNROLL_LENGTHS,
)
from asyncade_proto.messages import (
    REQUESTS,
    STACK,
    TRUNCATED,
    Assignment,
    Episodes,
    Gradients,
    Message,
    Objective,
    Trajectory,
    Weights,
)

TENSOR_PREFIX: Final = "tensors/"
"""Prefix of the buffer names of gradients; the parameter's name follows."""

_ABOVE_ZERO: Final = math.nextafter(0.0, 1.0)
_BELOW_ONE: Final = math.nextafter(1.0, 0.0)
_END_OF_TIME: Final = 2.0**40


def read_message(fields: Fields, buffers: Buffers) -> Message:
    """Builds the message.

    Raises:
        DecodeError: the header or a buffer is invalid.
    """
    match fields.text("type"):
        case "trajectory":
            return _trajectory(fields, buffers)
        case "gradients":
            return _gradients(fields, buffers)
        case "weights":
            return _weights(fields, buffers)
        case other:
            raise DecodeError("malformed", f"unknown type {other}")


def _trajectory(fields: Fields, buffers: Buffers) -> Trajectory:
    sender = _sender(fields)
    actions = buffers.take("actions", "|u1", (ANY, ANY))
    steps, envs = actions.shape
    if steps > MAX_UNROLL_LENGTH or envs > MAX_ENVIRONMENTS:
        raise DecodeError("limit", f"an unroll of {steps} steps of {envs} environments")
    ends = buffers.take("ends", "|u1", (steps, envs))
    if (ends > TRUNCATED).any():
        raise DecodeError("malformed", "ends contains values other than 0, 1, 2")
    log_probs = buffers.take("behaviour_log_probs", "<f4", (steps, envs))
    if (log_probs > 0).any():
        raise DecodeError("malformed", "a log-probability above 0")
    frames = buffers.take("frames", "|u1", (envs, steps + STACK, ANY, ANY))
    if not actions.size or not frames.size:
        raise DecodeError("malformed", "an empty trajectory")
    truncations = int((ends == TRUNCATED).sum())
    return Trajectory(
        **sender,
        frames=frames,
        actions=actions,
        behaviour_log_probs=log_probs,
        rewards=buffers.take("rewards", "<f4", (steps, envs)),
        ends=ends,
        bootstrap_values=buffers.take("bootstrap_values", "<f4", (truncations,)),
        episodes=_episodes(buffers),
    )


def _gradients(fields: Fields, buffers: Buffers) -> Gradients:
    names = buffers.names(TENSOR_PREFIX)
    if not names or TENSOR_PREFIX in names:
        raise DecodeError("malformed", "gradients without tensors, or an unnamed tensor")
    return Gradients(
        **_sender(fields),
        samples=fields.integer("samples", 1, MAX_STEPS),
        env_steps=fields.integer("env_steps", 0, MAX_STEPS),
        tensors={n.removeprefix(TENSOR_PREFIX): buffers.take(n, "<f4", None) for n in names},
        losses=fields.numbers("losses", at_most=MAX_LOSSES),
        episodes=_episodes(buffers),
        points_won=_points(fields, "points_won"),
        points_lost=_points(fields, "points_lost"),
    )


def _points(fields: Fields, name: str) -> float:
    return 0.0 if fields.absent(name) else fields.number(name, 0, MAX_STEPS)


def _weights(fields: Fields, buffers: Buffers) -> Weights:
    return Weights(
        run=fields.integer("run", 0, 2**64 - 1),
        policy_version=fields.integer("policy_version", 0, MAX_COUNT),
        model=fields.text("model"),
        assignment=_assignment(fields.map("assignment")),
        received=fields.integers("received", 0, MAX_COUNT, at_most=MAX_SENDERS),
        safetensors=buffers.take_bytes("safetensors"),
        published_at=None
        if fields.absent("published_at")
        else fields.number("published_at", 0, _END_OF_TIME),
        unroll_lengths={}
        if fields.absent("unroll_lengths")
        else fields.integers("unroll_lengths", 1, MAX_UNROLL_LENGTH, at_most=MAX_UNROLL_LENGTHS),
    )


def _sender(fields: Fields) -> dict[str, Any]:
    return {
        "actor_id": fields.text("actor_id"),
        "sequence": fields.integer("sequence", 0, MAX_COUNT - 1),  # so `received` can count it
        "policy_version": fields.integer("policy_version", 0, MAX_COUNT),
        "model": fields.text("model"),
    }


def _episodes(buffers: Buffers) -> Episodes:
    returns = buffers.take("episode_returns", "<f4", (ANY,))
    if len(returns) > MAX_STEPS:
        raise DecodeError("limit", f"{len(returns)} episodes")
    lengths = buffers.take("episode_lengths", "<i4", (len(returns),))
    if (lengths < 1).any():
        raise DecodeError("malformed", "an episode shorter than one step")
    return Episodes(returns=returns, lengths=lengths)


def _assignment(fields: Fields) -> Assignment:
    return Assignment(
        request=fields.choice("request", REQUESTS),
        game=fields.text("game"),
        repeat_action_probability=fields.number("repeat_action_probability", 0, _BELOW_ONE),
        network=fields.text("network"),
        unroll_length=fields.integer("unroll_length", 1, MAX_UNROLL_LENGTH),
        messages_in_flight=fields.integer("messages_in_flight", 1, 1024),
        seed=fields.integer("seed", 0, 2**63 - 1),
        objective=_objective(fields.map("objective")),
        games=None if fields.absent("games") else fields.integer("games", 1, MAX_ENVIRONMENTS),
    )


def _objective(fields: Fields) -> Objective:
    return Objective(
        discount=fields.number("discount", 0, 1),
        lambda_=fields.number("lambda_", 0, 1),
        rho_clip=fields.number("rho_clip", _ABOVE_ZERO, 1e6),
        clip=None if fields.absent("clip") else fields.number("clip", _ABOVE_ZERO, 1e6),
        passes=fields.integer("passes", 1, 1024),
        minibatch_size=fields.integer("minibatch_size", 1, MAX_STEPS),
        entropy_cost=fields.number("entropy_cost", 0, 1e6),
        value_cost=fields.number("value_cost", 0, 1e6),
        normalise_advantages=fields.flag("normalise_advantages"),
        vtrace=fields.flag("vtrace"),
        batch_samples=fields.integer("batch_samples", 1, MAX_STEPS),
        learning_rate=fields.number("learning_rate", 0, 1e6),
        max_gradient_norm=fields.number("max_gradient_norm", _ABOVE_ZERO, 1e6),
        adam_epsilon=fields.number("adam_epsilon", _ABOVE_ZERO, 1e6),
    )
