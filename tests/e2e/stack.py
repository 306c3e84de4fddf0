"""compose.yaml on a real Docker engine: a Compose project per test, and what tests read from it.

Tests wait for no fixed time. They poll, with a generous deadline, what an operator can see too.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bench.local_run import free_ports

from e2e.docker import DEADLINE_S, inspected, said, why_not

ROOT = Path(__file__).parents[2]
TAG = "test"
NOT_OURS = ("COMPOSE_FILE", "COMPOSE_ENV_FILES", "COMPOSE_PROFILES")  # the user's own
# Frequent reports, checkpoints and batches.
OVERRIDE = {
    "ASYNCADE_LEARNER_CALIBRATION_ENV_STEPS": "256",
    "ASYNCADE_LEARNER_CHECKPOINT_SECONDS": "1",
    "ASYNCADE_LEARNER_REPORT_SECONDS": "0.5",
    "ASYNCADE_LEARNER_UNROLL_LENGTH": "16",
}

ENV_STEPS = "asyncade_learner_env_steps_total"
UPDATES = "asyncade_learner_updates_total"
ACTIVE = "asyncade_learner_active_actors"
RELAYS_ROW = "What do relays pass on?"  # the start of its title


MISSING = why_not()
NEEDS_DOCKER = [
    pytest.mark.processes,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]
_HERE = "-" + re.sub("[^a-z0-9]", "", socket.gethostname().lower()) + "-"
"""In the names of this machine's projects, before the number of the process that tests them."""


class Stack:
    """A Compose project with its own volumes, networks and ports.

    Args:
        home: folder for files copied out of it.
        name: part of the project's name.
        env_file: for --env-file, within docker/.
        variables: of compose.yaml.
    """

    def __init__(
        self, home: Path, name: str, *, env_file: str | None = None, **variables: str
    ) -> None:
        self.home = home
        self._env_file = ("--env-file", ROOT / "docker" / env_file) if env_file else ()
        self.project = f"asyncade-test-{name}{_HERE}{os.getpid()}"
        self.port, page_port = free_ports(2)
        self.environ = {
            **{name: value for name, value in os.environ.items() if name not in NOT_OURS},
            **{"TAG": TAG, "PROMETHEUS_PORT": str(self.port), "LEARNER_CPUS": "1", "ENVS": "2"},
            **{"EPISODES": "2", "PAGE_PORT": str(page_port)},
            **variables,
        }
        self.override = home / "override.json"
        content = {"services": {"learner": {"environment": OVERRIDE}}}
        self.override.write_text(json.dumps(content))

    def compose(self, *words: object) -> str:
        files = ("-f", ROOT / "compose.yaml", "-f", self.override)
        command = ("docker", "compose", "--project-name", self.project, *self._env_file, *files)
        return said(*command, *words, environ=self.environ)

    def containers(self, service: str) -> list[str]:
        """Returns the running ones, in the order of their numbers."""
        lines = self.compose("ps", "--format", "json", service).splitlines()
        rows = [row for line in lines for row in _as_list(json.loads(line))]
        return [row["ID"] for row in sorted(rows, key=lambda row: str(row["Name"]))]

    def query(self, promql: str) -> list[dict[str, Any]]:
        """Returns Prometheus's answer."""
        question = urllib.parse.urlencode({"query": promql})
        url = f"http://127.0.0.1:{self.port}/api/v1/query?{question}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=10) as answer:
                result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except OSError:
            return []  # it is starting
        return result

    def value(self, promql: str) -> float | None:
        """Returns the only number of a query; None without one."""
        result = self.query(promql)
        assert len(result) <= 1, f"{promql}: {result}"
        return float(result[0]["value"][1]) if result else None

    def eventually(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            if time.monotonic() > deadline:
                logs = self.compose("logs", "--tail=30") + self.compose("ps", "--all")
                pytest.fail(f"not in time: {what}\n{logs}")
            time.sleep(0.25)

    def rises(self, promql: str, above: float | None = None) -> None:
        """Waits until a counter exceeds a value, by default its present one."""
        self.eventually(lambda: self.value(promql) is not None, promql)
        floor = self.value(promql) if above is None else above
        self.eventually(lambda: (self.value(promql) or 0) > (floor or 0), f"{promql} rises")

    def unanswered(self, queries: Sequence[str]) -> list[str]:
        """Returns the queries that have no data by the deadline."""
        left = list(queries)
        deadline = time.monotonic() + DEADLINE_S
        while left and time.monotonic() < deadline:
            left = [promql for promql in left if not self.query(promql)]
            if left:
                time.sleep(0.5)
        return left

    def runs(self, name: str) -> Path:
        """Returns a copy of the present volume, with or without a running learner."""
        target = self.home / name
        image = f"asyncade-learner:{TAG}"
        holder = said("docker", "create", "-v", f"{self.project}_runs:/runs", image).strip()
        try:
            said("docker", "cp", f"{holder}:/runs", target)
        finally:
            said("docker", "rm", "--volumes", holder)
        return target


def _as_list(value: Any) -> list[Any]:
    """Compose 2.21 and later print one object per line, earlier releases one list."""
    return value if isinstance(value, list) else [value]


@contextmanager
def stack(
    home: Path, name: str, *, env_file: str | None = None, **variables: str
) -> Iterator[Stack]:
    """Yields the project; only its images outlive the test."""
    remove_leftovers()
    one = Stack(home, name, env_file=env_file, **variables)
    try:
        yield one
    finally:
        one.compose("--profile=*", "down", "--volumes", "--timeout=1")


def remove_leftovers() -> None:
    """Removes what tests of this machine left that were killed: it restarts for ever."""
    for project in json.loads(said("docker", "compose", "ls", "--all", "--format=json")):
        name, _, number = project["Name"].rpartition(_HERE)
        if name.startswith("asyncade-test-") and number.isdigit() and not _alive(int(number)):
            words = ("--project-name", project["Name"], "down", "--volumes", "--timeout=1")
            said("docker", "compose", *words)


def _alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def ends(project: str, since: float) -> dict[str, set[int]]:
    """Returns the exit codes of containers that ended since then, by service."""
    window = ("--since", f"{since:.3f}", "--until", f"{time.time():.3f}")
    filters = ("--filter", "event=die", "--filter", f"label=com.docker.compose.project={project}")
    found: dict[str, set[int]] = {}
    for line in said("docker", "events", *window, *filters, "--format={{json .}}").splitlines():
        event = json.loads(line)["Actor"]["Attributes"]
        service = event["com.docker.compose.service"]
        found.setdefault(service, set()).add(int(event["exitCode"]))
    return found


def started_at(container: str) -> str:
    return str(inspected(container)["State"]["StartedAt"])


def dashboard() -> dict[str, list[str]]:
    """Returns the queries of the dashboard's panels, by title of their row."""
    board = json.loads((ROOT / "docker/grafana/dashboards/asyncade.json").read_text())
    found: dict[str, list[str]] = {}
    for panel in sorted(board["panels"], key=lambda p: (p["gridPos"]["y"], p["gridPos"]["x"])):
        if panel["type"] == "row":
            row = found.setdefault(panel["title"], [])
        row += [target["expr"] for target in panel.get("targets", [])]
    return found
