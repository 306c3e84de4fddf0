"""More than the learner can take: nothing grows, and the surplus stays where it is made."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest
from bench.local_run import LocalRun
from bench.vitals import vitals

from e2e.commands import Command, assert_rows_continue, running

pytestmark = pytest.mark.processes

ROOM_MIB = 96
"""More than a learner's buffers differ by, and less than a queue that nothing bounds would take."""


def loadgen(run: LocalRun, output: Path, actors: int, *arguments: str) -> Command:
    options = (f"--actors={actors}", "--envs=4", "--seconds=600", "--unrolls=4", *arguments)
    return Command(output, "loadgen", *run.actor_addresses, *options)


def rss(pid: int | None) -> float:
    assert pid is not None
    return vitals(pid).rss


def test_a_flood_of_messages_waits_at_its_source(tmp_path: Path) -> None:
    """Producers of ten times what the learner takes, with credit for much more than it can hold."""
    settings = {
        "ASYNCADE_LEARNER_PASSES": "32",
        "ASYNCADE_LEARNER_MESSAGES_IN_FLIGHT": "512",
        "ASYNCADE_LEARNER_MAX_POLICY_LAG": "512",
    }
    with LocalRun(tmp_path, environ=settings) as run:
        learner = run.start_learner().pid
        flood = loadgen(run, tmp_path / "loadgen.log", 8)
        try:
            run.wait_for_updates(128)
            before = rss(learner), rss(flood.pid)
            run.wait_for_updates(256)
            after = rss(learner), rss(flood.pid)
            flood.signal(signal.SIGTERM)
            assert flood.exit_code() == 0, flood.text()
        finally:
            flood.process.kill()
            flood.process.wait()
        assert max(b - a for a, b in zip(before, after, strict=True)) < ROOM_MIB
        report = flood.text()
        refused = int(report.partition('"refused_sends": ')[2].partition(",")[0])
        assert refused > 0, report
        lags = [row["policy_lag_mean"] for row in run.folder.read_metrics()]
        assert max(lag for lag in lags if lag is not None) <= 512
        assert_rows_continue(run.folder.read_metrics())


@pytest.mark.faults_long
def test_a_stopped_subscriber_slows_nobody(tmp_path: Path) -> None:
    with LocalRun(tmp_path) as run:
        learner = run.start_learner().pid
        for number in range(3):
            run.start_actor(number)
        run.wait_for(lambda: run.metric("active_actors") == 3, "three actors are heard")
        run.wait_for_updates()
        for number in (1, 2):
            run.signal(f"actor-{number}", signal.SIGSTOP)
        run.wait_for_updates()
        before = rss(learner)
        published = run.metric("weights_published_total")
        run.wait_for(
            lambda: run.metric("weights_published_total") > published + 60, "sixty versions"
        )
        assert rss(learner) - before < ROOM_MIB
        for number in (1, 2):
            run.signal(f"actor-{number}", signal.SIGCONT)
        run.wait_for(lambda: run.metric("late_actors") == 0, "nobody is late any more")
        run.wait_for(lambda: run.metric("active_actors") == 3, "three actors are heard")


def test_sixty_four_actors_at_once_at_the_limit_of_open_files(tmp_path: Path) -> None:
    """Those that fit train; checkpoints that cannot be opened are counted; the rest joins later."""
    with LocalRun(tmp_path, environ={"ASYNCADE_LEARNER_BATCH_SAMPLES": "1024"}) as run:
        learner = run.start_learner().pid
        assert learner is not None
        room = int(vitals(learner).descriptors) + 32
        _, hard = resource.prlimit(learner, resource.RLIMIT_NOFILE)
        resource.prlimit(learner, resource.RLIMIT_NOFILE, (room, hard))
        with running(
            tmp_path / "loadgen.log",
            *("loadgen", *run.actor_addresses, "--actors=64", "--envs=1", "--unrolls=2"),
            "--seconds=600",
        ) as crowd:
            run.wait_for(lambda: vitals(learner).descriptors >= room - 1, "the limit is reached")
            run.wait_for(lambda: len(run.folder.read_metrics()) > 2, "rows")
            assert run.services["learner"].exit_code() is None, run.log("learner")
            resource.prlimit(learner, resource.RLIMIT_NOFILE, (hard, hard))
            run.wait_for(lambda: run.metric("active_actors") == 64, "all actors are heard")
            run.wait_for_updates()
            failures = run.metric("checkpoint_failures_total")
            saved = run.metric("checkpoint_last_success_timestamp_seconds")
            run.wait_for(
                lambda: run.metric("checkpoint_last_success_timestamp_seconds") > saved,
                "it saves again",
            )
            assert run.metric("checkpoint_failures_total") == failures
            assert crowd.process.poll() is None
        assert "Traceback" not in run.log("learner")
