"""Stages account for all time, each moment in one stage."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from asyncade_runtime.stages import Stages
from builders import Clock

NAMES = ("wait", "work", "rest")


class Timed:
    """Stages on a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = Clock(100.0)
        self.registry = CollectorRegistry()
        counter = Counter("stage_seconds", "Time.", ("stage",), registry=self.registry)
        self.stages = Stages(counter, NAMES, self.clock)

    def spend(self, name: str, seconds: float) -> None:
        self.stages.enter(name)
        self.clock.now += seconds

    def counted(self) -> dict[str, float | None]:
        return {
            name: self.registry.get_sample_value("stage_seconds_total", {"stage": name})
            for name in NAMES
        }


def test_time_counts_for_the_stage_entered_last() -> None:
    rig = Timed()
    rig.spend("work", 3.0)
    rig.spend("wait", 0.5)
    rig.spend("work", 1.0)
    rig.stages.enter("wait")
    assert rig.stages.seconds() == {"wait": 0.5, "work": 4.0, "rest": 0.0}
    assert rig.counted() == rig.stages.seconds()


def test_the_first_stage_runs_from_the_start() -> None:
    rig = Timed()
    rig.clock.now += 2.0
    rig.stages.enter("work")
    assert rig.stages.seconds()["wait"] == 2.0


def test_entering_the_same_stage_again_loses_nothing() -> None:
    rig = Timed()
    rig.spend("rest", 1.0)
    rig.spend("rest", 1.0)
    rig.stages.enter("wait")
    assert rig.stages.seconds()["rest"] == 2.0


def test_every_series_exists_from_the_start() -> None:
    assert Timed().counted() == dict.fromkeys(NAMES, 0.0)


def test_seconds_returns_a_copy() -> None:
    rig = Timed()
    rig.stages.seconds()["wait"] = 9.0
    assert rig.stages.seconds()["wait"] == 0.0
