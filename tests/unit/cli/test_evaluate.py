"""Which checkpoint ``asyncade eval`` plays, and that it only reads."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from asyncade_cli.evaluate import evaluate
from asyncade_cli.settings import EvalSettings
from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.settings import LearnerSettings
from asyncade_learner.wiring import make_learner
from asyncade_rl.session import Session
from asyncade_runtime.files import RunFolderError
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.transport.memory import MemoryBroadcast, MemoryInbox, MemoryQueue
from builders import Clock

OURS = "000000000001.safetensors"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A copy of config.json and checkpoints alone, of a run of Catch."""
    folder = RunFolder.create(tmp_path / "whole")
    settings = LearnerSettings(game="catch", run_dir=folder.root, repeat_action_probability=0.25)
    folder.write_config("learner", settings.model_dump(mode="json"))
    clock = Clock()
    learner = make_learner(
        settings,
        inbox=MemoryInbox(MemoryQueue(capacity=1)),
        publisher=MemoryBroadcast().publisher(),
        folder=folder,
        metrics=LearnerMetrics(CollectorRegistry()),
        health=Health(stall_seconds=60.0, clock=clock),
        clock=clock,
    )
    stop = threading.Event()
    stop.set()
    learner.run(stop)
    assert [path.name for path in folder.checkpoint_files()] == [OURS]
    copy = RunFolder(tmp_path / "run")
    shutil.copytree(folder.checkpoints, copy.checkpoints)
    shutil.copy(folder.root / "config.json", copy.root)
    return copy


def files(run: RunFolder) -> dict[Path, tuple[int, int]]:
    """Every file and folder of the run, with its size and time of change."""
    stats = {path: path.stat() for path in [run.root, *run.root.rglob("*")]}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


def report(run: RunFolder, **settings: Any) -> dict[str, Any]:
    return evaluate(run.root, EvalSettings(episodes=2, envs=2, **settings))


def test_a_file_of_the_user_is_played_only_if_named(run: RunFolder, tmp_path: Path) -> None:
    (path,) = run.checkpoint_files()
    kept = tmp_path / "kept.safetensors"
    kept.write_bytes(path.read_bytes())
    (run.checkpoints / "best.safetensors").write_bytes(path.read_bytes())
    assert report(run)["checkpoint"] == OURS
    assert report(run, checkpoint=Path("best.safetensors"))["checkpoint"] == "best.safetensors"
    path.write_bytes(b"damaged")
    assert report(run, checkpoint=kept)["checkpoint"] == "kept.safetensors"
    with pytest.raises(RunFolderError, match=OURS):
        report(run, checkpoint=path)
    with pytest.raises(RunFolderError, match=r"absent\.safetensors"):
        report(run, checkpoint=Path("absent.safetensors"))


def test_the_games_are_those_of_the_training(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def session(*arguments: Any, **options: Any) -> Session:
        made.append(options["repeat_action_probability"])
        return Session(*arguments, **options)

    monkeypatch.setattr("asyncade_cli.trained.Session", session)
    report(run)
    assert made == [0.25]


def test_a_read_only_copy_is_played(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(run)

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    original = Path.open

    def opened(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        return (original if mode.startswith("r") else read_only)(path, mode, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        for name in ("mkdir", "touch", "write_text", "write_bytes", "unlink", "replace"):
            patch.setattr(Path, name, read_only)
        assert report(run)["episodes"] == 2
    assert files(run) == before
    assert "not kept" in capsys.readouterr().err


def test_evaluations_are_added_to_the_run_and_nothing_else_changes(run: RunFolder) -> None:
    before = {path for path in files(run) if path.is_file()}
    made = [report(run), report(run, policy="greedy")]
    assert {path for path in files(run) if path.is_file()} - before == {
        run.root / "evaluations.jsonl"
    }
    kept = list(run.evaluations)
    assert [row.pop("unix_time") > 0 for row in kept] == [True, True]
    assert kept == made
