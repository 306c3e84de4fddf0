"""The learner's loop, on memory sockets and a clock of its own, fed with real play of Catch."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from prometheus_client import CollectorRegistry
from torch import Tensor

from asyncade_actor.metrics import ActorMetrics
from asyncade_actor.modes import make_mode, next_message
from asyncade_actor.player import Header, Player
from asyncade_learner import checkpoint
from asyncade_learner.checkpoint import CheckpointError
from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.receiving import Receiver
from asyncade_learner.settings import LearnerSettings
from asyncade_learner.wiring import make_learner
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Gradients, Message, Request, Trajectory, Weights
from asyncade_rl.envs.catch import Catch
from asyncade_rl.network import make_network
from asyncade_rl.optimiser import Optimiser
from asyncade_rl.params import fingerprint
from asyncade_runtime.admission import ACTIVE_WINDOW_S
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.transport.memory import (
    MemoryBroadcast,
    MemoryInbox,
    MemoryQueue,
    MemorySubscriber,
)
from builders import Clock

E, T = 2, 8
STEPS = E * T  # of one message
PASSES = 2
UPDATES = 2 * PASSES  # of one trajectory: two minibatches a pass
PATIENCE_S, CHECKPOINT_S, REPORT_S = 5.0, 30.0, 2.0

SMALL: dict[str, Any] = {
    "game": "catch",
    "seed": 3,
    "precision": "float32",
    "unroll_length": T,
    "calibration_env_steps": 0,
    "batch_unrolls": 1,
    "gradients_per_update": 1,
    "passes": PASSES,
    "minibatch_size": STEPS // 2,
    "max_policy_lag": 2,
    "patience_seconds": PATIENCE_S,
    "checkpoint_seconds": CHECKPOINT_S,
    "report_seconds": REPORT_S,
}


class HastyInbox(MemoryInbox):
    """Nobody will send while a test waits."""

    def receive(self, timeout_s: float) -> bytes | None:
        return super().receive(0.0)


class Rig:
    """A learner, and what an actor and Prometheus see of it."""

    def __init__(self, run_dir: Path, **settings: Any) -> None:
        self.clock = Clock()
        self.folder = RunFolder.create(run_dir)
        self.queue, self.broadcast = MemoryQueue(capacity=64), MemoryBroadcast()
        self.registry = CollectorRegistry()
        self.health = Health(stall_seconds=60.0, clock=self.clock)
        self.weights, publisher = self.broadcast.subscriber(), self.broadcast.publisher()
        publisher.welcome_joiners()  # this one is there from the start
        self.learner = make_learner(
            LearnerSettings(**SMALL | {"run_dir": run_dir} | settings),
            inbox=HastyInbox(self.queue),
            publisher=publisher,
            folder=self.folder,
            metrics=LearnerMetrics(self.registry),
            health=self.health,
            clock=self.clock,
        )
        self._outbox = self.queue.outbox()

    def send(self, *messages: Message | bytes) -> None:
        for message in messages:
            frame = message if isinstance(message, bytes) else encode(message)
            assert self._outbox.send(frame, 0.0)

    def step(self, *messages: Message | bytes) -> None:
        self.send(*messages)
        self.learner.step()

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.learner.step()

    def newest(self) -> Weights | None:
        """What was published since this was asked last."""
        frame = self.weights.latest(0.0)
        message = None if frame is None else decode(frame)
        assert message is None or isinstance(message, Weights)
        return message

    def end(self) -> str:
        """Lets the learner end as after SIGTERM."""
        stop = threading.Event()
        stop.set()
        return self.learner.run(stop)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"asyncade_learner_{name}", labels)

    def checkpoints(self) -> list[str]:
        return [path.name for path in self.folder.checkpoint_files()]


@pytest.fixture(scope="module")
def played() -> Sequence[Trajectory]:
    """Six unrolls of an actor, all with the learner's first weights."""
    return reported("trajectories", 6)


