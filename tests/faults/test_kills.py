"""Services are killed and stopped at random moments: the run goes on, and its counters never fall.

Only the moments are random, from a seed that the failing test shows. The test restarts what it has
killed, as an orchestrator would.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.local_run import LocalRun

from asyncade_runtime.run_folder import RunFolder
from e2e.commands import assert_rows_continue, saved

pytestmark = pytest.mark.processes

LONG = [
    pytest.param("data", seed, marks=pytest.mark.faults_long, id=f"data-{seed}") for seed in (2, 3)
] + [
    pytest.param("gradients", seed, marks=pytest.mark.faults_long, id=f"gradients-{seed}")
    for seed in (1, 2)
]


@pytest.mark.parametrize(("mode", "seed"), [pytest.param("data", 1, id="data-1"), *LONG])
def test_a_run_goes_on_whatever_is_killed_or_stopped(tmp_path: Path, mode: str, seed: int) -> None:
    moments = random.Random(seed)
    faults: list[tuple[str, Callable[[LocalRun, str, random.Random], None]]] = [
        *((name, killed) for name in ("actor-0", "learner", "relay")),
        *((name, stopped) for name in ("actor-1", "learner", "relay")),
    ]
    moments.shuffle(faults)
    environ = {"ASYNCADE_LEARNER_MODE": mode}
    with LocalRun(tmp_path, relay=True, environ=environ) as run:
        run.start_learner()
        run.start_relay()
        for number in range(2):
            run.start_actor(number)
        run.wait_for_updates()
        for name, fault in faults:
            time.sleep(moments.uniform(0, 1))  # the random moment
            print(f"seed {seed}: {name} {fault.__name__}")
            fault(run, name, moments)
            run.wait_for_updates()
        run.signal("learner", signal.SIGTERM)
        run.services["learner"].wait(60)
        assert run.services["learner"].exit_code() == 0
        for name in ("actor-0", "actor-1", "relay"):
            assert run.services[name].exit_code() is None, run.log(name)
    assert_rows_continue(run.folder.read_metrics())
    assert saved(run.folder).updates == run.folder.read_metrics()[-1]["updates"]


def killed(run: LocalRun, name: str, moments: random.Random) -> None:
    """Kills a service. A learner resumes from its newest checkpoint: what is younger is lost."""
    if name == "learner":
        run.wait_for(lambda: run.folder.checkpoint_files(), "a checkpoint")
    run.kill(name)
    newest = saved(run.folder) if name == "learner" else None
    run.again(name)
    if newest is not None:
        assert f"checkpoint={newest.policy_version:012d}" in run.log("learner")
        assert first_row_since(run.folder, newest.seconds)["updates"] >= newest.updates


def stopped(run: LocalRun, name: str, moments: random.Random) -> None:
    """Stops a service for up to a second, as a paused machine does."""
    run.signal(name, signal.SIGSTOP)
    time.sleep(moments.uniform(0, 1))  # for this long
    run.signal(name, signal.SIGCONT)


def first_row_since(folder: RunFolder, seconds: float) -> dict[str, float]:
    """Returns the first row after a checkpoint; there is at least one at the end of every wait."""
    rows = [row for row in folder.read_metrics() if row["seconds"] > seconds]
    return rows[0] if rows else {"updates": float("inf")}
