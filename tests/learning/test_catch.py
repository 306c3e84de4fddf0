"""The real actor and learner learn Catch, stepped in turn by one thread.

Runs of one seed are therefore identical, whatever else the machine does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from asyncade_learner.progress import Progress
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.transport.memory import MemoryBroadcast, MemorySubscriber
from rigs.actor import make_actor
from rigs.learner import Rig

SETTINGS: dict[str, Any] = {
    "game": "catch",
    "precision": "float32",
    "unroll_length": 16,
    "calibration_env_steps": 512,
    "patience_seconds": 1e6,
    "checkpoint_seconds": 1e6,
    "report_seconds": 1.0,  # a row every turn
    "batch_samples": 256,
    "learning_rate": 3e-3,
    "minibatch_size": 64,
    "passes": 2,
    "anneal_env_steps": 100_000,
}
TARGET = 0.3  # two balls of three; chance is -0.85
BUDGET_ENV_STEPS = 60_000


class HastySubscriber(MemorySubscriber):
    """Does not wait: the learner, stepped by the same thread, publishes nothing meanwhile."""

    def latest(self, timeout_s: float) -> bytes | None:
        return super().latest(0.0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@contextmanager
def playing(
    run_dir: Path,
    envs: int,
    subscriber: Callable[[MemoryBroadcast], MemorySubscriber] = HastySubscriber,
    **settings: Any,
) -> Iterator[Iterator[Progress]]:
    """Yields an iterator that steps actor and learner, each time for the learner's progress."""
    rig = Rig(run_dir, SETTINGS, **settings)
    actor = make_actor(rig.queue.outbox(), subscriber(rig.broadcast), actor_id="actor", envs=envs)

    def turns() -> Iterator[Progress]:
        rig.learner.begin()
        for _ in count():
            actor.step()
            rig.wait(1.0)
            yield rig.progress

    yield turns()
    actor.close()


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_catch_is_learned(tmp_path: Path, mode: str) -> None:
    with playing(tmp_path, envs=16, mode=mode, seed=1) as turns:
        first_hundred = None
        for progress in turns:
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
    """Returns weights only after `LAG` newer ones were published; the first at once."""

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
    """Learns from data `LAG` versions old until the target or the budget is reached."""
    # Credit comes with the weights, so it is late too: more messages have to be in flight.
    given = SETTINGS | settings
    lag = LAG * given["passes"] * given["batch_samples"] // given["minibatch_size"]  # in updates
    flow = {"messages_in_flight": LAG + 2, "max_policy_lag": lag}
    late: dict[str, Any] = {"subscriber": LateSubscriber, "mode": "data"} | flow
    with playing(run_dir, envs=16, seed=seed, **late | settings) as turns:
        for progress in turns:
            if progress.reached(TARGET) or progress.env_steps >= budget:
                break
    rows = RunFolder.create(run_dir).read_metrics()
    # Calibration plays one game; the others begin some versions after it.
    lags = {row["policy_lag_mean"] for row in rows if row["policy_version"] > 64}
    assert lags == {float(lag)}
    assert not any(row["messages_dropped"] for row in rows)
    return progress


def test_stale_data_reach_the_target(tmp_path: Path) -> None:
    progress = stale_play(tmp_path, seed=3, budget=BUDGET_ENV_STEPS)
    assert progress.reached(TARGET), f"{progress.mean_return()} after {progress.env_steps}"


@pytest.mark.parametrize("vtrace", [True, False])
def test_plain_policy_gradient_learns_from_stale_data_only_with_vtrace(
    tmp_path: Path, vtrace: bool
) -> None:
    """A3C's own objective, one pass and no clip: only V-trace corrects for stale data."""
    plain = {"clip": None, "passes": 1, "learning_rate": 1e-3, "vtrace": vtrace}
    progress = stale_play(tmp_path, seed=1, budget=STALE_BUDGET_ENV_STEPS, **plain)
    assert progress.reached(TARGET) == vtrace, f"{progress.mean_return()}, {progress.env_steps}"
