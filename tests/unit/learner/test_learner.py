"""The learner's loop: what it gathers, when it improves, and what it publishes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.receiving import Receiver
from asyncade_learner.settings import LearnerSettings
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Message, Trajectory
from asyncade_rl.optimiser import Optimiser
from asyncade_runtime.transport.memory import MemoryInbox, MemorySubscriber
from asyncade_runtime.transport.roles import Envelope, Peer
from rigs.learner import (
    PASSES,
    PATIENCE_S,
    REPORT_S,
    SMALL,
    STEPS,
    UPDATES,
    Rig,
    T,
    begun,
    computed,
    parameters,
    played,
    same,
)

OF_ANY_AGE = {"max_policy_lag": 1000}
"""All of `played` and `computed` are of version 1."""


def of(actor: str, number: int) -> Trajectory:
    """An unroll by an actor of this name."""
    return replace(played()[number], actor_id=actor, sequence=number)


def shortened(unroll: Trajectory, steps: int) -> Trajectory:
    """Its first steps, as if no game had ended in them."""
    return replace(
        unroll,
        frames=unroll.frames[:, : steps + 4],
        actions=unroll.actions[:steps],
        behaviour_log_probs=unroll.behaviour_log_probs[:steps],
        rewards=unroll.rewards[:steps],
        ends=np.zeros_like(unroll.ends[:steps]),
        bootstrap_values=unroll.bootstrap_values[:0],
    )


def test_first_weights_then_improved_weights_are_published(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    assert rig.silent()
    assert not rig.health.ready
    rig.learner.begin()
    first = rig.newest()
    assert (first.policy_version, first.received) == (1, {})
    assert first.assignment == LearnerSettings(**SMALL).assignment("trajectories", 1.0)
    assert rig.health.ready
    rig.step()
    assert rig.silent()  # no message, no new version
    message = played()[0]
    rig.step(message)
    second, progress = rig.newest(), rig.progress
    assert (second.policy_version, second.received, second.run) == (2, {"a": 1}, first.run)
    assert not same(parameters(first), parameters(second))
    assert (progress.env_steps, progress.updates, progress.policy_version) == (STEPS, UPDATES, 2)
    assert progress.episodes == len(message.episodes.returns)
    assert progress.received_bytes == len(encode(message))
    assert rig.metric("samples_total") == PASSES * STEPS
    assert rig.metric("policy_lag_updates_sum") == 0
    assert rig.metric("messages_accepted_total", kind="trajectory") == 1


# --- batches -------------------------------------------------------------------------------------


def test_a_batch_waits_until_it_is_complete(tmp_path: Path) -> None:
    rig = begun(tmp_path, batch_samples=2 * STEPS)
    rig.step(of("a", 0))
    assert rig.progress.policy_version == 2  # of all actors that are known
    rig.step(of("b", 0))
    assert rig.progress.policy_version == 2
    rig.step(of("a", 1), of("b", 1))
    assert rig.progress.policy_version == 3
    assert rig.progress.env_steps == 3 * STEPS  # the fourth message waits in the socket
    assert rig.newest().received == {"a": 2, "b": 1}


def test_a_batch_is_complete_with_its_samples_whoever_sent_them(tmp_path: Path) -> None:
    rig = begun(tmp_path, batch_samples=2 * STEPS)
    rig.step(of("a", 0))
    rig.step(of("b", 0), of("b", 1))
    assert rig.progress.updates == 3 * UPDATES


def test_a_batch_has_one_unroll_of_every_actor_by_default(tmp_path: Path) -> None:
    rig = begun(tmp_path, batch_samples=4 * STEPS)
    rig.send(*(of(f"a{n}", number) for number in range(2) for n in range(4)))
    updates = []
    for _ in range(3):
        rig.step()
        updates.append(rig.progress.updates)
    # One unroll while one actor is known; then four; three wait for the fourth.
    assert updates == [n * UPDATES for n in (1, 5, 5)]
    rig.wait(REPORT_S)
    assert rig.metric("active_actors") == 4


def test_a_batch_may_have_unrolls_of_several_lengths(tmp_path: Path) -> None:
    rig = begun(tmp_path, batch_samples=4 * STEPS)
    rig.step(of("a", 0))
    short = shortened(of("b", 0), T // 2)
    rig.step(short, of("a", 1))
    assert rig.metric("samples_total") == PASSES * (2 * STEPS + short.env_steps)
    assert short.env_steps == STEPS // 2


def test_a_batch_that_had_to_grow_has_larger_minibatches(tmp_path: Path) -> None:
    """And so as many updates as before, with a larger step each."""
    rig = begun(tmp_path)
    rig.step(of("a", 0))
    small = rig.metric("learning_rate")
    for actor in "bc":
        rig.learner.phase.add(of(actor, 0))
    rig.step()
    assert rig.progress.updates == 2 * UPDATES
    assert rig.metric("learning_rate") == pytest.approx(2**0.5 * (small or 0.0), rel=1e-3)


def test_a_dead_actor_holds_up_one_batch_only(tmp_path: Path) -> None:
    rig = begun(tmp_path, batch_samples=2 * STEPS, report_seconds=0.05, **OF_ANY_AGE)
    rig.step(of("dead", 0))
    rig.step(of("b", 0), of("dead", 1))
    assert rig.progress.updates == 3 * UPDATES
    rig.step(of("b", 1))
    rig.wait(0.04)
    assert rig.progress.updates == 3 * UPDATES  # waits for the other actor
    rig.wait(0.02)  # twice the median, which is 0 here, and 0.05 s
    assert rig.progress.updates == 4 * UPDATES
    assert (rig.metric("active_actors"), rig.metric("late_actors")) == (2, 1)
    rig.step(of("b", 2))
    assert rig.progress.updates == 5 * UPDATES  # without waiting
    rig.step(of("dead", 2))  # it was slow, not dead: part of the batch that is open
    rig.step(of("b", 3))
    assert rig.progress.updates == 7 * UPDATES


def test_without_a_quorum_patience_ends_the_wait(tmp_path: Path) -> None:
    rig = begun(tmp_path, batch_samples=2 * STEPS, quorum=1.0)
    rig.step(played()[0])
    rig.step(replace(computed()[0], actor_id="b"))  # not requested: b is known, not its pace
    rig.step(played()[1])
    rig.wait(PATIENCE_S)
    assert rig.progress.updates == UPDATES
    rig.newest()
    rig.wait(0.5)
    assert rig.progress.updates == 2 * UPDATES
    assert rig.newest().received == {}


def test_a_late_actor_is_asked_for_shorter_unrolls(tmp_path: Path) -> None:
    rig = begun(tmp_path, batch_samples=3 * STEPS, unroll_length=32, **OF_ANY_AGE)
    rig.step(of("a", 0))
    rig.step(of("slow", 0), of("a", 1))
    rig.step(of("a", 2))
    rig.wait(0.1)
    assert rig.newest().unroll_lengths == {}
    rig.step(of("slow", 1), of("a", 3))
    newest = rig.newest()
    assert newest.unroll_lengths == {"slow": 16}  # the shortest
    assert newest.assignment.unroll_length == 32


def test_calibration_asks_for_one_game_and_then_for_a_share(tmp_path: Path) -> None:
    rig = begun(tmp_path, calibration_env_steps=2 * STEPS, batch_samples=4 * STEPS)
    games = [rig.newest().assignment.games]
    for actor in ("a", "b"):
        rig.step(of(actor, 0))
    rig.step(of("a", 1))
    games.append(rig.newest().assignment.games)
    assert games == [1, 4 * STEPS // (2 * T)]  # of two actors


def test_a_batch_has_the_steps_of_every_actor(tmp_path: Path) -> None:
    first, second = computed()[:2]
    rig = begun(tmp_path, mode="gradients", batch_samples=2 * STEPS)
    rig.step(first)
    assert rig.progress.policy_version == 2  # one actor is known
    rig.step(replace(first, actor_id="b"))
    assert rig.progress.policy_version == 2
    rig.step(second)
    assert rig.progress.policy_version == 3
    assert rig.progress.updates == 2 * UPDATES  # of steps that were taken side by side
    assert rig.metric("samples_total") == 3 * STEPS


def test_a_starved_learner_renews_credit(tmp_path: Path) -> None:
    rig = begun(tmp_path)
    rig.step(played()[0])
    before = rig.newest()
    rig.wait(PATIENCE_S)
    assert rig.silent()
    rig.wait(0.5)
    after = rig.newest()
    assert (after.policy_version, after.received) == (3, {})
    assert same(parameters(before), parameters(after))
    rig.wait(PATIENCE_S)
    assert rig.silent()  # patience starts again


# --- messages that are not used ------------------------------------------------------------------


def test_stale_messages_give_credit_and_count_as_play_but_are_not_used(tmp_path: Path) -> None:
    rig = begun(tmp_path)
    for message in played()[:3]:
        rig.step(message)  # 0, 1, 2 versions old
    before = rig.newest()
    rig.step(played()[3])
    after, progress = rig.newest(), rig.progress
    assert (after.policy_version, after.received, progress.updates) == (5, {"a": 4}, 3 * UPDATES)
    assert same(parameters(before), parameters(after))
    assert progress.env_steps == 4 * STEPS
    assert progress.episodes == sum(len(one.episodes.returns) for one in played()[:4])
    assert rig.metric("messages_dropped_total", reason="stale") == 1
    assert rig.metric("policy_lag_updates_sum") == (0 + 1 + 2) * UPDATES


def test_bad_messages_are_counted_by_reason_and_survived(tmp_path: Path) -> None:
    rig, good = begun(tmp_path), played()[0]
    bad: list[tuple[str, Message | bytes]] = [
        ("not_ours", b"GET / HTTP/1.1"),
        ("malformed", encode(good)[:-1]),
        ("malformed", rig.newest()),
        ("not_finite", replace(good, rewards=np.full_like(good.rewards, np.nan))),
        ("future", replace(good, policy_version=99)),
        ("unasked", computed()[0]),
        ("model", replace(good, actor_id="b", model="another")),
        ("action", replace(good, actor_id="c", actions=good.actions + np.uint8(3))),
        ("shape", replace(good, actor_id="d", frames=good.frames[..., :-1])),
    ]
    rig.step(*(message for _, message in bad))
    reasons = [reason for reason, _ in bad]
    for reason in reasons:
        counted = rig.metric("messages_dropped_total", reason=reason)
        assert counted == reasons.count(reason), reason
    assert (rig.progress.policy_version, rig.progress.updates) == (2, 0)  # published for credit
    assert rig.progress.env_steps == 2 * STEPS  # play of the future and unasked messages
    rig.wait(REPORT_S)
    assert rig.metric("active_actors") == 1
    rig.step(good)
    assert rig.progress.updates == UPDATES
    assert rig.newest().received.keys() == {"a"}  # none for senders of another run


def test_who_sends_is_reported_with_each_row(tmp_path: Path) -> None:
    rig = begun(tmp_path, max_policy_lag=0)
    rig.step(of("a", 0), of("b", 1))
    rig.step(of("a", 1))  # of the first version, which is too old by now
    rig.wait(REPORT_S)
    senders = rig.folder.read_senders()
    assert senders is not None
    assert [actor["id"] for actor in senders["actors"]] == ["a", "b"]
    assert senders["dropped"]["stale"] >= 1


def test_a_non_finite_gradient_is_skipped_and_counted(tmp_path: Path) -> None:
    rig, (first, second) = begun(tmp_path, mode="gradients"), computed()[:2]
    before = parameters(rig.newest())
    # The wire lets no such value through: a mean can still overflow, with other arithmetic.
    huge = {name: np.full_like(array, 3e38) for name, array in first.tensors.items()}
    rig.learner.phase.add(replace(first, tensors=huge))
    rig.step()
    after = rig.newest()
    assert (after.policy_version, rig.progress.updates) == (2, 0)
    assert rig.metric("updates_skipped_total") == 1
    assert same(before, parameters(after))
    rig.step(second)
    assert rig.progress.updates == UPDATES
    learned = parameters(rig.newest())
    assert not same(before, learned)
    assert all(bool(tensor.isfinite().all()) for tensor in learned.values())


def test_unknown_losses_create_no_series(tmp_path: Path) -> None:
    rig = begun(tmp_path, mode="gradients")
    rig.step(replace(computed()[0], losses={"total": 1.5, "made up": 2.0}))
    assert rig.metric("loss", part="total") == 1.5
    assert rig.metric("loss", part="made up") is None


def test_endless_junk_does_not_keep_a_step_from_ending(tmp_path: Path) -> None:
    rig = begun(tmp_path)

    class Flood(MemoryInbox):
        frames = 0

        def receive(self, timeout_s: float) -> Envelope:
            Flood.frames += 1
            assert Flood.frames < 10_000, "the step does not end"
            rig.clock.now += 0.001
            return Envelope(b"junk", Peer("10.0.0.9"))

    stages = LearnerMetrics(CollectorRegistry()).stages
    rig.learner.receiver = Receiver(Flood(rig.queue), stages)
    rig.step()
    assert Flood.frames > 0


# --- calibration, schedules, joining actors ------------------------------------------------------


def test_calibration_requests_trajectories_in_gradient_mode_too(tmp_path: Path) -> None:
    rig = begun(tmp_path, mode="gradients", calibration_env_steps=2 * STEPS)
    first = rig.newest()
    rig.step(computed()[0], played()[0])
    assert rig.metric("messages_dropped_total", reason="unasked") == 1
    second = rig.newest()
    assert first.assignment.request == second.assignment.request == "trajectories"
    assert second.received == {"a": 2}
    assert same(parameters(first), parameters(second))
    rig.step(played()[1])
    third = rig.newest()
    assert (third.policy_version, third.assignment.request) == (3, "gradients")
    assert rig.progress.updates == 0
    seen = np.concatenate([one.frames[:, 4:] for one in played()[:2]]).reshape(-1, 84, 84)
    before, after = parameters(second), parameters(third)
    np.testing.assert_allclose(after["frame_mean"], seen.mean(axis=0), rtol=1e-5)
    assert float(after["frame_scale"]) == pytest.approx(seen.std(axis=0).max() / 2, rel=1e-5)
    trained = before.keys() - {"frame_mean", "frame_scale"}
    assert all(torch.equal(before[name], after[name]) for name in trained)
    rig.step(computed()[1])
    assert (rig.progress.updates, rig.progress.policy_version) == (UPDATES, 4)


def test_a_starved_calibration_keeps_its_statistics(tmp_path: Path) -> None:
    rig = begun(tmp_path, calibration_env_steps=2 * STEPS, **OF_ANY_AGE)
    rig.step(played()[0])
    before = rig.progress.policy_version
    rig.wait(PATIENCE_S + 1)
    newest = rig.newest()
    assert (newest.policy_version, newest.received) == (before + 1, {})
    rig.step(played()[1])
    rig.step(played()[2])
    assert rig.progress.updates == UPDATES


def test_step_size_and_entropy_cost_fall_with_env_steps(tmp_path: Path) -> None:
    annealing: dict[str, Any] = {"anneal_env_steps": 2 * STEPS, "anneal_to": 0.25}
    rig = begun(tmp_path, **annealing, learning_rate=1e-3, entropy_cost=0.02)
    for message, left in zip(played()[:2], (0.5, 0.25), strict=True):
        rig.step(message)
        assert rig.newest().assignment.objective.entropy_cost == pytest.approx(0.02 * left)
        rate = 1e-3 * (STEPS / 2 / 128) ** 0.5  # for minibatches of half an unroll
        assert rig.metric("learning_rate") == pytest.approx(rate * left)


def test_a_joining_actor_gets_the_present_weights(tmp_path: Path) -> None:
    rig = begun(tmp_path)
    late = rig.broadcast.subscriber()
    rig.step()
    assert late.latest(0.0) is not None
    assert rig.metric("actor_joins_total") == 1
    assert rig.progress.policy_version == 1


def test_an_actor_that_joins_within_an_update_gets_the_present_weights_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets the last published version; the unfinished update is not published early."""
    rig = begun(tmp_path)
    late: list[MemorySubscriber] = []
    shown: list[bytes | None] = []

    def joined_by_one(self: Optimiser, learning_rate: float, limit: float) -> float:
        shown.extend(subscriber.latest(0.0) for subscriber in late)
        late.append(rig.broadcast.subscriber())
        return 1.0

    monkeypatch.setattr(Optimiser, "step", joined_by_one)
    rig.step(played()[0])
    assert len(late) == UPDATES >= 2
    for frame in shown:
        assert frame is not None
        assert decode(frame).policy_version == 1
    assert rig.metric("actor_joins_total") == UPDATES - 1
