"""A learner with keys, as processes: the right keys train, others are told why not and end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncade_runtime.run_folder import RunFolder

pytestmark = pytest.mark.processes

DEADLINE_S = 120.0  # generous: only a failing test ever waits this long
ASYNCADE = str(Path(sys.executable).with_name("asyncade"))


def command(*arguments: str) -> list[str]:
    return [ASYNCADE, *arguments]


def environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if "ASYNCADE" not in name}
    return own | {"OMP_NUM_THREADS": "1"}


def make_keys(folder: Path) -> str:
    made = subprocess.run(
        command("keys", str(folder)), capture_output=True, text=True, check=True, env=environment()
    )
    return made.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("encrypted")
    assert "keys made" in make_keys(root / "keys")
    assert "left unchanged" in make_keys(root / "keys")
    make_keys(root / "other-keys")
    return root


@pytest.fixture(scope="module")
def learner(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [
        *("--game=catch", "--metrics-port=0", f"--run-dir={folder / 'run'}"),
        *("--upstream-address=tcp://127.0.0.1:*", "--weights-address=tcp://127.0.0.1:*"),
        *(f"--keys={folder / 'keys/learner'}", "--report-seconds=0.25"),
    ]
    with (folder / "learner.log").open("wb") as log:
        process = subprocess.Popen(command("learner", *arguments), stderr=log, env=environment())
    yield process
    process.terminate()
    assert process.wait(DEADLINE_S) == 0


def actor(folder: Path, *arguments: str) -> list[str]:
    deadline = time.monotonic() + DEADLINE_S
    while (endpoints := RunFolder(folder / "run").read_endpoints()) is None:
        assert time.monotonic() < deadline, (folder / "learner.log").read_text()
        time.sleep(0.05)
    addresses = [
        f"--upstream-address={endpoints['upstream']}",
        f"--weights-address={endpoints['weights']}",
    ]
    return command("actor", *addresses, "--metrics-port=0", *arguments)


def test_an_actor_with_the_right_keys_plays(folder: Path, learner: subprocess.Popen[bytes]) -> None:
    arguments = actor(folder, f"--keys={folder / 'keys/actor'}")
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL, env=environment()) as process:
        deadline = time.monotonic() + DEADLINE_S
        while not any(row["env_steps"] for row in RunFolder(folder / "run").read_metrics()):
            assert time.monotonic() < deadline
            assert process.poll() is None
            assert learner.poll() is None
            time.sleep(0.1)
        process.terminate()
        assert process.wait(DEADLINE_S) == 0


def test_an_actor_with_other_keys_ends_and_says_why(
    folder: Path, learner: subprocess.Popen[bytes]
) -> None:
    arguments = actor(folder, f"--keys={folder / 'other-keys/actor'}")
    done = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env=environment(),
    )
    assert done.returncode == 3, done.stderr
    assert "refused by the learner" in done.stderr
    assert "give both sides keys that were made together" in done.stderr
    assert learner.poll() is None


@pytest.mark.parametrize("service", ["learner", "actor"])
def test_a_folder_without_keys_is_refused(folder: Path, tmp_path: Path, service: str) -> None:
    done = subprocess.run(
        command(service, f"--keys={tmp_path}", "--metrics-port=0"),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env=environment(),
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "asyncade keys FOLDER" in done.stderr
