"""Catch is learned in gradient mode while one of four actors is hostile; one thread, one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Float32, Gradients
from asyncade_runtime.transport.memory import MemoryOutbox, MemoryQueue
from learning.test_catch import SETTINGS, HastySubscriber
from rigs.actor import make_actor
from rigs.learner import Rig

ACTORS = 4
TARGET = 0.0  # every second ball; chance is -0.85
BUDGET_ENV_STEPS = 60_000

Lie = Callable[[Float32], Float32]


class HostileOutbox(MemoryOutbox):
    """Changes every gradient that is sent through it."""

    def __init__(self, queue: MemoryQueue, lie: Lie) -> None:
        super().__init__(queue)
        self._lie = lie

    def send(self, frame: bytes, timeout_s: float) -> bool:
        message = decode(frame)
        if isinstance(message, Gradients):
            tensors = {name: self._lie(one) for name, one in message.tensors.items()}
            frame = encode(replace(message, tensors=tensors))
        return super().send(frame, timeout_s)


def opposite(tensor: Float32) -> Float32:
    return -tensor


def giant(tensor: Float32) -> Float32:
    return np.clip(-1000 * tensor, -57_000, 57_000).astype(np.float32)


def not_a_number(tensor: Float32) -> Float32:
    return np.full_like(tensor, np.nan)


@pytest.mark.faults_long
@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (opposite, "adverse"),
        (giant, "adverse"),
        (not_a_number, "not_finite"),
    ],
)
def test_catch_is_learned_beside_a_hostile_actor(tmp_path: Path, lie: Lie, reason: str) -> None:
    rig = Rig(tmp_path, SETTINGS, mode="gradients", seed=1)
    outboxes = [HostileOutbox(rig.queue, lie), *(rig.queue.outbox() for _ in range(ACTORS - 1))]
    actors = [
        make_actor(outbox, HastySubscriber(rig.broadcast), actor_id=f"actor-{number}", envs=8)
        for number, outbox in enumerate(outboxes)
    ]
    rig.learner.begin()
    while not rig.progress.reached(TARGET) and rig.progress.env_steps < BUDGET_ENV_STEPS:
        for actor in actors:
            actor.step()
        rig.wait(1.0)
    for actor in actors:
        actor.close()
    mean = rig.progress.mean_return()
    assert rig.progress.reached(TARGET), f"{mean} after {rig.progress.env_steps} env steps"
    assert (rig.metric("messages_dropped_total", reason=reason) or 0) > 0
    assert rig.metric("messages_dropped_total", reason="claim") == 0