@pytest.fixture(scope="module")
def gradients() -> Sequence[Gradients]:
    """Gradients of the same actor, two of each unroll and pass."""
    return reported("gradients", 5)


def reported(request: Request, count: int) -> Sequence[Any]:
    network = make_network(3, "small", seed=SMALL["seed"])
    stages = ActorMetrics(CollectorRegistry()).stages
    player = Player(Catch(E), seed=11, stages=stages)
    mode = make_mode(request, player, network, stages, seed=1)
    assignment = LearnerSettings(**SMALL).assignment(request, 1.0)
    return [next_message(mode, assignment, header(network, number)) for number in range(count)]


def header(network: Any, sequence: int) -> Header:
    return Header(actor_id="a", sequence=sequence, policy_version=1, model=fingerprint(network))


def parameters(weights: Weights | None) -> dict[str, Tensor]:
    assert weights is not None
    return safetensors.torch.load(weights.safetensors)


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


# --- the loop ------------------------------------------------------------------------------------


def test_from_the_first_weights_to_the_second(tmp_path: Path, played: Sequence[Trajectory]) -> None:
    rig = Rig(tmp_path)
    assert rig.newest() is None
    assert not rig.health.ready
    rig.learner.begin()
    first = rig.newest()
    assert first is not None
    assert (first.policy_version, first.received) == (1, {})
    assert first.assignment == LearnerSettings(**SMALL).assignment("trajectories", 1.0)
    assert rig.health.ready
    rig.step()
    assert rig.newest() is None  # nothing came, nothing is said
    rig.step(played[0])
    second = rig.newest()
    assert second is not None
    assert (second.policy_version, second.received, second.run) == (2, {"a": 1}, first.run)
    assert not same(parameters(first), parameters(second))
    progress = rig.learner.progress
    assert (progress.env_steps, progress.updates, progress.policy_version) == (STEPS, UPDATES, 2)
    assert progress.episodes == len(played[0].episodes.returns)
    assert progress.received_bytes == len(encode(played[0]))
    assert rig.metric("samples_total") == PASSES * STEPS
    assert rig.metric("policy_lag_versions_sum") == 0
    assert rig.metric("messages_accepted_total", kind="trajectory") == 1


def test_a_batch_waits_until_it_is_complete(tmp_path: Path, played: Sequence[Trajectory]) -> None:
    rig = Rig(tmp_path, batch_unrolls=2)
    rig.learner.begin()
    rig.step(played[0])
    assert rig.learner.progress.policy_version == 1
    rig.step(played[1], played[2])
    assert rig.learner.progress.policy_version == 2
    assert rig.learner.progress.env_steps == 2 * STEPS  # the third waits in the socket
    newest = rig.newest()
    assert newest is not None
    assert newest.received == {"a": 2}


def test_one_unroll_of_every_actor_is_a_batch(tmp_path: Path, played: Sequence[Trajectory]) -> None:
    rig = Rig(tmp_path, batch_unrolls=None, max_policy_lag=10)
    rig.learner.begin()
    for number in range(2):
        rig.send(*(replace(played[number], actor_id=f"a{n}", sequence=number) for n in range(4)))
    used = []
    for _ in range(3):
        rig.step()
        used.append(rig.learner.progress.updates)
    # The first one alone, as far as is known; then four; three wait for the fourth.
    assert used == [n * UPDATES for n in (1, 5, 5)]
    rig.wait(REPORT_S)
    assert rig.metric("active_actors") == 4


def test_an_actor_that_died_holds_up_one_batch_and_not_the_next(
    tmp_path: Path, played: Sequence[Trajectory]
) -> None:
    def of(actor: str, number: int) -> Trajectory:
        return replace(played[number], actor_id=actor, sequence=number)

    rig = Rig(tmp_path, batch_unrolls=None, max_policy_lag=10)
    rig.learner.begin()
    rig.step(of("dead", 0))
    rig.step(of("b", 0))
    assert rig.learner.progress.updates == UPDATES  # waits for the other one
    rig.wait(PATIENCE_S + 1)
    assert rig.learner.progress.updates == 2 * UPDATES
    rig.step(of("b", 1))
    assert rig.learner.progress.updates == 3 * UPDATES  # at once
    rig.step(of("dead", 1))  # it was only slow, and counts again
    rig.step(of("b", 2))
    assert rig.learner.progress.updates == 5 * UPDATES


