"""A disk that is full, read-only or slow: training goes on, says so, and saves again afterwards.

tests/e2e/test_processes.py does the same under `asyncade train`, with a limit of the file's size.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench.local_run import LocalRun

from asyncade_learner.checkpoint import load
from e2e.commands import assert_rows_continue, saved
from faults.patches import on_a_machine

pytestmark = pytest.mark.processes


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mounts a file system in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"file systems cannot be mounted here: {error}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Leaves no byte free."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**16))
        except OSError:
            pass
    yield
    filler.unlink()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    with mounted(folder / "checkpoints", "ro"):
        yield


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(full, id="full"),
        pytest.param(read_only, id="read-only", marks=pytest.mark.faults_long),
    ],
)
def test_training_outlives_a_disk_that_takes_nothing(
    tmp_path: Path, fault: Callable[[Path], Iterator[None]]
) -> None:
    folder = tmp_path / "run"
    with mounted(folder, "size=128m"), LocalRun(tmp_path) as run:
        run.start_learner()
        run.start_actor(0)
        run.wait_for(run.folder.checkpoint_files, "a checkpoint")
        with fault(folder):
            failures = run.metric("checkpoint_failures_total")
            run.wait_for(
                lambda: run.metric("checkpoint_failures_total") > failures + 1, "it is counted"
            )
            run.wait_for_updates()
            assert "checkpoint not written" in run.log("learner")
            assert run.metric("updates_total") > 0
            assert not [*folder.glob("checkpoints/.*")]  # no half takes the space that comes free
        before = run.metric("updates_total")
        run.wait_for(lambda: saved(run.folder).updates > before, "saved again")
        assert all(load(path) for path in run.folder.checkpoint_files())
        assert_rows_continue(run.folder.read_metrics())


def test_a_slow_disk_costs_its_own_time_only(tmp_path: Path) -> None:
    with LocalRun(tmp_path, environ={"ASYNCADE_LEARNER_CHECKPOINT_SECONDS": "2"}) as run:
        folder = f"--run-dir={run.folder.root}"
        machine = on_a_machine(fsync_s=1.0)
        run.start("learner", folder, *run.learner_addresses, environ=machine)
        run.start_actor(0)
        run.wait_for(lambda: len(run.folder.checkpoint_files()) >= 2, "two checkpoints")
        run.wait_for_updates()
        assert run.metric("checkpoint_failures_total") == 0
        assert "disconnected" not in run.log("actor-0")
        # Each of the two saves flushes the file and its folder.
        assert run.metric('stage_seconds_total{stage="checkpoint"}') >= 4
