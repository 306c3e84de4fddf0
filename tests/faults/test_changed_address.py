"""The learner's machine is lost without a word, and the learner comes back at another address."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from bench.local_run import DEADLINE_S, addresses

from asyncade_runtime.run_folder import RunFolder
from e2e.commands import assert_rows_continue, saved, saved_updates
from faults.machines import LEARNER_HOST, two_machines

pytestmark = pytest.mark.processes

OLD, NEW = "10.0.0.1", "10.0.0.3"


def wait_for(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.mark.faults_long
@pytest.mark.parametrize("begins", ["connected", "connecting"])
def test_actors_find_a_learner_at_a_new_address(tmp_path: Path, begins: str) -> None:
    """Connected actors give up after the heartbeats, connecting ones after the connect timeout."""
    folder, log = RunFolder(tmp_path / "run"), tmp_path / "actor.log"
    arguments = (f"--run-dir={folder.root}", *addresses(5555, 5556, host="0.0.0.0"))
    with two_machines() as machines, ExitStack() as processes:

        def start(machine: str, service: str, *options: str) -> None:
            process = machines.start(machine, tmp_path / f"{service}.log", service, *options)
            processes.callback(process.wait)
            processes.callback(process.kill)
            started[service] = process

        started = {}
        machines.move(OLD)
        if begins == "connected":
            start(machines.learner, "learner", *arguments)
            start(machines.actors, "actor", *addresses(5555, 5556, host=LEARNER_HOST))
            wait_for(lambda: saved_updates(folder) > 0, log)
        machines.move(NEW, OLD)
        if begins == "connected":
            started["learner"].kill()
            started["learner"].wait()
        else:  # the name still has the old address, and the first SYNs get no answer
            machines.name(OLD)
            start(machines.actors, "actor", *addresses(5555, 5556, host=LEARNER_HOST))
            wait_for(lambda: "not connected" in log.read_text(), log)
            machines.name(NEW)
        before = saved(folder).updates if begins == "connected" else 0
        moved = time.monotonic()
        start(machines.learner, "learner", *arguments)
        wait_for(lambda: saved_updates(folder) > before, log)
        print(f"{begins}: training again after {time.monotonic() - moved:.1f} s")
        assert started["actor"].poll() is None, log.read_text()
    assert_rows_continue(folder.read_metrics())
