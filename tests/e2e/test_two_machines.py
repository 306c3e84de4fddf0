"""The commands of docs/two-machines.md, as they stand there, in two network namespaces."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from asyncade_runtime.run_folder import RunFolder
from e2e.commands import ASYNCADE, DEADLINE_S, QUICK, env_steps

pytestmark = pytest.mark.processes

PAGE = Path(__file__).parents[2] / "docs/two-machines.md"
COMMANDS = re.findall(r"^asyncade .+$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
LEARNER, ACTOR = (f"asyncade{os.getpid()}{side}" for side in "ab")
CABLE = (f"a{os.getpid()}", f"b{os.getpid()}")
SHORT = {"ASYNCADE_LEARNER_MAX_ENV_STEPS": "3000", "ASYNCADE_LEARNER_TARGET": "null"}


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def machines() -> Iterator[None]:
    """Two namespaces with the page's addresses, and a cable between them."""
    with ExitStack() as made:
        try:
            for machine in (LEARNER, ACTOR):
                ip("netns", "add", machine)
                made.callback(ip, "netns", "del", machine)
            connect()
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"network namespaces cannot be made here: {error}")
        yield


def connect() -> None:
    first, second = CABLE
    ip("link", "add", first, "netns", LEARNER, "type", "veth", "peer", second, "netns", ACTOR)
    for machine, end, address in ((LEARNER, first, "10.0.0.1"), (ACTOR, second, "10.0.0.2")):
        ip("-n", machine, "address", "add", f"{address}/24", "dev", end)
        for link in ("lo", end):
            ip("-n", machine, "link", "set", link, "up")


def start(machine: str, home: Path, command: str) -> subprocess.Popen[bytes]:
    words = [ASYNCADE, *shlex.split(command)[1:]]
    with (home / "output").open("wb") as output:
        return subprocess.Popen(
            ["ip", "netns", "exec", machine, *words],
            cwd=home,
            env=os.environ | QUICK | SHORT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


@pytest.mark.usefixtures("machines")
def test_two_commands_and_keys_train_over_a_network(tmp_path: Path) -> None:
    keys, learner, actor = COMMANDS
    one, other = tmp_path / "one", tmp_path / "other"
    for home in (one, other):
        home.mkdir()
    assert start(LEARNER, one, keys).wait(DEADLINE_S) == 0
    shutil.copytree(one / "keys/actor", other / "keys/actor")
    folder = RunFolder(one / "runs/pong")
    with ExitStack() as processes:
        playing = processes.enter_context(start(ACTOR, other, actor))
        processes.callback(playing.kill)
        training = processes.enter_context(start(LEARNER, one, learner))
        processes.callback(training.kill)
        code = training.wait(DEADLINE_S)
        assert code == 0, (one / "output").read_text()
        assert playing.poll() is None, (other / "output").read_text()
        playing.terminate()
        assert playing.wait(DEADLINE_S) == 0
    assert env_steps(folder) >= 3000
    summary = folder.read_summary() or {}
    assert (summary["game"], summary["ended_by"]) == ("pong", "max_env_steps")
