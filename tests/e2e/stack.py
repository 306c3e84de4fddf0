"""compose.yaml on a real Docker engine: a project of a test's own, and what can be asked of it.

Nothing waits for time to pass: everything polls, until a generous deadline, for what an operator
could see too.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_S = 180.0  # only a failing test ever waits this long
TAG = "test"
NOT_OURS = ("COMPOSE_FILE", "COMPOSE_ENV_FILES", "COMPOSE_PROFILES")  # of whoever runs the tests
# Small steps: reports, checkpoints and batches come often.
OVERRIDE = {
    "ASYNCADE_LEARNER_CALIBRATION_ENV_STEPS": "256",
    "ASYNCADE_LEARNER_CHECKPOINT_SECONDS": "1",
    "ASYNCADE_LEARNER_REPORT_SECONDS": "0.5",
    "ASYNCADE_LEARNER_UNROLL_LENGTH": "16",
}

ENV_STEPS = "asyncade_learner_env_steps_total"
UPDATES = "asyncade_learner_updates_total"
ACTIVE = "asyncade_learner_active_actors"
RELAYS_ROW = "What do relays pass on?"  # how its title begins


def said(*command: object, environ: Mapping[str, str] | None = None) -> str:
    """What a command prints; fails the test with all of it if the command fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
    return done.stdout


def why_not() -> str | None:
    """What is missing for these tests."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    for words in (("info",), ("compose", "version")):
        if subprocess.run(["docker", *words], capture_output=True, check=False).returncode:
            return f"docker {' '.join(words)} fails: no engine, or no Compose"
    return None


MISSING = why_not()
NEEDS_DOCKER = [
    pytest.mark.processes,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Stack:
    """A Compose project of its own: other volumes, networks and ports than a user's.

    Args:
        home: folder for what is copied out of it.
        name: part of the project's name.
        env_file: as of --env-file, within docker/.
        variables: of compose.yaml.
    """

    def __init__(
        self, home: Path, name: str, *, env_file: str | None = None, **variables: str
    ) -> None:
        self.home = home
        self._env_file = ("--env-file", ROOT / "docker" / env_file) if env_file else ()
        self.project = f"asyncade-test-{name}-{os.getpid()}"
        self.port = free_port()
        self.environ = {
            **{name: value for name, value in os.environ.items() if name not in NOT_OURS},
            **{"TAG": TAG, "PROMETHEUS_PORT": str(self.port), "LEARNER_CPUS": "1", "ENVS": "2"},
            **{"EPISODES": "2"},
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
        """Running ones, in the order of their numbers."""
        lines = self.compose("ps", "--format", "json", service).splitlines()
        rows = [row for line in lines for row in _as_list(json.loads(line))]
        return [row["ID"] for row in sorted(rows, key=lambda row: str(row["Name"]))]

    def query(self, promql: str) -> list[dict[str, Any]]:
        """What Prometheus answers."""
        question = urllib.parse.urlencode({"query": promql})
        url = f"http://127.0.0.1:{self.port}/api/v1/query?{question}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=10) as answer:
                result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except OSError:
            return []  # it starts
        return result

    def value(self, promql: str) -> float | None:
        """The one number a query has; None where there is none yet."""
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
        """Waits until a counter has risen above a value, or above what it is now."""
        self.eventually(lambda: self.value(promql) is not None, promql)
        floor = self.value(promql) if above is None else above
        self.eventually(lambda: (self.value(promql) or 0) > (floor or 0), f"{promql} rises")

    def unanswered(self, queries: Sequence[str]) -> list[str]:
        """Those of the queries that stay without data."""
        left = list(queries)
        deadline = time.monotonic() + DEADLINE_S
        while left and time.monotonic() < deadline:
            left = [promql for promql in left if not self.query(promql)]
            if left:
                time.sleep(0.5)
        return left

    def runs(self, name: str) -> Path:
        """A copy of the volume as it is now, whether or not a learner lives."""
        target = self.home / name
        image = f"asyncade-learner:{TAG}"
        holder = said("docker", "create", "-v", f"{self.project}_runs:/runs", image).strip()
        try:
            said("docker", "cp", f"{holder}:/runs", target)
        finally:
            said("docker", "rm", holder)
        return target


def _as_list(value: Any) -> list[Any]:
    """Compose 2.21 and later print an object a line, earlier ones one list."""
    return value if isinstance(value, list) else [value]


@contextmanager
def stack(
    home: Path, name: str, *, env_file: str | None = None, **variables: str
) -> Iterator[Stack]:
    """The project; nothing of it outlives the test but the images."""
    one = Stack(home, name, env_file=env_file, **variables)
    try:
        yield one
    finally:
        one.compose("--profile=*", "down", "--volumes", "--timeout=1")


def inspected(thing: str) -> dict[str, Any]:
    (found,) = json.loads(said("docker", "inspect", thing))
    assert isinstance(found, dict)
    return found


def ends(project: str, since: float) -> dict[str, set[int]]:
    """Service to exit codes of its containers that ended since then."""
    window = ("--since", f"{since:.3f}", "--until", f"{time.time():.3f}")
    filters = ("--filter", "event=die", "--filter", f"label=com.docker.compose.project={project}")
    found: dict[str, set[int]] = {}
    for line in said("docker", "events", *window, *filters, "--format={{json .}}").splitlines():
        told = json.loads(line)["Actor"]["Attributes"]
        found.setdefault(told["com.docker.compose.service"], set()).add(int(told["exitCode"]))
    return found


def started_at(container: str) -> str:
    return str(inspected(container)["State"]["StartedAt"])


def dashboard() -> dict[str, list[str]]:
    """The title of each row of the dashboard to the queries of its panels."""
    board = json.loads((ROOT / "docker/grafana/dashboards/asyncade.json").read_text())
    found: dict[str, list[str]] = {}
    for panel in sorted(board["panels"], key=lambda p: (p["gridPos"]["y"], p["gridPos"]["x"])):
        if panel["type"] == "row":
            row = found.setdefault(panel["title"], [])
        row += [target["expr"] for target in panel.get("targets", [])]
    return found
