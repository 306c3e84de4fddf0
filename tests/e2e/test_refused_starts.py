"""A start that is refused leaves the run folder as it was, and a resumed run keeps its settings."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest
import torch

from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.service import EXIT_BAD_INPUT, EXIT_BUSY
from e2e.commands import refused, running

pytestmark = pytest.mark.processes

LEARNING = {
    "ASYNCADE_LEARNER_LEARNING_RATE": "0.0005",
    "ASYNCADE_LEARNER_DISCOUNT": "0.9",
    "ASYNCADE_LEARNER_REPEAT_ACTION_PROBABILITY": "0.25",
}
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is no reason to refuse")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run with settings of learning given as variables."""
    home = tmp_path_factory.mktemp("trained")
    folder = RunFolder(home / "run")
    limits = ("--game=catch", "--envs=4", "--max-env-steps=1000", "--target=null")
    command = ("train", "--run-dir", folder.root, *limits)
    with running(home / "output", *command, environ=LEARNING) as train:
        assert train.exit_code() == 0, train.text()
    assert "target" not in train.text()
    return folder


@pytest.fixture
def run(trained: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the finished run."""
    shutil.copytree(trained.root, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def files(root: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of change of every file under a folder."""
    paths = [path for path in root.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (("train", "--resume", "--game=pong", "--run-dir"), "'pong'"),
        pytest.param(("train", "--resume", "--device=cuda", "--run-dir"), "CUDA", marks=NO_GPU),
        (("learner", "--network=nature", "--metrics-port=0", "--run-dir"), "'nature'"),
        (("learner", "--resume=never", "--metrics-port=0", "--run-dir"), "holds a run"),
        (("learner", "--metrics-port={taken}", "--run-dir"), "--metrics-port"),
    ],
)
def test_a_start_that_does_not_fit_changes_nothing(
    run: RunFolder, command: tuple[str, ...], named: str
) -> None:
    before = files(run.root)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        words = [word.format(taken=taken.getsockname()[1]) for word in command]
        free = ["--upstream-address=tcp://127.0.0.1:*", "--weights-address=tcp://127.0.0.1:*"]
        more = free if words[0] == "learner" else []
        text = refused(run.root.parent / "output", *words, run.root, *more)
    assert named in text
    assert files(run.root) == before


@pytest.mark.parametrize("command", [("train", "--resume", "--run-dir"), ("learner", "--run-dir")])
def test_a_run_that_goes_on_is_left_alone(run: RunFolder, command: tuple[str, ...]) -> None:
    run.write_endpoints({"pid": os.getpid()})  # as of a learner that is alive
    with run.claimed():
        before = files(run.root)
        text = refused(run.root.parent / "output", *command, run.root, code=EXIT_BUSY)
        assert files(run.root) == before
    assert "another learner" in text


@NO_GPU
@pytest.mark.parametrize("command", ["train", "learner"])
def test_a_new_folder_that_is_refused_is_not_made(tmp_path: Path, command: str) -> None:
    text = refused(tmp_path / "output", command, "--device=cuda", "--run-dir=runs/new")
    assert "CUDA" in text
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_a_resumed_run_keeps_what_it_was_given(run: RunFolder) -> None:
    """In a new shell: without the variables, and without a GPU that was asked for once."""
    before = run.read_config()["learner"]
    assert (before["learning_rate"], before["discount"], before["target"]) == (0.0005, 0.9, None)
    command = ("train", "--resume", "--max-env-steps=1200", "--run-dir", run.root)
    new = {"ASYNCADE_LEARNER_DISCOUNT": "0.8"}
    with running(run.root.parent / "output", *command, environ=new) as train:
        assert train.exit_code() == 0, train.text()
    after = run.read_config()["learner"]
    changed = {name for name, value in after.items() if before[name] != value}
    assert changed - {"commit"} == {"discount", "max_env_steps", "run_dir", "resume"}
    assert "settings changed: discount 0.9 -> 0.8\n" in train.text()
    assert run.read_config()["train"]["envs"] == 4
    assert "settings changed" in (run.logs / "learner.log").read_text()


def test_a_limit_that_has_passed_starts_no_actors(run: RunFolder) -> None:
    command = ("train", "--resume", "--max-env-steps=500", "--run-dir", run.root)
    with running(run.root.parent / "output", *command) as train:
        assert train.exit_code() == 0, train.text()
    assert "nothing to train" in train.text()
    assert "--max-env-steps (500)" in train.text()
    assert "started; logs" not in train.text()
    assert (run.read_summary() or {})["ended_by"] == "max_env_steps"


def test_a_higher_target_is_not_reached_by_the_lower_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    first = ("train", "--game=catch", "--envs=4", "--target=-0.95", "--run-dir", folder.root)
    with running(tmp_path / "output", *first) as train:
        assert train.exit_code() == 0, train.text()
    assert "target reached after" in train.text()
    limit = (folder.read_summary() or {})["env_steps"] + 500
    higher = ("--target=0.999", f"--max-env-steps={limit}", "--run-dir", folder.root)
    with running(tmp_path / "output", "train", "--resume", *higher) as train:
        assert train.exit_code() == 0, train.text()
    assert "target reached" not in train.text()
    assert "target 0.999 not reached" in train.text()


def test_a_learning_rate_of_1000_ends_the_run_and_a_lower_one_continues_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    command = ("train", "--game=catch", "--envs=4", "--run-dir", folder.root)
    with running(tmp_path / "output", *command, "--learning-rate=1000") as train:
        assert train.exit_code() == EXIT_BAD_INPUT, train.text()
    first = train.text()
    assert "--learning-rate is 1000, the default 0.001" in first
    assert "ended by diverged" in first
    assert "--resume --learning-rate LOWER" in first
    summary = folder.read_summary() or {}
    assert summary["ended_by"] == "diverged"
    resume = ("train", "--resume", "--run-dir", folder.root)
    with running(tmp_path / "output", *resume) as train:  # it would do so again
        assert train.exit_code() == EXIT_BAD_INPUT, train.text()
    assert "--learning-rate" in train.text()
    limit = f"--max-env-steps={summary['env_steps'] + 2000}"
    with running(tmp_path / "output", *resume, "--learning-rate=0.001", limit) as train:
        assert train.exit_code() == 0, train.text()
    after = folder.read_summary() or {}
    assert (after["ended_by"], after["updates"] > summary["updates"]) == ("max_env_steps", True)
