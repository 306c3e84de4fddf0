"""The pieces that the ceiling is made of, and the learner without learning, on the toy game."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench.sink import Sink
from bench.work import Workshop

from asyncade_cli.loadgen import LoadGenerator
from asyncade_cli.settings import LoadgenSettings
from asyncade_learner.settings import Mode
from asyncade_runtime.transport.memory import MemoryBroadcast, MemoryQueue


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_every_piece_runs_and_knows_its_env_steps(mode: Mode) -> None:
    shop = Workshop(mode, "catch", seed=1)
    pieces = shop.pieces()
    for name, piece in pieces.items():
        if name != "gradient":  # a backward pass per minibatch: bench.ceiling has the time
            piece.run()
    unroll = shop.envs * shop.settings.unroll_length
    objective = shop.assignment.objective
    expected: dict[str, float] = {"environment": shop.envs, "inference": unroll}
    if mode == "data":
        message = float(unroll)
    else:
        message = unroll / (objective.passes * round(unroll / objective.minibatch_size))
        expected["gradient"] = unroll
    expected |= {"encode": message, "decode": message}
    used = shop.actors  # one message of each
    expected |= {"update": used * message, "weights": used * message}
    assert {name: piece.env_steps for name, piece in pieces.items()} == expected


def test_a_sink_takes_in_what_synthetic_actors_send() -> None:
    assignment = Workshop("data", "catch", seed=1).assignment
    assignment = replace(assignment, messages_in_flight=4, unroll_length=4)
    queue, broadcast = MemoryQueue(capacity=64), MemoryBroadcast()
    sink = Sink(queue.inbox(), broadcast.publisher(), assignment)
    generator = LoadGenerator(
        LoadgenSettings(actors=2, envs=2, unrolls=1),
        outboxes=[queue.outbox() for _ in range(2)],
        subscriber=broadcast.subscriber(),
    )
    sink._publish()
    generator.step()
    for _ in range(2 * 4):
        sink._take_one()
    generator.step()  # the batches' publications were credit for more
    sink._take_one()
    assert (sink._messages, sink._dropped, sink._env_steps) == (9, 0, 9 * 2 * 4)
    assert generator.report()["messages"] == 16
    assert {"receive", "decode", "decide", "rebuild", "publish"} <= sink._spent.keys()
