"""What processes tell while a run lasts."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from asyncade_actor.metrics import ActorMetrics
from asyncade_cli import compare_probe
from asyncade_cli.compare_probe import (
    Increase,
    Probe,
    Window,
    last_metrics_port,
    parse_sample,
    pause_after,
)
from asyncade_learner.metrics import LearnerMetrics
from asyncade_runtime.lifecycle import Health, serve_http
from asyncade_runtime.run_folder import RunFolder


def test_a_page_of_the_actor_is_understood() -> None:
    registry = CollectorRegistry()
    metrics = ActorMetrics(registry)
    metrics.env_steps.inc(512)
    metrics.messages.labels(kind="trajectory").inc(2)
    metrics.messages.labels(kind="gradients").inc(3)
    metrics.bytes_sent.inc(100)
    metrics.stages.enter("send")
    sample = parse_sample(generate_latest(registry).decode())
    assert sample["env_steps"] == 512
    assert sample["messages_sent"] == 5  # of both kinds
    assert sample["sent_bytes"] == 100
    assert sample["stage:wait"] > 0
    assert {name for name in sample if name.startswith("stage:")} == {
        *("stage:wait", "stage:weights", "stage:environment", "stage:inference"),
        *("stage:gradient", "stage:encode", "stage:send"),
    }


def test_a_page_of_the_learner_is_understood() -> None:
    registry = CollectorRegistry()
    metrics = LearnerMetrics(registry)
    metrics.env_steps.inc(64)
    metrics.updates.inc(7)
    metrics.published.inc(2)
    metrics.published_bytes.inc(2000)
    metrics.stages.enter("decode")
    sample = parse_sample(generate_latest(registry).decode())
    named = {name: sample[name] for name in ("env_steps", "updates", "published")}
    assert named == {"env_steps": 64, "updates": 7, "published": 2}
    assert sample["published_bytes"] == 2000
    assert sample["stage:wait"] > 0
    if Path("/proc/self/stat").exists():
        assert sample["cpu_seconds"] > 0


def test_the_increase_goes_on_over_a_restart() -> None:
    counter = Increase()
    assert counter.grown() == {}
    for value in (100.0, 150.0, 30.0, 40.0):
        counter.add({"env_steps": value, "stage:wait": value / 10})
    assert counter.grown() == {"env_steps": 90.0, "stage_seconds": {"wait": pytest.approx(9.0)}}


def test_the_window_opens_with_the_first_update() -> None:
    window = Window()
    window.add(1.0, {"updates": 0, "env_steps": 1000}, {"actor-0": {"env_steps": 1000}})
    assert window.report() is None
    window.add(2.0, {"updates": 5, "env_steps": 2000}, {"actor-0": {"env_steps": 2100}})
    assert window.report() is None  # one sample has no increase
    window.add(4.0, {"updates": 9, "env_steps": 2600}, {"actor-0": {"env_steps": 2500}})
    report = window.report()
    assert report is not None
    assert report["seconds"] == 2.0
    assert report["learner"]["env_steps"] == 600
    assert report["actors"]["actor-0"]["env_steps"] == 400


@pytest.mark.parametrize(
    "line",
    [
        "2026-01-31 12:00:00 [info     ] up    instance=actor-0 metrics_port=4711 service=actor",
        '{"timestamp": "x", "event": "up", "metrics_port": 4711}',
    ],
)
def test_the_port_is_the_one_named_last(line: str) -> None:
    assert last_metrics_port(["metrics_port=1", "else", line, "environment protocol"]) == 4711
    assert last_metrics_port(["nothing"]) is None


def test_a_run_is_sampled_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pages in this process stand for the services."""
    learner_registry, actor_registry = CollectorRegistry(), CollectorRegistry()
    learner, actor = LearnerMetrics(learner_registry), ActorMetrics(actor_registry)
    learner.updates.inc()
    folder = RunFolder(tmp_path)
    monkeypatch.setattr(compare_probe, "SHORTEST_PAUSE_S", 0.001)
    seen = threading.Semaphore(0)
    add = Window.add

    def counted(self: Window, *sample: object) -> None:
        add(self, *sample)  # type: ignore[arg-type]
        seen.release()

    monkeypatch.setattr(Window, "add", counted)
    health = Health(60)
    with (
        serve_http("127.0.0.1", 0, learner_registry, health) as one,
        serve_http("127.0.0.1", 0, actor_registry, health) as other,
    ):
        (folder.logs / "actor-0.log").write_text(f"up metrics_port={other.port}\n")
        folder.write_endpoints({"metrics": f"http://127.0.0.1:{one.port}/metrics"})
        with Probe(folder) as probe:
            assert seen.acquire(timeout=30)
            learner.env_steps.inc(500)
            actor.env_steps.inc(480)
            for _ in range(2):  # one sample may have been under way
                assert seen.acquire(timeout=30)
    report = probe.report()
    assert report is not None
    assert report["learner"]["env_steps"] == 500
    assert report["actors"]["actor-0"]["env_steps"] == 480


def test_a_run_that_nobody_serves_has_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_probe, "SHORTEST_PAUSE_S", 0.001)
    folder = RunFolder(tmp_path)
    folder.write_endpoints({"metrics": "http://127.0.0.1:9/metrics"})
    with Probe(folder) as probe:
        pass
    assert probe.report() is None


def test_samples_are_close_at_first_and_rare_later() -> None:
    assert [pause_after(seconds) for seconds in (0.0, 2.0, 1000.0)] == [0.2, 0.4, 1.0]
