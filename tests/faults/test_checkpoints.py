"""Whatever happens to a checkpoint, a run resumes from the last good one, and says so."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bench.local_run import LocalRun

from asyncade_learner.checkpoint import CheckpointError, load
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.service import EXIT_BAD_INPUT
from e2e.commands import assert_rows_continue

pytestmark = pytest.mark.processes

HERE = Path(__file__).parent


def test_a_save_killed_at_any_system_call_leaves_the_last_good_one(tmp_path: Path) -> None:
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(HERE / "killed_writes.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if "cannot be traced here" in done.stderr:
        pytest.skip("processes cannot be traced here")
    assert done.returncode == 0, done.stderr
    print(done.stdout)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with several checkpoints, whose learner was killed."""
    with LocalRun(tmp_path_factory.mktemp("trained")) as run:
        run.start_learner()
        run.start_actor(0)
        run.wait_for(lambda: len(run.folder.checkpoint_files()) >= 4, "four checkpoints")
        run.kill("learner")
    return run.folder


RARE = [
    pytest.param(name, marks=pytest.mark.faults_long)
    for name in ("cut", "empty", "header", "optimiser", "last byte")
]


@pytest.mark.parametrize("damage", ["model", *RARE])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_resumed(
    trained: RunFolder, tmp_path: Path, damage: str
) -> None:
    with LocalRun(tmp_path) as run:
        shutil.copytree(trained.root, run.folder.root)
        newest, before = run.folder.checkpoint_files()[:2]
        newest.write_bytes(damaged(newest.read_bytes(), damage, random.Random(damage)))
        with pytest.raises(CheckpointError):
            load(newest)
        run.start_learner("--resume=must")
        run.start_actor(0)
        run.wait_for_updates()
        said = run.log("learner")
        assert str(newest) in said
        assert f"checkpoint={before.name}" in said
    assert_rows_continue(run.folder.read_metrics())


@pytest.mark.faults_long
@pytest.mark.parametrize("name", ["config.json", "endpoints.json", "senders.json"])
def test_half_a_json_file_is_replaced_or_named(
    trained: RunFolder, tmp_path: Path, name: str
) -> None:
    """Only a damaged disk leaves half of one: they are written whole or not at all."""
    with LocalRun(tmp_path) as run:
        shutil.copytree(trained.root, run.folder.root)
        path = run.folder.root / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        if name == "config.json":  # it holds the settings that the run goes on with
            learner = run.start("learner", f"--run-dir={run.folder.root}", *run.learner_addresses)
            learner.wait(60)
            assert learner.exit_code() == EXIT_BAD_INPUT
            assert str(path) in run.log("learner")
            assert "repair or remove" in run.log("learner")
            path.unlink()
        run.start_learner("--resume=must")
        run.start_actor(0)
        run.wait_for_updates()


@pytest.mark.faults_long
def test_half_a_row_is_dropped_and_the_others_stay(trained: RunFolder, tmp_path: Path) -> None:
    with LocalRun(tmp_path) as run:
        shutil.copytree(trained.root, run.folder.root)
        path = run.folder.root / "metrics.jsonl"
        whole = path.read_bytes()
        path.write_bytes(whole[: -len(whole.splitlines()[-1]) // 2])
        run.start_learner("--resume=must")
        run.start_actor(0)
        run.wait_for_updates()
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == run.folder.read_metrics()
    assert_rows_continue(run.folder.read_metrics())


def damaged(content: bytes, damage: str, chance: random.Random) -> bytes:
    """Returns the content cut, or with one flipped bit."""
    header = 8 + int.from_bytes(content[:8], "little")
    middle = (header + len(content)) // 2
    if damage in ("cut", "empty"):
        return content[: chance.randrange(1, len(content)) if damage == "cut" else 0]
    first, end = {
        "header": (0, 8),
        "model": (header, middle),  # tensors are sorted by alignment, then by name
        "optimiser": (middle, len(content) - 1),
        "last byte": (len(content) - 1, len(content)),
    }[damage]
    flipped = bytearray(content)
    flipped[chance.randrange(first, end)] ^= 1 << chance.randrange(8)
    return bytes(flipped)
