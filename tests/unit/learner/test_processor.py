"""The CPU that the learner receives: its metrics, its log lines, and torch's threads."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from structlog.testing import CapturingLogger

from asyncade_learner import trainer
from asyncade_learner.processor import Processor
from asyncade_rl.optimiser import Optimiser
from builders import Clock
from rigs.learner import REPORT_S, Rig, begun, computed, make_learner, played

LOG_EVERY_S = 60.0


class Machine:
    """A learner whose optimiser steps take the wall and CPU time that the test says."""

    def __init__(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        follow: bool = True,
        **changes: str,
    ) -> None:
        self.rig = begun(tmp_path, max_policy_lag=10_000, passes=16, **changes)
        self.wall, self.cpu, self.throttled = Clock(), Clock(), Clock()
        self.log = CapturingLogger()
        self.threads = 2  # torch's own number stays: beside real neighbours, two take ages
        monkeypatch.setattr(torch, "set_num_threads", lambda n: setattr(self, "threads", n))
        self.costs: Callable[[int], tuple[float, float]] = lambda threads: (1.0, threads * 1.0)
        monkeypatch.setattr(Optimiser, "step", self._step)
        monkeypatch.setattr(trainer, "move", self._step)
        self.rig.learner.trainer.processor = Processor(
            self.rig.learner.telemetry.metrics,
            self.log,
            threads=2,
            follow=follow,
            clock=self.wall,
            cpu_clock=self.cpu,
            throttled=self.throttled,
        )

    def _step(self, *_: object, **__: object) -> float:
        wall, cpu = self.costs(self.threads)
        self.wall.now += wall
        self.cpu.now += cpu
        return 1.0

    def train(self, batches: int = 1) -> None:
        """Trains on some batches, 32 minibatches each, and reports."""
        message = (computed() if self.rig.learner.phase.request == "gradients" else played())[0]
        for _ in range(batches):
            self.rig.step(message)
        self.rig.wait(REPORT_S)

    def warnings(self) -> list[str]:
        """Returns the causes of the warnings so far."""
        return [c.kwargs["cause"] for c in self.log.calls if c.method_name == "warning"]


def test_a_learner_with_all_its_cpu_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path, monkeypatch)
    assert machine.rig.metric("cpu_share") != machine.rig.metric("cpu_share")  # not a number
    machine.train()
    assert (machine.rig.metric("cpu_share"), machine.rig.metric("torch_threads")) == (1.0, 2)
    assert machine.log.calls == []


def test_beside_a_neighbour_there_are_fewer_threads_a_metric_and_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path, monkeypatch)
    machine.train()
    machine.costs = lambda threads: (1.1, 1.1) if threads == 1 else (50.0, 60.0)
    machine.train(3)
    assert machine.threads == 1
    machine.train()
    assert (machine.rig.metric("cpu_share"), machine.rig.metric("torch_threads")) == (0.5, 1)
    assert len(machine.warnings()) == 1
    assert "processes" in machine.warnings()[0]


def test_a_used_up_quota_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch, follow=False)
    machine.costs = lambda threads: (2.0, 1.0 * threads)
    machine.throttled.now += 20.0
    machine.train()
    assert (machine.rig.metric("cpu_share"), machine.threads) == (0.5, 2)
    assert len(machine.warnings()) == 1
    assert "quota" in machine.warnings()[0]


def test_lines_of_the_log_are_a_minute_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path, monkeypatch, follow=False)
    processor = machine.rig.learner.trainer.processor
    assert processor is not None
    times: list[float] = []
    for number in range(50):
        with processor.minibatch(128):
            machine.wall.now += 10.0
            machine.cpu.now += 20.0 if number % 2 else 10.0
        lines = len(machine.log.calls)
        processor.report()
        times += [machine.wall.now] * (len(machine.log.calls) - lines)
    assert len(times) > 2
    assert all(b - a >= LOG_EVERY_S for a, b in pairwise(times))


def test_gradient_mode_measures_its_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch, follow=False, mode="gradients")
    machine.costs = lambda threads: (1.0, 0.6)
    machine.train()
    assert machine.rig.metric("cpu_share") == pytest.approx(0.3)
    assert machine.threads == 2


@pytest.mark.parametrize(("chosen", "expected"), [(None, {1, 2}), (2, {2})])
def test_threads_that_the_settings_name_are_fixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: int | None, expected: set[int]
) -> None:
    """Without their number, a trial of one thread follows the first minibatches."""
    rig = Rig(tmp_path)
    learner = make_learner(
        {"game": "catch", "torch_threads": chosen, "device": "cpu"},
        tmp_path,
        rig.learner.receiver,  # type: ignore[arg-type]  # not used
        rig.learner.publisher,
        rig.registry.__class__(),
        rig.health,
        threads=2,
    )
    seen = {2}
    monkeypatch.setattr(torch, "set_num_threads", seen.add)
    for _ in range(64):
        with learner.trainer.timed(128):
            pass
    assert seen == expected


def test_nobody_touches_the_threads_of_a_learner_without_a_number(tmp_path: Path) -> None:
    assert begun(tmp_path).learner.trainer.processor is None
