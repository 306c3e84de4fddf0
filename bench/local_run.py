"""A learner, actors and a relay as processes on this machine, each started and ended by itself.

Unlike `asyncade train` it restarts nothing on its own: what an orchestrator does is up to the
caller. For benchmarks, and for the tests in tests/faults.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from asyncade_cli.processes import Service
from asyncade_runtime.run_folder import RunFolder

DEADLINE_S: Final = 180.0
"""Only a run that is broken waits this long."""

QUICK: Final = {
    "OMP_NUM_THREADS": "1",
    "ASYNCADE_LEARNER_GAME": "catch",
    "ASYNCADE_LEARNER_CALIBRATION_ENV_STEPS": "256",
    "ASYNCADE_LEARNER_CHECKPOINT_SECONDS": "0.5",
    "ASYNCADE_LEARNER_REPORT_SECONDS": "0.25",
    "ASYNCADE_LEARNER_UNROLL_LENGTH": "16",
    "ASYNCADE_LEARNER_BATCH_SAMPLES": "256",
    "ASYNCADE_LEARNER_PASSES": "1",
    "ASYNCADE_LEARNER_PATIENCE_SECONDS": "2",
    "ASYNCADE_LEARNER_TORCH_THREADS": "1",
    "ASYNCADE_ACTOR_ENVS": "4",
}
"""Catch, with short unrolls and frequent checkpoints."""


class LocalRun:
    """Services of one run. A context manager that kills what still runs.

    Args:
        home: folder for the run folder ``run`` and the logs.
        relay: whether actors send through a relay.
        environ: variables beside `QUICK`.

    Attributes:
        folder: of the run.
        services: by name: ``learner``, ``relay``, ``actor-0``, ...
    """

    def __init__(
        self, home: Path, *, relay: bool = False, environ: Mapping[str, str] | None = None
    ) -> None:
        self.folder = RunFolder(home / "run")
        self.services: dict[str, Service] = {}
        self._home = home
        own = {name: value for name, value in os.environ.items() if "ASYNCADE" not in name}
        self._environ = {**own, **QUICK, **(environ or {})}
        ports = free_ports(4)
        self.learner_addresses = addresses(*ports[:2])
        self.relay_addresses = addresses(*ports[2:])
        self.actor_addresses = self.relay_addresses if relay else self.learner_addresses

    def __enter__(self) -> LocalRun:
        return self

    def __exit__(self, *exception: object) -> None:
        for name in self.services:
            self.kill(name)

    def start_learner(self, *arguments: str) -> Service:
        """Starts the learner, which resumes if there is a checkpoint, and waits until it is up."""
        folder = f"--run-dir={self.folder.root}"
        learner = self.start("learner", folder, *self.learner_addresses, *arguments)
        self.wait_for(lambda: self._endpoint("pid") == learner.pid, "the learner is up")
        return learner

    def start_relay(self, *arguments: str) -> Service:
        """Starts the relay."""
        above = [one.replace("--", "--learner-") for one in self.learner_addresses]
        return self.start("relay", *above, *self.relay_addresses, *arguments)

    def start_actor(self, number: int, *arguments: str) -> Service:
        """Starts an actor."""
        name = f"actor-{number}"
        return self.start(name, f"--actor-id={name}", *self.actor_addresses, *arguments)

    def start(
        self, name: str, *arguments: str, environ: Mapping[str, str] | None = None
    ) -> Service:
        """Starts a service by its name; its log is ``name.log``."""
        service = Service(
            name,
            f"asyncade_{name.partition('-')[0]}",
            ["--metrics-port=0", *arguments],
            self._home / f"{name}.log",
            {**self._environ, **(environ or {})},
        )
        service.start()
        self.services[name] = service
        return service

    def again(self, name: str) -> Service:
        """Starts a service that has ended once more, as an orchestrator would."""
        service = self.services[name]
        service.start()
        if name == "learner":
            self.wait_for(lambda: self._endpoint("pid") == service.pid, "the learner is up")
        return service

    def signal(self, name: str, number: signal.Signals) -> None:
        """Sends a signal."""
        pid = self.services[name].pid
        assert pid is not None
        os.kill(pid, number)

    def kill(self, name: str) -> None:
        """Kills a service and waits for its end."""
        if self.services[name].exit_code() is None:
            self.signal(name, signal.SIGKILL)
            self.services[name].wait(DEADLINE_S)

    def log(self, name: str) -> str:
        """Returns what a service has logged."""
        return (self._home / f"{name}.log").read_text(errors="replace")

    def metric(self, name: str) -> float:
        """Returns a value of the learner's page, such as ``updates_total``; 0 without an answer."""
        page = self._endpoint("metrics")
        try:
            with urllib.request.urlopen(page, timeout=DEADLINE_S) as answer:
                text = answer.read().decode()
        except (OSError, ValueError, AttributeError):
            return 0.0
        found = re.search(rf"^asyncade_learner_{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Waits until a condition holds.

        Raises:
            RuntimeError: it does not hold in time; the message has the ends of all logs.
        """
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            if time.monotonic() > deadline:
                ends = [f"{n}: {s.last_lines(15)}" for n, s in self.services.items()]
                raise RuntimeError("\n".join([f"not in time: {what}", *ends]))
            time.sleep(0.02)

    def wait_for_updates(self, more: int = 8) -> None:
        """Waits until the present learner has made so many more updates."""
        wanted = self.metric("updates_total") + more
        self.wait_for(lambda: self.metric("updates_total") >= wanted, f"{more} more updates")

    def _endpoint(self, name: str) -> Any:
        try:
            endpoints = json.loads((self.folder.root / "endpoints.json").read_text())
        except (OSError, ValueError):
            return None
        return endpoints.get(name)


def addresses(upstream: int, weights: int, *, host: str = "127.0.0.1") -> Sequence[str]:
    """Returns the options for the addresses of a learner."""
    return (
        f"--upstream-address=tcp://{host}:{upstream}",
        f"--weights-address=tcp://{host}:{weights}",
    )


def free_ports(count: int) -> list[int]:
    """Returns ports that nobody listens on."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