def test_one_gradient_of_every_actor_is_an_update(
    tmp_path: Path, gradients: Sequence[Gradients]
) -> None:
    rig = Rig(tmp_path, mode="gradients", gradients_per_update=None)
    rig.learner.begin()
    rig.step(gradients[0])
    assert rig.learner.progress.updates == 1  # alone, as far as is known
    rig.step(replace(gradients[0], actor_id="b"))
    assert rig.learner.progress.updates == 1
    rig.step(gradients[1])
    assert rig.learner.progress.updates == 2
    assert rig.metric("samples_total") == sum(g.samples for g in gradients[:2]) + STEPS // 2


def test_stale_messages_are_not_used_but_were_played(
    tmp_path: Path, played: Sequence[Trajectory]
) -> None:
    rig = Rig(tmp_path)
    rig.learner.begin()
    for message in played[:3]:
        rig.step(message)  # lags 0, 1, 2
    before = parameters(rig.newest())
    rig.step(played[3])
    progress = rig.learner.progress
    # Its actor is told that it came in, by the same weights under a new version.
    assert (progress.policy_version, progress.updates) == (5, 3 * UPDATES)
    assert progress.env_steps == 4 * STEPS
    assert progress.episodes == sum(len(one.episodes.returns) for one in played[:4])
    assert rig.metric("messages_dropped_total", reason="stale") == 1
    assert rig.metric("policy_lag_versions_sum") == 0 + 1 + 2
    rig.wait(PATIENCE_S + 1)
    assert same(before, parameters(rig.newest()))


def test_what_is_no_message_is_counted_and_the_learner_goes_on(
    tmp_path: Path, played: Sequence[Trajectory], gradients: Sequence[Gradients]
) -> None:
    rig = Rig(tmp_path)
    rig.learner.begin()
    weights = rig.newest()
    assert weights is not None
    whole = encode(played[0])
    poisoned = replace(played[0], rewards=np.full_like(played[0].rewards, np.nan))
    bad: list[tuple[str, Message | bytes]] = [
        ("not_ours", b""),
        ("not_ours", b"GET / HTTP/1.1"),
        ("protocol_version", b"A3C\x63" + whole[4:]),
        ("malformed", whole[:-1]),
        ("malformed", weights),
        ("not_finite", poisoned),
        ("future", replace(played[0], policy_version=99)),
        ("unasked", gradients[0]),
        ("model", replace(played[0], actor_id="b", model="another")),
        ("action", replace(played[0], actor_id="c", actions=played[0].actions + np.uint8(3))),
        ("shape", replace(played[0], actor_id="d", frames=played[0].frames[..., :-1])),
    ]
    rig.step(*(message for _, message in bad))
    for reason in {reason for reason, _ in bad}:
        expected = sum(one == reason for one, _ in bad)
        assert rig.metric("messages_dropped_total", reason=reason) == expected, reason
    progress = rig.learner.progress
    assert (progress.policy_version, progress.updates) == (2, 0)  # published, to give credit
    assert progress.env_steps == 2 * STEPS  # future and unasked are of this game, others are not
    rig.wait(REPORT_S)
    assert rig.metric("active_actors") == 1
    rig.step(played[0])
    assert progress.updates == UPDATES
    newest = rig.newest()
    assert newest is not None
    assert newest.received == {"a": 1}  # no credit for strangers


def test_lost_messages_are_counted_and_given_credit_for(
    tmp_path: Path, played: Sequence[Trajectory]
) -> None:
    rig = Rig(tmp_path)
    rig.learner.begin()
    rig.step(played[0])
    rig.step(played[3])
    assert rig.metric("messages_lost_total") == 2
    newest = rig.newest()
    assert newest is not None
    assert newest.received == {"a": 4}


