"""Clocks hours apart change nothing but the times that are shown."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from bench.local_run import LocalRun

from e2e.commands import assert_rows_continue
from faults.patches import on_a_machine

pytestmark = pytest.mark.processes

HOURS = 3600.0


def test_machines_hours_apart_train_and_resume(tmp_path: Path) -> None:
    with LocalRun(tmp_path) as run:
        run.start_learner()
        for number, hours in enumerate((7, -7)):
            arguments = (f"--actor-id=actor-{number}", *run.actor_addresses)
            machine = on_a_machine(clock_s=hours * HOURS)
            run.start(f"actor-{number}", *arguments, environ=machine)
        run.wait_for(lambda: run.metric("active_actors") == 2, "both actors are heard")
        run.wait_for_updates()
        run.wait_for(lambda: run.folder.checkpoint_files(), "a checkpoint")
        run.kill("learner")
        folder = f"--run-dir={run.folder.root}"
        machine = on_a_machine(clock_s=-30 * HOURS)
        run.start("learner", folder, *run.learner_addresses, environ=machine)
        run.wait_for_updates()
        assert "resumed" in run.log("learner")
        run.wait_for(lambda: run.metric("active_actors") == 2, "both actors are heard")
        assert 0 < run.metric("last_update_timestamp_seconds") < time.time() - 29 * HOURS
    assert_rows_continue(run.folder.read_metrics())
