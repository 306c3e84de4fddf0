"""A killed learner is started again while its actors keep running, each as a process."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest
from bench.local_run import free_ports

from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.service import EXIT_BUSY
from e2e.commands import (
    assert_rows_continue,
    env_steps,
    eventually,
    refused,
    running,
    saved,
    saved_updates,
)

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def restarted(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Kills the learner and starts it again; the actors keep running."""
    home = tmp_path_factory.mktemp("restarted")
    folder = RunFolder(home / "run")
    upstream, weights = free_ports(2)
    addresses = (
        f"--upstream-address=tcp://127.0.0.1:{upstream}",
        f"--weights-address=tcp://127.0.0.1:{weights}",
    )
    alone = ("actor", "--metrics-port=0", "--envs=2", *addresses)
    serve = ("learner", "--metrics-port=0", "--run-dir", folder.root, *addresses)
    facts = SimpleNamespace(folder=folder)
    with running(home / "actor-0", *alone) as one, running(home / "actor-1", *alone) as two:
        actors = (one, two)  # started before the learner
        with running(home / "learner", *serve) as learner:
            # Not a number of env steps: on a slow machine the checkpoint may be older.
            eventually(lambda: saved_updates(folder) > 0, "updates saved", learner, *actors)
            learner.signal(signal.SIGKILL)
            learner.exit_code()
        facts.before = saved(folder)
        for actor in actors:
            actor.signal(signal.SIGSTOP)  # so that the first row shows the restored counters
        # Actors must get credit without patience; the only checkpoint is the last one.
        again = (*serve, "--resume=must", "--patience-seconds=100", "--checkpoint-seconds=1000")
        with running(home / "learner-2", *again) as learner:
            eventually(
                lambda: f"checkpoint={facts.before.policy_version:012d}" in learner.text(),
                "the learner resumes",
                learner,
            )
            kept = len(folder.read_metrics())
            eventually(lambda: len(folder.read_metrics()) > kept, "a row", learner)
            facts.first_row = folder.read_metrics()[kept]
            for actor in actors:
                actor.signal(signal.SIGCONT)
            second = ("learner", "--metrics-port=0", "--run-dir", folder.root)
            facts.second = refused(home / "learner-3", *second, code=EXIT_BUSY)
            goal = facts.before.env_steps + 500
            eventually(lambda: env_steps(folder) >= goal, "more env steps", learner, *actors)
            learner.signal(signal.SIGTERM)
            facts.learner_code, facts.learner_text = learner.exit_code(), learner.text()
        facts.still_running = [actor.process.poll() is None for actor in actors]
        for actor in actors:
            actor.signal(signal.SIGTERM)
        facts.actor_codes = [actor.exit_code() for actor in actors]
        facts.actor_texts = [actor.text() for actor in actors]
    return facts


def test_a_restarted_learner_begins_at_its_checkpoint(restarted: SimpleNamespace) -> None:
    row, before = restarted.first_row, restarted.before
    assert row["env_steps"] == before.env_steps > 0
    assert row["updates"] == before.updates > 0
    assert row["episodes"] == before.episodes
    assert row["policy_version"] >= before.policy_version
    assert row["seconds"] > before.seconds
    assert_rows_continue(restarted.folder.read_metrics())


def test_actors_reconnect_to_a_restarted_learner(restarted: SimpleNamespace) -> None:
    assert restarted.still_running == [True, True]
    for text in restarted.actor_texts:
        assert text.count("new learner run") == 2  # the first one, and the one after it
        assert "weights disconnected" in text
        assert "Traceback" not in text


def test_sigterm_ends_each_service_cleanly(restarted: SimpleNamespace) -> None:
    assert (restarted.learner_code, restarted.actor_codes) == (0, [0, 0])
    assert "Traceback" not in restarted.learner_text
    summary = restarted.folder.read_summary()
    assert summary["ended_by"] == "signal"
    assert saved(restarted.folder).env_steps == summary["env_steps"]


def test_a_second_learner_cannot_use_the_folder(restarted: SimpleNamespace) -> None:
    """A killed learner's lock is gone, a living one's is not."""
    assert "another learner" in restarted.second
    assert str(restarted.folder.root) in restarted.second
