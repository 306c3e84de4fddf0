"""The learner's way in: receiver, rules, roster, telemetry, and what the mode makes of messages.

The first byte chooses the mode. `_Learner.take` is all that knows how a frame gets from the inbox
into the mode.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from functools import cache
from typing import Any, Final
from unittest.mock import Mock

import torch
from prometheus_client import CollectorRegistry
from torch import nn

import builders
from asyncade_learner.intake import Intake, Rules
from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.modes import LearnerMode, make_mode
from asyncade_learner.progress import Progress
from asyncade_learner.receiving import Received, Receiver
from asyncade_learner.run_log import RunLog
from asyncade_learner.settings import LearnerSettings
from asyncade_learner.telemetry import Telemetry
from asyncade_learner.trainer import Trainer
from asyncade_proto import limits
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Gradients, Trajectory
from asyncade_rl.games import FRAME_SIDE, largest_reward, num_actions
from asyncade_rl.network import make_network
from asyncade_rl.params import fingerprint
from asyncade_runtime.admission import Roster
from asyncade_runtime.claims import Claims
from asyncade_runtime.entrance import Entrance
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.transport.memory import MemoryQueue
from fuzz import frames, scripts
from fuzz.scratch import scratch
from fuzz.targets import Mutation, Target

FRAME, TIME, PUBLISH, IMPROVE, REPORT = range(5)

MEMORY: Final = 4 * limits.MAX_ARRAY_BYTES
"""A message, its weighted copy and the sum it is added to; a flag per number."""

VERSION: Final = 5
"""The learner's policy version at the start."""

MODES: Final = ("data", "gradients")


