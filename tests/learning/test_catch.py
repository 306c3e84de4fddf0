"""Catch is learned by the real actor and learner, stepped in turn by one thread.

So every run of a seed is the same, whatever the machine is busy with.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client import CollectorRegistry

from asyncade_actor.actor import Actor
from asyncade_actor.metrics import ActorMetrics
from asyncade_learner.learner import Learner
from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.progress import Progress
from asyncade_learner.settings import LearnerSettings
from asyncade_learner.wiring import make_learner
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.transport.memory import (
    MemoryBroadcast,
    MemoryInbox,
    MemoryQueue,
    MemorySubscriber,
)

SETTINGS: dict[str, Any] = {
    "game": "catch",
    "precision": "float32",
    "unroll_length": 16,
    "calibration_env_steps": 512,
    "patience_seconds": 1e6,  # the clock decides nothing here
    "batch_unrolls": 1,
    "gradients_per_update": 1,
    "learning_rate": 3e-3,
    "minibatch_size": 64,
    "passes": 2,
    "report_seconds": 1e-9,  # a row every turn
    "anneal_env_steps": 100_000,
}
TARGET = 0.3  # two balls of three; chance is -0.85
BUDGET_ENV_STEPS = 60_000


class HastyInbox(MemoryInbox):
    """The thread that would wait is the one that would send."""

    def receive(self, timeout_s: float) -> bytes | None:
        return super().receive(0.0)


class HastySubscriber(MemorySubscriber):
    def latest(self, timeout_s: float) -> bytes | None:
        return super().latest(0.0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@contextmanager
def playing(run_dir: Path, envs: int, **settings: Any) -> Iterator[Iterator[Learner]]:
    """Yields the learner after every turn of the two."""
    queue, broadcast = MemoryQueue(), MemoryBroadcast()
    learner = make_learner(
        LearnerSettings(**SETTINGS | {"run_dir": run_dir} | settings),
        inbox=HastyInbox(queue),
        publisher=broadcast.publisher(),
        folder=RunFolder.create(run_dir),
        metrics=LearnerMetrics(CollectorRegistry()),
        health=Health(60.0),
    )
    actor = Actor(
        actor_id="actor",
        envs=envs,
        env_threads=1,
        outbox=queue.outbox(),
        subscriber=HastySubscriber(broadcast),
        metrics=ActorMetrics(CollectorRegistry()),
        health=Health(60.0),
    )

    def turns() -> Iterator[Learner]:
        learner.begin()
        for _ in count():
            actor.step()
            learner.step()
            yield learner

    yield turns()
    actor.close()


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_catch_is_learned(tmp_path: Path, mode: str) -> None:
    with playing(tmp_path, envs=16, mode=mode, seed=1) as turns:
        first_hundred = None
        for learner in turns:
            progress = learner.progress
            mean = progress.mean_return()
            if first_hundred is None and progress.episodes >= 100:
                first_hundred = mean
            if progress.reached(TARGET) or progress.env_steps >= BUDGET_ENV_STEPS:
                break
    assert first_hundred is not None
    assert first_hundred < -0.5
    assert progress.reached(TARGET), f"{mean} after {progress.env_steps} env steps"


def curve(run_dir: Path, seed: int) -> list[tuple[int, float | None, float | None]]:
    small = {"unroll_length": 8, "calibration_env_steps": 32, "minibatch_size": 16}
    with playing(run_dir, envs=4, mode="data", seed=seed, **small) as turns:
        for _ in zip(range(40), turns, strict=False):
            pass
    rows = RunFolder.create(run_dir).read_metrics()
    return [(row["updates"], row["mean_return_100"], row.get("loss_total")) for row in rows]


def test_the_same_seed_gives_the_same_curve(tmp_path: Path) -> None:
    once, again = curve(tmp_path / "once", seed=2), curve(tmp_path / "again", seed=2)
    assert once == again
    assert once[-1][0] > 100
    assert once[-1][1] is not None
    assert curve(tmp_path / "other", seed=3) != once


LAG = 4
STALE_BUDGET_ENV_STEPS = 50_000


class LateSubscriber(HastySubscriber):
    """Hands out weights only when `LAG` newer ones have been published; the first at once."""

    def __init__(self, broadcast: MemoryBroadcast) -> None:
        super().__init__(broadcast)
        self._held: deque[bytes] = deque()
        self._begun = False

    def latest(self, timeout_s: float) -> bytes | None:
        newest = super().latest(timeout_s)
        if newest is not None:
            self._held.append(newest)
            if not self._begun:
                self._begun = True
                return newest
        return self._held.popleft() if len(self._held) > LAG else None


def stale_play(run_dir: Path, seed: int, budget: int, **settings: Any) -> Progress:
    """Plays until the target or the budget is reached by data that are all `LAG` versions old."""
    # Credit comes with the weights, so late too: more messages may be on their way.
    flow = {"messages_in_flight": LAG + 2, "max_policy_lag": LAG}
    with playing(run_dir, envs=16, mode="data", seed=seed, **flow | settings) as turns:
        for learner in turns:
            progress = learner.progress
            if progress.reached(TARGET) or progress.env_steps >= budget:
                break
    rows = RunFolder.create(run_dir).read_metrics()
    lags = {row["policy_lag_mean"] for row in rows if row["policy_version"] > 2 * LAG}
    assert lags == {float(LAG)}
    assert not any(row["messages_dropped"] for row in rows)
    return progress


def test_data_of_four_versions_ago_reach_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "HastySubscriber", LateSubscriber)
    progress = stale_play(tmp_path, seed=3, budget=BUDGET_ENV_STEPS)
    assert progress.reached(TARGET), f"{progress.mean_return()} after {progress.env_steps}"


@pytest.mark.parametrize("vtrace", [True, False])
def test_plain_policy_gradient_learns_from_stale_data_by_vtrace_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vtrace: bool
) -> None:
    """A3C's own objective, one pass and no clip: nothing but V-trace knows that data are stale."""
    monkeypatch.setattr(sys.modules[__name__], "HastySubscriber", LateSubscriber)
    plain = {"clip": None, "passes": 1, "learning_rate": 1e-3, "vtrace": vtrace}
    progress = stale_play(tmp_path, seed=1, budget=STALE_BUDGET_ENV_STEPS, **plain)
    assert progress.reached(TARGET) == vtrace, f"{progress.mean_return()}, {progress.env_steps}"