def test_calibration_asks_for_trajectories_in_gradient_mode_too(
    tmp_path: Path, played: Sequence[Trajectory], gradients: Sequence[Gradients]
) -> None:
    rig = Rig(tmp_path, mode="gradients", calibration_env_steps=2 * STEPS)
    rig.learner.begin()
    first = rig.newest()
    rig.step(gradients[0], played[0])
    assert rig.metric("messages_dropped_total", reason="unasked") == 1
    second = rig.newest()
    assert first is not None
    assert second is not None
    assert first.assignment.request == second.assignment.request == "trajectories"
    assert second.received == {"a": 1}  # credit for more
    assert same(parameters(first), parameters(second))
    rig.step(played[1])
    third = rig.newest()
    assert third is not None
    assert (third.policy_version, third.assignment.request) == (3, "gradients")
    assert rig.learner.progress.updates == 0
    seen = np.concatenate([one.frames[:, 4:] for one in played[:2]]).reshape(-1, 84, 84)
    before, after = parameters(second), parameters(third)
    np.testing.assert_allclose(after["frame_mean"], seen.mean(axis=0), rtol=1e-5)
    assert float(after["frame_scale"]) == pytest.approx(seen.std(axis=0).max() / 2, rel=1e-5)
    trained = before.keys() - {"frame_mean", "frame_scale"}
    assert all(torch.equal(before[name], after[name]) for name in trained)
    rig.step(gradients[1])
    assert (rig.learner.progress.updates, rig.learner.progress.policy_version) == (1, 4)


def test_a_starved_learner_gives_credit_anew(tmp_path: Path, played: Sequence[Trajectory]) -> None:
    rig = Rig(tmp_path)
    rig.learner.begin()
    rig.step(played[0])
    before = rig.newest()
    rig.wait(PATIENCE_S)
    assert rig.newest() is None
    rig.wait(0.5)
    after = rig.newest()
    assert after is not None
    assert (after.policy_version, after.received) == (3, {})
    assert same(parameters(before), parameters(after))
    rig.wait(PATIENCE_S)
    assert rig.newest() is None  # patience begins anew


def test_a_half_batch_is_used_when_patience_ends(
    tmp_path: Path, played: Sequence[Trajectory]
) -> None:
    rig = Rig(tmp_path, batch_unrolls=2)
    rig.learner.begin()
    rig.step(played[0])
    rig.wait(PATIENCE_S + 1)
    newest = rig.newest()
    assert newest is not None
    assert (newest.policy_version, newest.received) == (2, {})
    assert rig.learner.progress.updates == UPDATES


def test_a_starved_calibration_keeps_what_it_has(
    tmp_path: Path, played: Sequence[Trajectory]
) -> None:
    rig = Rig(tmp_path, calibration_env_steps=2 * STEPS, max_policy_lag=10)
    rig.learner.begin()
    rig.step(played[0])
    before = rig.learner.progress.policy_version
    rig.wait(PATIENCE_S + 1)
    newest = rig.newest()
    assert newest is not None
    assert (newest.policy_version, newest.received) == (before + 1, {})
    rig.step(played[1])
    rig.step(played[2])
    assert rig.learner.progress.updates == UPDATES


def test_a_dropped_message_gives_credit_for_the_next(
    tmp_path: Path, played: Sequence[Trajectory]
) -> None:
    """What every actor has on its way when the kind of message changes is dropped."""
    rig = Rig(tmp_path, mode="gradients", calibration_env_steps=STEPS)
    rig.learner.begin()
    rig.step(played[0])
    first = rig.newest()
    assert first is not None
    assert first.assignment.request == "gradients"
    rig.step(played[1])
    assert rig.metric("messages_dropped_total", reason="unasked") == 1
    rig.step()
    second = rig.newest()
    assert second is not None
    assert second.received == {"a": 2}


