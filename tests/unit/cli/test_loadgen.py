"""Synthetic actors and a real learner on memory sockets: credit, headers, both modes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asyncade_cli.loadgen import LoadGenerator
from asyncade_cli.replay import LoadgenError, RecordedMessage, record, record_messages
from asyncade_cli.settings import LoadgenSettings
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Trajectory, Upstream
from asyncade_runtime.settings import SettingsError, load
from asyncade_runtime.transport.memory import (
    MemoryBroadcast,
    MemoryOutbox,
    MemoryQueue,
    MemorySubscriber,
)
from asyncade_runtime.transport.roles import AccessRefusedError, ConnectionEvent
from builders import Clock
from rigs import learner as rigs

E, T, ACTORS = 2, 4, 3
PASSES = 2


SETTINGS: dict[str, Any] = {
    "game": "catch",
    "precision": "float32",
    "unroll_length": T,
    "calibration_env_steps": 0,
    "batch_samples": ACTORS * E * T,
    "passes": PASSES,
    "minibatch_size": ACTORS * E * T // 2,
}


class Load(rigs.Rig):
    """A learner under the load of a generator."""

    def __init__(self, run_dir: Path, *, load: dict[str, Any] | None = None, **learner: Any):
        super().__init__(run_dir, SETTINGS, **learner)
        plain: dict[str, Any] = {"actors": ACTORS, "envs": E, "unrolls": 2}
        settings = LoadgenSettings(**plain | (load or {}))
        self.generator = LoadGenerator(
            settings,
            outboxes=[self.queue.outbox() for _ in range(settings.actors)],
            subscriber=self.broadcast.subscriber(),
            clock=self.clock,
        )
        for number in range(settings.actors):  # a batch has a message of each, the first as well
            self.learner.intake.roster.heard(f"{settings.actor_id}-{number}", -1, self.clock())
        self.learner.begin()

    def turn(self) -> None:
        """Steps the generator, then the learner."""
        self.generator.step()
        self.learner.step()

    def dropped(self) -> float:
        return sum(
            sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == "asyncade_learner_messages_dropped_total"
        )


def received(queue: MemoryQueue) -> list[Upstream]:
    """Returns the messages in the queue, decoded."""
    inbox = queue.inbox()
    return [decode(one.frame) for one in iter(lambda: inbox.receive(0.0), None)]


def test_the_learner_accepts_every_replayed_message(tmp_path: Path) -> None:
    rig = Load(tmp_path)
    for _ in range(5):
        rig.turn()
    report = rig.generator.report()
    assert report["messages"] == report["trajectories"] == 5 * ACTORS
    assert report["env_steps"] == 5 * ACTORS * E * T == rig.progress.env_steps
    assert report["bytes"] == rig.progress.received_bytes
    assert rig.metric("messages_accepted_total", kind="trajectory") == 5 * ACTORS
    assert rig.dropped() == rig.metric("messages_lost_total") == 0
    assert rig.progress.updates == 5 * 2 * PASSES


def test_gradients_are_counted_and_reported(tmp_path: Path) -> None:
    rig = Load(tmp_path, mode="gradients")
    for _ in range(3):
        rig.turn()
    report = rig.generator.report()
    assert report["gradients"] == report["messages"] == 3 * ACTORS
    assert report["env_steps"] == 3 * ACTORS * E * T == rig.progress.env_steps
    assert rig.progress.updates == 3 * PASSES
    assert rig.dropped() == 0


def test_trajectories_are_sent_during_calibration(tmp_path: Path) -> None:
    steps = 2 * ACTORS * E * T
    rig = Load(tmp_path, mode="gradients", calibration_env_steps=steps, load={"mode": "gradients"})
    for _ in range(12):
        rig.turn()
    report = rig.generator.report()
    assert report["trajectories"] >= 2 * ACTORS
    assert report["gradients"] >= ACTORS
    assert rig.progress.updates > 0


@pytest.mark.parametrize(
    ("configured", "assigned", "credit"), [(None, 1, 1), (None, 3, 3), (2, 3, 2), (3, 2, 2)]
)
def test_credit_is_the_smaller_of_assigned_and_configured(
    tmp_path: Path, configured: int | None, assigned: int, credit: int
) -> None:
    rig = Load(tmp_path, messages_in_flight=assigned, load={"messages_in_flight": configured})
    for _ in range(3):
        rig.generator.step()  # no new weights, so no new credit
    sent = received(rig.queue)
    assert [m.sequence for m in sent] == [n for n in range(credit) for _ in range(ACTORS)]
    assert len({m.actor_id for m in sent}) == ACTORS
    assert rig.generator.report()["messages_in_flight"] == credit


def test_headers_name_the_newest_weights(tmp_path: Path) -> None:
    rig = Load(tmp_path)
    rig.turn()
    rig.generator.step()
    sent = received(rig.queue)
    assert {m.policy_version for m in sent} == {rig.progress.policy_version} == {2}
    assert {m.model for m in sent} == {rig.learner.intake.rules.model}
    assert {m.sequence for m in sent} == {1}


def test_an_unsent_message_is_encoded_again_for_newer_weights(tmp_path: Path) -> None:
    rig = Load(tmp_path)
    rig.queue._capacity = 1
    rig.generator.step()
    assert rig.generator.report()["messages"] == 1
    assert rig.generator.report()["refused_sends"] > 0
    rig.learner.intake.roster.forget_received()
    rig.learner._publish()
    first = received(rig.queue)
    rig.queue._capacity = ACTORS
    rig.generator.step()
    second = received(rig.queue)
    assert [m.sequence for m in first] == [0]
    assert len(second) == ACTORS
    assert {m.policy_version for m in second} == {rig.progress.policy_version}
    assert first[0].policy_version < second[0].policy_version


def test_the_load_ends_at_a_limit_of_messages_or_seconds(tmp_path: Path) -> None:
    rig = Load(tmp_path / "messages", load={"messages": 4})
    for _ in range(4):
        rig.turn()
    assert rig.generator.over()
    assert rig.generator.report()["messages"] == 4
    timed = Load(tmp_path / "time", load={"seconds": 10})
    timed.turn()
    assert not timed.generator.over()
    timed.clock.now += 10
    assert timed.generator.over()


def test_the_rate_is_limited(tmp_path: Path) -> None:
    rig = Load(tmp_path, messages_in_flight=50, load={"rate": float(E * T)})
    rig.generator.step()
    at_once = rig.generator.report()["messages"]
    rig.clock.now += 3
    rig.generator.step()
    assert at_once == 1
    assert rig.generator.report()["messages"] == at_once + 3


def test_a_replayed_message_differs_only_in_its_header(tmp_path: Path) -> None:
    rig = Load(tmp_path)
    assignment = rig.learner.trainer.settings.assignment("trajectories", 1.0)
    (played,) = record_messages(assignment, game="catch", envs=E, count=1, seed=0)
    frame = RecordedMessage(encode(played), played.env_steps).frame(
        actor_id="someone-else", sequence=2**40, policy_version=7, model="f" * 16
    )
    replayed = decode(frame)
    assert isinstance(played, Trajectory)
    assert isinstance(replayed, Trajectory)
    assert (replayed.actor_id, replayed.sequence) == ("someone-else", 2**40)
    assert (replayed.policy_version, replayed.model) == (7, "f" * 16)
    np.testing.assert_array_equal(replayed.frames, played.frames)
    np.testing.assert_array_equal(replayed.actions, played.actions)
    np.testing.assert_array_equal(replayed.rewards, played.rewards)


def test_errors_name_the_setting(tmp_path: Path) -> None:
    rig = Load(tmp_path / "mode", load={"mode": "gradients"})
    rig.turn()
    with pytest.raises(LoadgenError, match="--mode gradients"):
        rig.generator.report()
    assignment = rig.learner.trainer.settings.assignment("trajectories", 1.0)
    with pytest.raises(LoadgenError, match="--game"):
        record(assignment, LoadgenSettings(game="pong"))
    silent = LoadGenerator(
        LoadgenSettings(actors=1, wait_seconds=1),
        outboxes=[MemoryOutbox(MemoryQueue())],
        subscriber=MemoryBroadcast().subscriber(),
        clock=(clock := Clock()),
    )
    clock.now += 2
    with pytest.raises(LoadgenError, match="--weights-address"):
        silent.step()


def test_a_refused_connection_ends_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ConnectionEvent("refused", "tcp://x:1", "one side has keys and the other has none")
    monkeypatch.setattr(MemorySubscriber, "events", lambda self: [refused])
    generator = LoadGenerator(
        LoadgenSettings(actors=1),
        outboxes=[MemoryOutbox(MemoryQueue())],
        subscriber=MemoryBroadcast().subscriber(),
        clock=Clock(),
    )
    with pytest.raises(AccessRefusedError, match="--keys"):
        generator.step()


@pytest.mark.parametrize("rate", ["0", "-1", "inf", "nan", "fast"])
def test_a_rate_must_be_positive(rate: str) -> None:
    with pytest.raises(SettingsError, match="rate"):
        load(LoadgenSettings, [f"--rate={rate}"], {})
