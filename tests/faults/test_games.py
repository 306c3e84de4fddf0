"""A game that hangs, or that takes all memory, ends its actor; the others play on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from asyncade_runtime.run_folder import RunFolder
from e2e.commands import env_steps, eventually, running
from packages import install

pytestmark = pytest.mark.processes

GAME = Path(__file__).parent / "faulty_game"
SEEN = {"hang-step": "step", "hang-reset": "reset", "memory": "MemoryError"}


@pytest.mark.parametrize(
    "fault",
    ["hang-step", *(pytest.param(f, marks=pytest.mark.faults_long) for f in SEEN if "-s" not in f)],
)
def test_an_actor_with_a_broken_game_says_so_and_is_started_again(
    tmp_path: Path, fault: str
) -> None:
    folder, done = RunFolder(tmp_path / "run"), tmp_path / "done"
    environ = {
        **install(GAME, tmp_path / "site"),
        "FAULT": fault,
        "FAULT_DONE": str(done),
        "ASYNCADE_ACTOR_STALL_SECONDS": "4",
    }
    command = ("train", "--game=faulty", "--actors=2", "--envs=2", "--run-dir", folder.root)
    with running(tmp_path / "output", *command, environ=environ) as train:
        eventually(lambda: "; restarting in" in train.text(), "an actor is restarted", train)
        before = env_steps(folder)
        eventually(lambda: env_steps(folder) > before + 500, "training goes on", train)
        train.signal(signal.SIGINT)
        assert train.exit_code() == 130
    assert done.exists()
    logs = "".join(path.read_text() for path in folder.logs.glob("actor-*.log"))
    assert SEEN[fault] in logs
    if fault.startswith("hang"):
        assert "stuck" in logs
        assert "faulty_game.py" in logs  # where it hangs
        assert "--stall-seconds" in logs
