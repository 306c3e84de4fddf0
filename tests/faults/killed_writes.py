"""Program: kills a learner's save at every system call, and resumes after each.

usage: python killed_writes.py FOLDER

A process of its own, because it forks: the tests' process has threads. Prints how many stops there
were. The folder holds a run with a checkpoint; each copy of it is saved to once more.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import structlog
import torch
from prometheus_client import CollectorRegistry

from asyncade_learner.checkpoint import Checkpoint, resume, save
from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.progress import Progress
from asyncade_learner.settings import LearnerSettings
from asyncade_learner.trainer import Trainer
from asyncade_rl.network import make_network
from asyncade_runtime.run_folder import RunFolder
from faults.system_calls import killed_at

ABOUT = {"game": "catch", "network": "small", "model": "0123456789abcdef"}
OLDER, NEWER, LATER = 3, 7, 8
"""Versions: of the good checkpoint, of the one whose write is killed, of the one after that."""

_log = structlog.wrap_logger(structlog.testing.CapturingLogger())


def trainer(version: int) -> Trainer:
    """Returns a trainer whose weights tell the version."""
    network, registry = make_network(3, "small", seed=version), CollectorRegistry()
    return Trainer(network, LearnerSettings(game="catch"), LearnerMetrics(registry).stages)


def write(folder: RunFolder, version: int) -> None:
    progress = Progress(env_steps=100 * version, updates=version, policy_version=version)
    one = trainers[version]
    checkpoint = Checkpoint(
        progress=progress,
        model=one.network.state_dict(),
        optimiser=one.optimiser.state(),
        generator=one.generator.get_state(),
        about=ABOUT,
    )
    save(folder, checkpoint, keep=1)


def check(folder: RunFolder, stop: int) -> None:
    """Resumes from the older checkpoint or from the newer, whole in either case, and saves on."""
    fresh = trainer(LATER)
    resumed = resume(folder, fresh, ABOUT, "must", _log)
    assert resumed is not None
    version = resumed.progress.policy_version
    assert version in (OLDER, NEWER), (stop, version)
    state, expected = fresh.network.state_dict(), trainers[version].network.state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in expected), stop
    write(folder, LATER)
    assert {path.name for path in folder.checkpoints.iterdir()} == {
        path.name for path in folder.checkpoint_files()
    }, stop  # no half is left


def main(home: Path) -> None:
    first = RunFolder.create(home / "first")
    write(first, OLDER)
    resumed: dict[int, int] = {OLDER: 0, NEWER: 0}
    for stop in itertools.count():
        folder = RunFolder(home / "copy")
        shutil.copytree(first.root, folder.root)
        killed = killed_at(lambda folder=folder: write(folder, NEWER), stop)  # type: ignore[misc]
        newest = int(folder.checkpoint_files()[0].stem)
        check(folder, stop)
        resumed[newest] += 1
        shutil.rmtree(folder.root)
        if not killed:
            break
    assert min(resumed.values()) > 5, resumed
    print(f"stops: {stop}, {resumed}")


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    trainers: dict[int, Any] = {version: trainer(version) for version in (OLDER, NEWER, LATER)}
    main(Path(sys.argv[1]))
