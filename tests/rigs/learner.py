"""A learner on memory sockets and a clock that the test moves; and play for it to learn from."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from prometheus_client import CollectorRegistry
from torch import Tensor

from asyncade_actor.modes import make_mode, next_message
from asyncade_actor.player import Player
from asyncade_learner.learner import Learner
from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.settings import LearnerSettings
from asyncade_learner.wiring import make_learner as wire
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Gradients, Message, Request, Trajectory, Weights
from asyncade_rl.envs.catch import Catch
from asyncade_rl.network import make_network
from asyncade_rl.params import fingerprint
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.transport.memory import MemoryBroadcast, MemoryInbox, MemoryQueue
from asyncade_runtime.transport.roles import Envelope, Inbox, Publisher
from builders import Clock
from rigs.play import actor_stages, header

E, T = 2, 8
STEPS = E * T  # env steps of a trajectory
PASSES = 2
UPDATES = 2 * PASSES  # of a trajectory: two minibatches per pass
PATIENCE_S, CHECKPOINT_S, REPORT_S = 5.0, 30.0, 2.0

SMALL: Mapping[str, Any] = {
    "game": "catch",
    "seed": 3,
    "precision": "float32",
    "unroll_length": T,
    "calibration_env_steps": 0,
    "batch_samples": STEPS,
    "passes": PASSES,
    "minibatch_size": STEPS // 2,
    "max_policy_lag": 2 * UPDATES,
    "patience_seconds": PATIENCE_S,
    "checkpoint_seconds": CHECKPOINT_S,
    "report_seconds": REPORT_S,
}


def make_learner(
    settings: Mapping[str, Any],
    run_dir: Path,
    inbox: Inbox,
    publisher: Publisher,
    registry: CollectorRegistry,
    health: Health,
    **options: Any,
) -> Learner:
    """Builds a learner that writes to `run_dir`; `options` are those of `wiring.make_learner`."""
    return wire(
        LearnerSettings(**{**settings, "run_dir": run_dir}),
        inbox=inbox,
        publisher=publisher,
        folder=RunFolder.create(run_dir),
        metrics=LearnerMetrics(registry),
        health=health,
        **options,
    )


class HastyInbox(MemoryInbox):
    """Does not wait: a test of one thread sends nothing while the learner waits."""

    def receive(self, timeout_s: float) -> Envelope | None:
        return super().receive(0.0)


class Rig:
    """A learner, its folder, its metrics and the actors' end of its sockets.

    Args:
        run_dir: of the learner.
        settings: of the learner.
        changes: override the settings.
    """

    def __init__(
        self, run_dir: Path, settings: Mapping[str, Any] = SMALL, /, **changes: Any
    ) -> None:
        self.clock, self.registry = Clock(), CollectorRegistry()
        self.queue, self.broadcast = MemoryQueue(capacity=64), MemoryBroadcast()
        self.health = Health(stall_seconds=60.0, clock=self.clock)
        self.weights, publisher = self.broadcast.subscriber(), self.broadcast.publisher()
        publisher.welcome_joiners()  # `weights` is not a late subscriber
        self.learner = make_learner(
            {**settings, **changes},
            run_dir,
            HastyInbox(self.queue),
            publisher,
            self.registry,
            self.health,
            clock=self.clock,
        )
        self.folder, self.progress = self.learner.folder, self.learner.progress
        self._outbox = self.queue.outbox()
        self._numbers: dict[str, int] = {}

    def send(self, *messages: Message | bytes) -> None:
        """Sends messages of actors, or frames as they are.

        A message whose number its actor has used gets the next one: played once, it stands for any
        number of unrolls.
        """
        for message in messages:
            if isinstance(message, Trajectory | Gradients):
                message = self._numbered(message)
            frame = message if isinstance(message, bytes) else encode(message)
            assert self._outbox.send(frame, 0.0)

    def _numbered(self, message: Trajectory | Gradients) -> Trajectory | Gradients:
        number = max(message.sequence, self._numbers.get(message.actor_id, -1) + 1)
        self._numbers[message.actor_id] = number
        return replace(message, sequence=number)

    def step(self, *messages: Message | bytes) -> None:
        """Sends the messages and steps the learner once."""
        self.send(*messages)
        self.learner.step()

    def wait(self, seconds: float) -> None:
        """Advances the clock and steps the learner once."""
        self.clock.now += seconds
        self.learner.step()

    def silent(self) -> bool:
        """True if nothing was published since the last call of this or `newest`."""
        return self.weights.latest(0.0) is None

    def newest(self) -> Weights:
        """Returns the newest weights published since the last call."""
        frame = self.weights.latest(0.0)
        assert frame is not None, "nothing was published"
        message = decode(frame)
        assert isinstance(message, Weights)
        return message

    def end(self) -> str:
        """Ends the learner as SIGTERM does; returns why the run ended."""
        stop = threading.Event()
        stop.set()
        return self.learner.run(stop)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"asyncade_learner_{name}", labels)

    def checkpoints(self) -> list[str]:
        """Returns the names of the checkpoint files, newest first."""
        return [path.name for path in self.folder.checkpoint_files()]


def begun(run_dir: Path, **changes: Any) -> Rig:
    """Returns a rig of a small learner that has published its first weights."""
    rig = Rig(run_dir, **changes)
    rig.learner.begin()
    return rig


@cache
def played() -> Sequence[Trajectory]:
    """Returns six unrolls of actor "a", all played with a small learner's first weights."""
    return _messages("trajectories", 6)


@cache
def computed() -> Sequence[Gradients]:
    """Returns five messages of actor "a" with the steps on an unroll each."""
    return _messages("gradients", 5)


def _messages(request: Request, count: int) -> Sequence[Any]:
    network = make_network(3, "small", seed=SMALL["seed"])
    stages = actor_stages()
    mode = make_mode(request, Player(Catch(E), 11, stages), network, stages, seed=1)
    assignment = LearnerSettings(**SMALL).assignment(request, 1.0)
    headers = [header(sequence=number, model=fingerprint(network)) for number in range(count)]
    return [next_message(mode, assignment, one) for one in headers]


def parameters(weights: Weights) -> dict[str, Tensor]:
    return safetensors.torch.load(weights.safetensors)


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """True if the tensors are equal, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)
