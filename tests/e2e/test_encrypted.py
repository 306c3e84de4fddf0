"""A learner with keys, as processes: actors with the right keys train, others end with an error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.transport.keys import make_keys
from e2e.commands import Command, env_steps, eventually, finished, refused, running

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("encrypted")
    make_keys(home / "keys")
    make_keys(home / "other-keys")
    return home


@pytest.fixture(scope="module")
def learner(home: Path) -> Iterator[Command]:
    arguments = [
        *("--game=catch", "--metrics-port=0", f"--run-dir={home / 'run'}"),
        *("--upstream-address=tcp://127.0.0.1:*", "--weights-address=tcp://127.0.0.1:*"),
        f"--keys={home / 'keys/learner'}",
    ]
    with running(home / "learner", "learner", *arguments) as learner:
        folder = RunFolder(home / "run")
        eventually(lambda: folder.read_endpoints() is not None, "the learner is up", learner)
        yield learner
        learner.process.terminate()
        assert learner.exit_code() == 0


def actor(home: Path, keys: str) -> list[str]:
    """Returns the arguments of an actor with these keys."""
    endpoints = RunFolder(home / "run").read_endpoints()
    assert endpoints is not None
    return [
        *("actor", "--metrics-port=0", f"--keys={home / keys / 'actor'}"),
        *(f"--{name}-address={endpoints[name]}" for name in ("upstream", "weights")),
    ]


def test_an_actor_with_the_right_keys_trains(home: Path, learner: Command) -> None:
    folder = RunFolder(home / "run")
    with running(home / "actor", *actor(home, "keys")) as process:
        eventually(lambda: env_steps(folder) > 0, "env steps", process, learner)
        process.process.terminate()
        assert process.exit_code() == 0


def test_an_actor_with_other_keys_ends_with_the_reason(home: Path, learner: Command) -> None:
    code, text = finished(home / "stranger", *actor(home, "other-keys"))
    assert code == 3, text
    assert "refused" in text
    assert "keys" in text
    assert learner.process.poll() is None


@pytest.mark.parametrize("service", ["learner", "actor"])
def test_a_folder_without_keys_is_refused(tmp_path: Path, service: str) -> None:
    text = refused(tmp_path / "output", service, f"--keys={tmp_path}", "--metrics-port=0")
    assert "asyncade keys" in text
