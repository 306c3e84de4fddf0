"""A learner, a relay and two actors as processes: they train, and outlive a killed relay."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.transport.keys import make_keys
from e2e.commands import DEADLINE_S, eventually, free_ports, metric

pytestmark = pytest.mark.processes

QUICK = [
    *("--game=catch", "--unroll-length=16", "--calibration-env-steps=256"),
    *("--report-seconds=0.25", "--metrics-port=0"),
    *("--upstream-address=tcp://127.0.0.1:*", "--weights-address=tcp://127.0.0.1:*"),
]


class Process:
    """A service and what it has logged."""

    def __init__(self, log: Path, service: str, *arguments: str) -> None:
        own = {name: value for name, value in os.environ.items() if "ASYNCADE" not in name}
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"asyncade_{service}", "--log-format=json", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=own | {"OMP_NUM_THREADS": "1"},
            )

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def up(self) -> dict[str, Any]:
        """What it said when it had its sockets."""
        eventually(lambda: '"event": "up"' in self.text(), "a service that is up", self)
        lines = [json.loads(line) for line in self.text().splitlines() if '"up"' in line]
        return dict(lines[-1])

    def metric(self, name: str) -> float:
        return metric(f"http://127.0.0.1:{self.up()['metrics_port']}/metrics", name)

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(DEADLINE_S)


class Pipeline:
    """A learner, a relay, two actors."""

    def __init__(self, home: Path, mode: str, keys: Path | None) -> None:
        self.home = home
        self.mode = mode
        self.keys = keys
        self.processes: list[Process] = []
        self.folder = RunFolder(home / "run")

    def begin(self) -> None:
        self.upstream, self.weights = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
        self.learner = self.start("learner", "learner", *self.learner_arguments())
        eventually(lambda: self.folder.read_endpoints() is not None, "a learner", self.learner)
        self.relay = self.start_relay()
        self.actors = [
            self.start(
                f"actor-{number}",
                "actor",
                f"--upstream-address={self.upstream}",
                f"--weights-address={self.weights}",
                "--metrics-port=0",
                *self.key_flags("relay/actor", "keys"),
            )
            for number in range(2)
        ]

    def key_flags(self, folder: str, flag: str) -> list[str]:
        return [] if self.keys is None else [f"--{flag}={self.keys / folder}"]

    def learner_arguments(self) -> list[str]:
        keys = self.key_flags("own/learner", "keys")
        return [*QUICK, f"--mode={self.mode}", f"--run-dir={self.folder.root}", *keys]

    def start(self, name: str, service: str, *arguments: str) -> Process:
        process = Process(self.home / f"{name}.log", service, *arguments)
        self.processes.append(process)
        return process

    def start_relay(self) -> Process:
        endpoints = self.folder.read_endpoints()
        assert endpoints is not None
        number = len(self.processes)
        return self.start(
            f"relay-{number}",
            "relay",
            f"--learner-upstream-address={endpoints['upstream']}",
            f"--learner-weights-address={endpoints['weights']}",
            f"--upstream-address={self.upstream}",
            f"--weights-address={self.weights}",
            "--metrics-port=0",
            *self.key_flags("relay/learner", "keys"),
            *self.key_flags("own/actor", "learner-keys"),
        )

    def row(self, name: str) -> float:
        rows = self.folder.read_metrics()
        return float(rows[-1][name]) if rows else 0.0

    def wait_for_updates(self, more: int) -> None:
        wanted = self.row("updates") + more
        witnesses = [self.learner, self.relay, *self.actors]
        eventually(lambda: self.row("updates") >= wanted, f"{wanted} updates", *witnesses)


@contextmanager
def pipeline(home: Path, mode: str, keys: Path | None = None) -> Iterator[Pipeline]:
    made = Pipeline(home, mode, keys)
    try:
        made.begin()
        yield made
    finally:
        for process in made.processes:
            process.process.kill()
            process.process.wait()


@pytest.mark.parametrize("mode", ["data", "gradients"])
def test_it_trains_and_outlives_a_killed_relay(tmp_path: Path, mode: str) -> None:
    with pipeline(tmp_path, mode) as run:
        run.wait_for_updates(10)
        kind = "trajectory" if mode == "data" else "gradients"
        received = f'relay_messages_received_total{{kind="{kind}"}}'
        sent = f'relay_messages_sent_total{{kind="{kind}"}}'
        run.wait_for_updates(10)
        assert run.relay.metric("relay_active_actors") == 2
        assert all(actor.metric("actor_policy_version") > 5 for actor in run.actors)
        # In gradient mode the learner takes in one message for two of actors.
        ratio = run.relay.metric(received) / run.relay.metric(sent)
        assert 0.9 < ratio < 1.1 if mode == "data" else 1.5 < ratio < 2.5
        run.relay.process.send_signal(signal.SIGKILL)
        run.relay.process.wait()
        run.relay = run.start_relay()
        run.wait_for_updates(20)
        assert run.relay.metric("relay_active_actors") == 2
        assert run.relay.terminate() == 0
        assert [actor.terminate() for actor in run.actors] == [0, 0]
        assert run.learner.terminate() == 0
        assert run.row("env_steps") > 0


def test_encrypted_on_both_sides(tmp_path: Path) -> None:
    make_keys(tmp_path / "own")
    make_keys(tmp_path / "relay")
    with pipeline(tmp_path, "gradients", keys=tmp_path) as run:
        run.wait_for_updates(5)
        endpoints = run.folder.read_endpoints()
        assert endpoints is not None
        stranger = run.start(
            "stranger",
            "relay",
            f"--learner-upstream-address={endpoints['upstream']}",
            f"--learner-weights-address={endpoints['weights']}",
            *("--upstream-address=tcp://127.0.0.1:*", "--weights-address=tcp://127.0.0.1:*"),
            *("--metrics-port=0", f"--learner-keys={tmp_path / 'relay/actor'}"),
        )
        assert stranger.process.wait(DEADLINE_S) == 3
        assert "refused by the learner" in stranger.text()
        run.wait_for_updates(5)


@pytest.mark.parametrize("flag", ["keys", "learner-keys"])
def test_a_folder_without_keys_is_refused(tmp_path: Path, flag: str) -> None:
    relay = Process(tmp_path / "log", "relay", f"--{flag}={tmp_path}", "--metrics-port=0")
    assert relay.process.wait(DEADLINE_S) == 2
    assert "asyncade keys FOLDER" in relay.text()
