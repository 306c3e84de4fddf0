"""A learner's intake without its learning: receive, decode, decide, rebuild the stacks.

The path of `asyncade_learner.learner` up to the batch, over a real socket. Weights are published
after every batch, small ones: they are the credit, and loadgen does not look inside.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Final

import torch
import zmq

from asyncade_learner.intake import Intake
from asyncade_proto.codec import decode, encode
from asyncade_proto.limits import MAX_MESSAGE_BYTES
from asyncade_proto.messages import Assignment, Trajectory
from asyncade_rl.batch import batch_of
from asyncade_rl.games import FRAME_SIDE, num_actions
from asyncade_rl.network import make_network
from asyncade_rl.params import fingerprint
from asyncade_runtime.allocator import keep_freed_memory
from asyncade_runtime.transport.roles import Inbox, Publisher
from asyncade_runtime.transport.zmq_sockets import ZmqInbox, ZmqPublisher
from asyncade_runtime.verdicts import Dropped
from bench.work import weights_message

BATCH_UNROLLS: Final = 4
_WAIT_S: Final = 0.1
_CREDIT_AGAIN_S: Final = 0.1
"""Actors that wait for credit while nothing comes in are told again, no more often than this."""

_WARM_UP_MESSAGES: Final = 64


def serve(pipe: Connection, seconds: float, assignment: Assignment, core: int) -> None:
    """In a process of its own: takes in messages for so long, from the first ones on.

    Sends through the pipe first its two addresses, then the result.

    Args:
        pipe: to who started it.
        seconds: to measure.
        assignment: for the synthetic actors; of trajectories.
        core: the only one that this process uses.
    """
    os.sched_setaffinity(0, {core})
    keep_freed_memory()  # as a learner does
    context = zmq.Context()
    with (
        contextlib.closing(
            ZmqInbox(context, "tcp://127.0.0.1:*", max_message_bytes=MAX_MESSAGE_BYTES)
        ) as inbox,
        contextlib.closing(ZmqPublisher(context, "tcp://127.0.0.1:*")) as publisher,
    ):
        pipe.send((inbox.endpoint, publisher.endpoint))
        pipe.send(Sink(inbox, publisher, assignment).take_in(seconds))
    context.term()


class Sink:
    """Takes messages in and throws the batches away.

    Args:
        inbox: where they come from.
        publisher: where credit goes.
        assignment: what is asked for.
    """

    def __init__(self, inbox: Inbox, publisher: Publisher, assignment: Assignment) -> None:
        torch.set_num_threads(1)
        network = make_network(num_actions(assignment.game), assignment.network)
        self._inbox = inbox
        self._publisher = publisher
        self._assignment = assignment
        self._model = fingerprint(network)
        self._intake = Intake(
            model=self._model,
            parameter_shapes={n: tuple(p.shape) for n, p in network.named_parameters()},
            num_actions=num_actions(assignment.game),
            frame_shape=(FRAME_SIDE, FRAME_SIDE),
            unroll_length=assignment.unroll_length,
            max_policy_lag=10**9,
        )
        self._received: dict[str, int] = {}
        self._version = 0
        self._published_at = 0.0
        self._batch: list[Trajectory] = []
        self._restart()

    def take_in(self, seconds: float, deadline_s: float = 600.0) -> dict[str, float]:
        """Takes in for so long after a warm-up; returns counts, rate and shares of the time.

        Args:
            seconds: to measure.
            deadline_s: give up after so long, if nothing comes.
        """
        self._publish()
        give_up = time.perf_counter() + deadline_s
        self._restart()
        warm = False
        while not warm or time.perf_counter() - self._began < seconds:
            if time.perf_counter() > give_up:
                break
            self._take_one()
            if not warm and self._messages >= _WARM_UP_MESSAGES:
                warm = True
                self._restart()
        wall = time.perf_counter() - self._began
        return {
            "messages": self._messages,
            "dropped": self._dropped,
            "env_steps": self._env_steps,
            "seconds": wall,
            "env_steps_per_second": self._env_steps / wall,
            "cpu_share": (time.process_time() - self._cpu_began) / wall,
            **{f"share_{name}": spent / wall for name, spent in self._spent.items()},
        }

    def _restart(self) -> None:
        """Begins to count anew."""
        self._messages = self._env_steps = self._dropped = 0
        self._spent: dict[str, float] = {}
        self._began = self._lap_began = time.perf_counter()
        self._cpu_began = time.process_time()

    def _lap(self, name: str) -> None:
        """Puts the time since the last lap down to what was done in it."""
        now = time.perf_counter()
        self._spent[name] = self._spent.get(name, 0.0) + now - self._lap_began
        self._lap_began = now

    def _take_one(self) -> None:
        frame = self._inbox.receive(0.0)
        if frame is None:
            self._publisher.welcome_joiners()
            if time.perf_counter() - self._published_at > _CREDIT_AGAIN_S:
                self._publish()
            frame = self._inbox.receive(_WAIT_S)
            self._lap("wait")
            if frame is None:
                return
        self._lap("receive")
        message = decode(frame)
        self._lap("decode")
        assert isinstance(message, Trajectory)
        verdict = self._intake.offer(message, policy_version=self._version, request="trajectories")
        self._lap("decide")
        self._messages += 1
        self._env_steps += message.env_steps
        self._dropped += isinstance(verdict, Dropped)
        self._received[message.actor_id] = message.sequence + 1
        self._batch.append(message)
        if len(self._batch) == BATCH_UNROLLS:
            batch_of(self._batch, self._assignment.objective.discount)
            self._batch = []
            self._lap("rebuild")
            self._publish()
            self._lap("publish")

    def _publish(self) -> None:
        self._version += 1
        self._published_at = time.perf_counter()
        message = weights_message(
            b"bench", self._model, self._assignment, self._received, self._version
        )
        self._publisher.publish(encode(message))


@contextlib.contextmanager
def sink_process(seconds: float, assignment: Assignment, core: int) -> Iterator[Connection]:
    """Starts `serve` in a process of its own and yields the pipe from it."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs, seconds, assignment, core), daemon=True)
    process.start()
    theirs.close()  # so that reading ends when the process does
    try:
        yield ours
    finally:
        process.terminate()
        process.join()
