"""A learner, a relay and two actors as processes: they train, also after the relay is killed."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench.local_run import free_ports

from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.transport.keys import make_keys
from e2e.commands import Command, eventually, metrics, refused

pytestmark = pytest.mark.processes

QUICK = [
    *("--game=catch", "--metrics-port=0"),
    *("--upstream-address=tcp://127.0.0.1:*", "--weights-address=tcp://127.0.0.1:*"),
]


def metrics_of(service: Command, *names: str) -> list[float]:
    """Returns samples of the metrics page that the service has logged, of one scrape."""
    eventually(lambda: '"event": "up"' in service.text(), "the service is up", service)
    lines = [json.loads(line) for line in service.text().splitlines() if '"up"' in line]
    return metrics(f"http://127.0.0.1:{lines[-1]['metrics_port']}/metrics", *names)


def end(service: Command) -> int:
    """Ends the service with SIGTERM; returns its exit code."""
    service.signal(signal.SIGTERM)
    return service.exit_code()


class Pipeline:
    """A learner, a relay and two actors."""

    def __init__(self, home: Path, mode: str, keys: Path | None) -> None:
        self.home = home
        self.mode = mode
        self.keys = keys
        self.processes: list[Command] = []
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
        behind = "--actors-behind-relay=2"
        return [*QUICK, f"--mode={self.mode}", f"--run-dir={self.folder.root}", behind, *keys]

    def start(self, name: str, service: str, *arguments: str) -> Command:
        process = Command(self.home / f"{name}.log", service, "--log-format=json", *arguments)
        self.processes.append(process)
        return process

    def start_relay(self) -> Command:
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
def test_training_continues_after_a_killed_relay(tmp_path: Path, mode: str) -> None:
    with pipeline(tmp_path, mode) as run:
        run.wait_for_updates(10)
        kind = "trajectory" if mode == "data" else "gradients"
        received = f'relay_messages_received_total{{kind="{kind}"}}'
        sent = f'relay_messages_sent_total{{kind="{kind}"}}'
        run.wait_for_updates(10)
        assert metrics_of(run.relay, "relay_active_actors") == [2]
        assert all(metrics_of(actor, "actor_policy_version")[0] > 5 for actor in run.actors)
        taken, passed_on = metrics_of(run.relay, received, sent)
        if mode == "data":
            assert abs(taken - passed_on) <= 2  # the page may be of the moment between the two
        else:
            assert taken > 1.2 * passed_on  # two gradients become one, unless an actor is late
        run.relay.process.send_signal(signal.SIGKILL)
        run.relay.process.wait()
        run.relay = run.start_relay()
        run.wait_for_updates(20)
        assert metrics_of(run.relay, "relay_active_actors") == [2]
        assert end(run.relay) == 0
        assert [end(actor) for actor in run.actors] == [0, 0]
        assert end(run.learner) == 0
        assert run.row("env_steps") > 0


def test_both_sides_are_encrypted(tmp_path: Path) -> None:
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
        assert stranger.exit_code() == 3
        assert "refused" in stranger.text()
        run.wait_for_updates(5)


@pytest.mark.parametrize("flag", ["keys", "learner-keys"])
def test_a_folder_without_keys_is_refused(tmp_path: Path, flag: str) -> None:
    text = refused(tmp_path / "output", "relay", f"--{flag}={tmp_path}", "--metrics-port=0")
    assert "asyncade keys" in text
