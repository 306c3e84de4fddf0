"""The feed returns each version of a run once; other frames are counted and logged."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter
from structlog.testing import CapturingLogger

import builders
from asyncade_proto.codec import encode
from asyncade_runtime.stages import Stages
from asyncade_runtime.transport.memory import MemoryBroadcast
from asyncade_runtime.weights_feed import Arrival, WeightsFeed


class Fed:
    """A feed with its publisher, its counter and its logger."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        time = Counter("stage_seconds", "Time.", ("stage",), registry=self.registry)
        refused = Counter("refused", "Refused.", ("reason",), registry=self.registry)
        self.entered: list[str] = []
        stages = Stages(time, ("wait", "weights"))
        stages.enter = self.entered.append  # type: ignore[method-assign]
        broadcast = MemoryBroadcast()
        self.publisher = broadcast.publisher()
        self.log = CapturingLogger()
        self.feed = WeightsFeed(broadcast.subscriber(), stages, refused, self.log)

    def after(self, frame: bytes) -> Arrival | None:
        self.publisher.publish(frame)
        return self.feed.newer(0.0)

    def refused(self, reason: str) -> float | None:
        return self.registry.get_sample_value("refused_total", {"reason": reason})


def weights(version: int, run: int = 1) -> bytes:
    return encode(builders.weights(run=run, policy_version=version))


def test_weights_come_with_their_frame() -> None:
    rig = Fed()
    arrival = rig.after(weights(3))
    assert arrival is not None
    assert arrival.weights.policy_version == 3
    assert arrival.frame == weights(3)
    assert rig.entered == ["weights"]


def test_without_a_frame_no_stage_is_entered() -> None:
    rig = Fed()
    assert rig.feed.newer(0.0) is None
    assert rig.entered == []


def test_each_version_comes_once_and_no_older_one() -> None:
    rig = Fed()
    came = [rig.after(weights(version)) for version in (3, 3, 2, 4)]
    assert [arrival and arrival.weights.policy_version for arrival in came] == [3, None, None, 4]


def test_another_run_has_its_own_versions() -> None:
    rig = Fed()
    came = [rig.after(weights(version, run)) for version, run in ((9, 1), (1, 2), (1, 2), (2, 2))]
    assert [arrival is not None for arrival in came] == [True, True, False, True]


def test_frames_other_than_weights_are_counted_and_logged() -> None:
    rig = Fed()
    assert rig.after(b"junk") is None
    assert rig.after(encode(builders.trajectory())) is None
    assert (rig.refused("not_ours"), rig.refused("malformed")) == (1, 1)
    assert [call.method_name for call in rig.log.calls] == ["warning", "warning"]
    assert rig.after(weights(1)) is not None


@pytest.mark.parametrize(
    ("runs", "warnings"),
    [
        ((1, 2, 3, 4), 0),  # restarts
        ((1, 1, 2, 2), 0),
        ((1, 2, 1, 2, 1), 1),
        ((1, 2, 3, 1), 1),
    ],
)
def test_two_learners_in_turn_are_noticed(runs: tuple[int, ...], warnings: int) -> None:
    rig = Fed()
    for version, run in enumerate(runs, 1):
        assert rig.after(weights(version, run)) is not None
    assert [call.method_name for call in rig.log.calls] == ["warning"] * warnings
    if warnings:
        assert f"{runs[0]:016x}" in rig.log.calls[0].kwargs["runs"]