class _Tiny(nn.Module):
    """A network whose gradients fit into a small frame."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3))
        self.bias = nn.Parameter(torch.zeros(3))


@cache
def _parts(mode: str) -> tuple[LearnerSettings, Any, LearnerMetrics, RunFolder, dict[str, Any]]:
    """Returns what all inputs share: settings, network, metrics, folder, first parameters."""
    folder = scratch()
    settings = LearnerSettings(
        mode=mode,
        game="catch",
        batch_samples=8,
        minibatch_size=4,
        passes=1,
        unroll_length=4,
        max_policy_lag=8,
        run_dir=folder.root,
    )
    network = make_network(num_actions("catch"), "small", 1) if mode == "data" else _Tiny()
    network.precision = "float32"
    metrics = LearnerMetrics(CollectorRegistry())
    first = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    return settings, network, metrics, folder, first


class _Learner:
    """A learner without its loop."""

    def __init__(self, mode: str) -> None:
        settings, network, metrics, folder, self._first = _parts(mode)
        self.network = network
        trainer = Trainer(network, settings, metrics.stages)
        rules = Rules(
            model=fingerprint(network),
            parameter_shapes={n: tuple(p.shape) for n, p in network.named_parameters()},
            num_actions=num_actions("catch"),
            frame_shape=(FRAME_SIDE, FRAME_SIDE),
            unroll_length=settings.unroll_length,
            max_policy_lag=settings.max_policy_lag,
        )
        self.progress, self.roster = Progress(), Roster()
        for file in (*folder.root.glob("*.jsonl"), *folder.tensorboard.iterdir()):
            file.unlink()
        self.folder = folder
        self.telemetry = Telemetry(
            metrics, self.progress, RunLog(folder, 0), 0.5, Mock(), lambda: 0.0
        )
        claims = Claims(settings.most_asked(), largest_reward=largest_reward("catch"))
        entrance = Entrance(settings.actors_per_peer, metrics.shut_out, Mock())
        self.intake = Intake(entrance, rules, claims, self.roster, self.telemetry)
        self.mode: LearnerMode = make_mode(trainer)
        queue = MemoryQueue()
        self.outbox, self.receiver = queue.outbox(), Receiver(queue.inbox(), metrics.stages)
        self.now, self.policy_version, self.frames = 1000.0, VERSION, 0
        self.improved = False

    def take(self, frame: bytes) -> None:
        """Lets one frame arrive."""
        self.frames += 1
        assert self.outbox.send(frame, 0.0)
        received = self.receiver.receive(0.0)
        assert isinstance(received, Received)
        before = self.roster.credit().keys()
        message = self.intake.admit(
            received,
            policy_version=self.policy_version,
            lag_of=lambda version: 2 * (self.policy_version - version),
            request=self.mode.request,
            problem_of=self.mode.problem_of,
            now=self.now,
        )
        if message is None:
            return
        kind = Trajectory if self.mode.request == "trajectories" else Gradients
        assert isinstance(message, kind)
        assert message.policy_version <= self.policy_version
        assert message.actor_id in self.roster.credit() or len(before) >= limits.MAX_SENDERS
        self.mode.add(message)

    def improve(self) -> None:
        """Learns, once, from what was gathered; the parameters stay numbers."""
        if self.improved or not self.mode.gathered:
            return
        self.improved = True
        improvement = self.mode.improve(1.0)
        self.telemetry.improved(improvement)
        for name, parameter in self.network.named_parameters():
            assert math.isfinite(parameter.detach().sum()), f"{name} is not finite"
        self.network.load_state_dict(self._first)

    def publish(self) -> None:
        """Publishes: whatever ids the senders have, actors can read their credit."""
        self.policy_version += 1
        frame = encode(
            builders.weights(policy_version=self.policy_version, received=self.roster.credit())
        )
        assert decode(frame)

    def report(self) -> None:
        """Reports: any reader of JSON can read the row."""
        self.telemetry.report(len(self.roster), set())
        row = self.folder.last_metrics()
        json.dumps(row, allow_nan=False)
        json.dumps(self.folder.read_senders(), allow_nan=False)


def run(data: bytes) -> None:
    """Plays one script."""
    learner = _Learner(MODES[data[0] % 2] if data else "data")
    for kind, content in scripts.read(data[1:]):
        match kind:
            case 0:  # FRAME
                learner.take(content)
            case 1:  # TIME
                learner.now += sum(content[:2])
                learner.roster.forget_silent(learner.now)
            case 2:  # PUBLISH
                learner.publish()
            case 3:  # IMPROVE
                learner.improve()
            case 4:  # REPORT
                learner.report()
    progress = learner.progress
    assert 0 <= progress.env_steps <= learner.frames * limits.MAX_STEPS
    assert len(learner.roster) <= learner.frames
    assert all(map(math.isfinite, progress.recent_returns))
    learner.publish()


def seeds() -> Sequence[bytes]:
    """Returns a run of each mode."""
    return [_seed(mode) for mode in MODES]


@cache
def _seed(mode: str) -> bytes:
    _, network, *_ = _parts(mode)
    model = fingerprint(network)
    messages: list[Any] = []
    for number, actor in enumerate(("a", "b", "a")):
        common = {
            **{"actor_id": actor, "sequence": number // 2, "policy_version": VERSION},
            **{"model": model, "episodes": builders.episodes(*[1.0] * number)},
        }
        if mode == "data":
            messages.append(builders.trajectory(3, 1, FRAME_SIDE, **common))
        else:
            shapes = {n: tuple(p.shape) for n, p in network.named_parameters()}
            messages.append(builders.gradients(shapes, env_steps=4, **common))
    events = [(FRAME, encode(message)) for message in messages]
    events += [(IMPROVE, b""), (PUBLISH, b""), (REPORT, b""), (TIME, b"\x20"), events[0]]
    return bytes([MODES.index(mode)]) + scripts.write(events)


def mutate(data: bytes, rng: random.Random, plainly: Mutation) -> bytes:
    """Changes one event; the mode stays."""
    data = data or rng.choice(seeds())
    rest = scripts.mutate(
        data[1:],
        rng,
        plainly,
        seeds=[_seed(MODES[data[0] % 2])[1:]],
        kinds=5,
        content=_content,
    )
    return data[:1] + rest


def _content(kind: int, content: bytes, rng: random.Random, plainly: Mutation) -> bytes:
    return frames.mutate(content, rng, plainly) if kind == FRAME else plainly(content)


TARGET: Final = Target(run=run, seeds=seeds, mutate=mutate, memory=MEMORY, largest=16 * 2**10)