def test_step_size_and_entropy_cost_fall_with_env_steps(
    tmp_path: Path, played: Sequence[Trajectory]
) -> None:
    annealing: dict[str, Any] = {"anneal_env_steps": 2 * STEPS, "anneal_to": 0.25}
    rig = Rig(tmp_path, **annealing, learning_rate=1e-3, entropy_cost=0.02)
    rig.learner.begin()
    for message, left in zip(played[:2], (0.5, 0.25), strict=True):
        rig.step(message)
        newest = rig.newest()
        assert newest is not None
        assert newest.assignment.objective.entropy_cost == pytest.approx(0.02 * left)
        rate = 1e-3 * (STEPS / 2 / 128) ** 0.5  # for minibatches of half an unroll
        assert rig.metric("learning_rate") == pytest.approx(rate * left)


def test_a_joining_actor_is_shown_the_weights(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.learner.begin()
    late = rig.broadcast.subscriber()
    rig.step()
    assert late.latest(0.0) is not None
    assert rig.metric("actor_joins_total") == 1
    assert rig.learner.progress.policy_version == 1


def test_an_actor_that_joins_within_an_update_is_shown_the_weights_at_once(
    tmp_path: Path, played: Sequence[Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets the version published last; the update it interrupts is not published early."""
    rig = Rig(tmp_path)
    rig.learner.begin()
    late: list[MemorySubscriber] = []
    shown: list[bytes | None] = []

    def joined_by_one(self: Optimiser, learning_rate: float) -> float:
        shown.extend(subscriber.latest(0.0) for subscriber in late)
        late.append(rig.broadcast.subscriber())
        return 1.0

    monkeypatch.setattr(Optimiser, "step", joined_by_one)
    rig.step(played[0])
    assert len(late) == UPDATES >= 2
    for frame in shown:
        assert frame is not None
        assert decode(frame).policy_version == 1
    assert rig.metric("actor_joins_total") == UPDATES - 1


def test_an_actor_invents_no_series(tmp_path: Path, gradients: Sequence[Gradients]) -> None:
    rig = Rig(tmp_path, mode="gradients")
    rig.learner.begin()
    rig.step(replace(gradients[0], losses={"total": 1.5, "made up": 2.0}))
    assert rig.metric("loss", part="total") == 1.5
    assert rig.metric("loss", part="made up") is None


def test_a_gradient_that_is_not_finite_is_skipped_and_counted(
    tmp_path: Path, gradients: Sequence[Gradients]
) -> None:
    rig = Rig(tmp_path, mode="gradients")
    rig.learner.begin()
    before = parameters(rig.newest())
    # Finite each, as the wire demands, but their norm is beyond float32.
    huge = {name: np.full_like(array, 3e38) for name, array in gradients[0].tensors.items()}
    rig.step(replace(gradients[0], tensors=huge))
    after = rig.newest()
    assert after is not None
    assert (after.policy_version, rig.learner.progress.updates) == (2, 0)
    assert rig.metric("non_finite_updates_total") == 1
    assert same(before, parameters(after))
    rig.step(gradients[1])
    assert rig.learner.progress.updates == 1
    learned = parameters(rig.newest())
    assert not same(before, learned)
    assert all(bool(tensor.isfinite().all()) for tensor in learned.values())


# --- reports, health, endings --------------------------------------------------------------------


def test_rows_are_written_when_due(tmp_path: Path, played: Sequence[Trajectory]) -> None:
    rig = Rig(tmp_path)
    rig.learner.begin()
    rig.step(played[0])
    assert rig.folder.read_metrics() == []
    rig.wait(REPORT_S)
    (row,) = rig.folder.read_metrics()
    assert (row["env_steps"], row["updates"], row["policy_version"]) == (STEPS, UPDATES, 2)
    assert (row["seconds"], row["env_steps_per_second"]) == (REPORT_S, STEPS / REPORT_S)
    assert (row["policy_lag_mean"], row["active_actors"]) == (0.0, 1)
    assert row["bytes_per_env_step"] == pytest.approx(len(encode(played[0])) / STEPS, abs=0.01)
    assert sum(row["stage_shares"].values()) == pytest.approx(1.0, abs=0.01)
    assert {"loss_total", "loss_policy", "loss_value", "loss_entropy", "loss_kl"} <= row.keys()
    rig.clock.now += 60
    rig.step()
    last = rig.folder.read_metrics()[-1]
    assert last["active_actors"] == 0
    assert last["policy_lag_mean"] is None


def test_a_silent_actor_is_no_longer_active(tmp_path: Path, played: Sequence[Trajectory]) -> None:
    rig = Rig(tmp_path, patience_seconds=1e6)
    rig.learner.begin()
    rig.step(played[0])
    for seconds, active in [(ACTIVE_WINDOW_S - 1, 1), (REPORT_S, 0)]:
        rig.wait(seconds)
        assert rig.metric("active_actors") == active


def test_every_step_is_a_sign_of_life(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.learner.begin()
    rig.clock.now += 1000
    assert not rig.health.alive()
    rig.step()
    assert rig.health.alive()


def test_every_update_of_a_long_batch_is_a_sign_of_life(
    tmp_path: Path, played: Sequence[Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path)
    rig.learner.begin()
    healthy: list[bool] = []

    def slowly(self: Optimiser, learning_rate: float) -> float:
        rig.clock.now += 50.0
        healthy.append(rig.health.alive())
        return 1.0

    monkeypatch.setattr(Optimiser, "step", slowly)
    rig.step(played[0])
    assert healthy == [True] * UPDATES


def test_what_ends_a_run(tmp_path: Path, played: Sequence[Trajectory]) -> None:
    rig = Rig(tmp_path, target=0.5, max_env_steps=STEPS, max_minutes=2)
    rig.learner.begin()
    assert rig.learner.ended() is None
    rig.clock.now += 120
    assert rig.learner.ended() == "max_minutes"
    rig.step(played[0])
    assert rig.learner.ended() == "max_env_steps"
    rig.learner.progress.count_episodes([1.0] * 100)
    rig.step(played[1])
    assert rig.learner.ended() == "max_env_steps"  # the target is passed; it cools down
    rig.step(played[2])
    assert rig.learner.ended() == "target"


def test_after_the_target_the_step_size_falls_and_then_the_run_ends(
    tmp_path: Path, played: Sequence[Trajectory]
) -> None:
    said: dict[str, Any] = {"target": 0.5, "cooldown": 3.0, "max_policy_lag": 10}
    rig = Rig(tmp_path, **said)
    rig.learner.begin()
    rig.learner.progress.count_episodes([1.0] * 100)
    rates = []
    for number in range(4):
        assert rig.learner.ended() is None
        rig.step(played[number])
        rates.append(rig.metric("learning_rate") or 0.0)
        if number == 1:  # killed in the middle of it; then games are lost
            rig.end()
            rig = Rig(tmp_path, **said)
            rig.learner.begin()
            rig.learner.progress.count_episodes([-1.0] * 100)
    assert rig.learner.ended() == "target"
    fractions = [rate / rates[0] for rate in rates]
    assert fractions == pytest.approx([1.0, 2 / 3, 1 / 3, 0.0], abs=1e-3)
    rig.wait(REPORT_S)
    assert rig.folder.read_metrics()[-1]["target_env_steps"] == STEPS
    rig.end()
    higher = Rig(tmp_path, **said | {"target": 0.9})
    higher.learner.begin()
    assert higher.learner.ended() is None
    higher.wait(REPORT_S)
    assert higher.folder.read_metrics()[-1]["target_env_steps"] is None


def test_without_limits_only_a_signal_ends_a_run(
    tmp_path: Path, played: Sequence[Trajectory]
) -> None:
    rig = Rig(tmp_path)
    rig.learner.begin()
    rig.step(played[0])
    rig.clock.now += 1e9
    rig.learner.progress.count_episodes([1.0] * 100)
    assert rig.learner.ended() is None
    assert rig.end() == "signal"


def test_run_ends_by_itself(tmp_path: Path, played: Sequence[Trajectory]) -> None:
    rig = Rig(tmp_path, max_env_steps=2 * STEPS)
    rig.send(*played)
    assert rig.learner.run(threading.Event()) == "max_env_steps"
    assert rig.learner.progress.env_steps == 2 * STEPS
    assert rig.checkpoints() == ["000000000003.safetensors"]
    assert rig.folder.read_metrics()[-1]["env_steps"] == 2 * STEPS


def test_a_stop_within_a_batch_discards_its_rest(
    tmp_path: Path, played: Sequence[Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was learned until then is in the checkpoint."""
    rig, stop = Rig(tmp_path), threading.Event()
    step = Optimiser.step

    def step_and_stop(self: Optimiser, learning_rate: float) -> float | None:
        stop.set()
        return step(self, learning_rate)

    monkeypatch.setattr(Optimiser, "step", step_and_stop)
    rig.send(played[0])
    assert rig.learner.run(stop) == "signal"
    saved = checkpoint.load(rig.folder.checkpoint_files()[0])
    assert (saved.progress.updates, saved.progress.env_steps) == (1, STEPS)


def test_a_flood_of_junk_keeps_no_step_from_ending(tmp_path: Path) -> None:
    rig = Rig(tmp_path)

    class Flood(MemoryInbox):
        frames = 0

        def receive(self, timeout_s: float) -> bytes:
            Flood.frames += 1
            assert Flood.frames < 10_000, "the step does not end"
            rig.clock.now += 0.001
            return b"junk"

    stages = LearnerMetrics(CollectorRegistry()).stages
    rig.learner.receiver = Receiver(Flood(rig.queue), stages)
    rig.learner.begin()
    rig.step()


# --- checkpoints ---------------------------------------------------------------------------------


def test_checkpoints_are_written_when_due_and_at_the_end(
    tmp_path: Path, played: Sequence[Trajectory]
) -> None:
    rig = Rig(tmp_path, checkpoints_kept=2)
    rig.learner.begin()
    rig.step(played[0])
    rig.clock.now += CHECKPOINT_S - 1
    rig.step(played[1])
    assert rig.checkpoints() == []
    rig.wait(1)
    assert rig.checkpoints() == ["000000000003.safetensors"]
    rig.wait(1)
    rig.step(played[2])
    rig.end()
    assert rig.checkpoints() == ["000000000005.safetensors", "000000000003.safetensors"]
    saved = checkpoint.load(rig.folder.checkpoints / rig.checkpoints()[0])
    assert saved.progress == rig.learner.progress
    assert saved.about["game"] == "catch"


def test_a_full_disk_is_counted_and_the_learner_goes_on(
    tmp_path: Path, played: Sequence[Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path)
    rig.learner.begin()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        rig.wait(CHECKPOINT_S)
    assert rig.metric("checkpoint_failures_total") == 1
    rig.step(played[0])
    assert rig.learner.progress.updates == UPDATES
    rig.wait(CHECKPOINT_S)
    assert len(rig.checkpoints()) == 1


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_a_resumed_run_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, played: Sequence[Trajectory], gradients: Sequence[Gradients], mode: str
) -> None:
    messages: Sequence[Message] = played if mode == "data" else gradients
    patient = {"mode": mode, "max_policy_lag": 10}
    twin = Rig(tmp_path / "twin", **patient)
    twin.learner.begin()
    for message in messages[:4]:
        twin.step(message)

    first = Rig(tmp_path / "one", **patient)
    first.learner.begin()
    for message in messages[:2]:
        first.clock.now += 1.5
        first.step(message)
    first.clock.now += 2.0
    before = first.newest()
    first.end()

    second = Rig(tmp_path / "one", resume="must", **patient)
    assert second.learner.progress == first.learner.progress
    assert second.learner.progress is not first.learner.progress
    second.learner.begin()
    again = second.newest()
    assert before is not None
    assert again is not None
    assert again.policy_version > before.policy_version
    assert again.run != before.run
    assert again.received == {}
    for message in messages[2:4]:
        second.step(message)
    expected, actual = twin.learner.progress, second.learner.progress
    assert (actual.env_steps, actual.updates) == (expected.env_steps, expected.updates)
    assert actual.recent_returns == expected.recent_returns
    assert actual.received_bytes == expected.received_bytes
    assert same(parameters(second.newest()), parameters(twin.newest()))
    second.wait(2.0)
    seconds = [row["seconds"] for row in second.folder.read_metrics()]
    assert seconds == sorted(seconds)
    assert seconds[-1] == 7.0  # 1.5 + 1.5 + 2, then 2 more


def test_a_resumed_run_is_not_calibrated_again(
    tmp_path: Path, played: Sequence[Trajectory]
) -> None:
    first = Rig(tmp_path, calibration_env_steps=STEPS, max_policy_lag=10)
    first.learner.begin()
    first.step(played[0])
    first.step(played[1])
    before = parameters(first.newest())
    first.end()
    second = Rig(tmp_path, calibration_env_steps=STEPS, max_policy_lag=10)
    second.learner.begin()
    after = parameters(second.newest())
    assert same(before, after)
    second.step(played[2])
    assert second.learner.progress.updates == 2 * UPDATES


def test_rows_beyond_the_checkpoint_are_forgotten(
    tmp_path: Path, played: Sequence[Trajectory]
) -> None:
    killed = Rig(tmp_path)
    killed.learner.begin()
    killed.step(played[0])
    killed.wait(CHECKPOINT_S)
    for message in played[1:3]:
        killed.clock.now += REPORT_S
        killed.step(message)
    assert [row["env_steps"] for row in killed.folder.read_metrics()] == [STEPS, 32, 48]
    resumed = Rig(tmp_path)
    resumed.learner.begin()
    assert [row["env_steps"] for row in resumed.folder.read_metrics()] == [STEPS]


def two_checkpoints(tmp_path: Path, played: Sequence[Trajectory]) -> list[Path]:
    rig = Rig(tmp_path)
    rig.learner.begin()
    for message in played[:2]:
        rig.clock.now += CHECKPOINT_S
        rig.step(message)
    assert rig.checkpoints() == ["000000000003.safetensors", "000000000002.safetensors"]
    return rig.folder.checkpoint_files()


def test_a_damaged_checkpoint_means_the_one_before(
    tmp_path: Path, played: Sequence[Trajectory]
) -> None:
    newest, older = two_checkpoints(tmp_path, played)
    newest.write_bytes(newest.read_bytes()[:1000])
    rig = Rig(tmp_path, resume="must")
    assert (rig.learner.progress.policy_version, rig.learner.progress.env_steps) == (2, STEPS)
    older.write_bytes(b"")
    with pytest.raises(CheckpointError, match="checkpoints"):
        Rig(tmp_path)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"game": "pong"}, "'catch'.*'pong'"),
        ({"network": "nature"}, "'small'.*'nature'"),
        ({"resume": "never"}, "holds a run"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(
    tmp_path: Path, played: Sequence[Trajectory], settings: dict[str, str], problem: str
) -> None:
    before = two_checkpoints(tmp_path, played)
    with pytest.raises(CheckpointError, match=problem):
        Rig(tmp_path, **settings)
    assert RunFolder(tmp_path).checkpoint_files() == before


def test_resuming_needs_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        Rig(tmp_path, resume="must")


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_folder_without_a_checkpoint_is_a_new_run(tmp_path: Path, resume: str) -> None:
    RunFolder.create(tmp_path).append_metrics({"env_steps": 0})  # of a run that died young
    rig = Rig(tmp_path, resume=resume)
    assert rig.learner.progress.env_steps == 0
    rig.learner.begin()
    assert rig.folder.read_metrics() == []
