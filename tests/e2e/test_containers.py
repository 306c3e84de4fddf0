"""compose.yaml on a real Docker engine: images, metrics, scaling, and what kills cannot break.

One story is lived through by a fixture, the tests ask for its facts. Nothing waits for time to
pass: everything polls, until a generous deadline, for what an operator could see too.
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asyncade_learner import checkpoint
from asyncade_runtime.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
DEADLINE_S = 180.0  # only a failing test ever waits this long
MAX_IMAGE_BYTES = 900e6  # on top of the base image
SERVICES = ("learner", "actor", "prometheus")  # Grafana: tests/contract checks its files
TAG = "test"
# Small steps: reports, checkpoints and batches come often.
OVERRIDE = {
    "ASYNCADE_LEARNER_CALIBRATION_ENV_STEPS": "256",
    "ASYNCADE_LEARNER_CHECKPOINT_SECONDS": "1",
    "ASYNCADE_LEARNER_REPORT_SECONDS": "0.5",
    "ASYNCADE_LEARNER_UNROLL_LENGTH": "16",
}


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
pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Stack:
    """A Compose project of its own: other volumes, networks and ports than a user's."""

    def __init__(self, home: Path, name: str, **variables: str) -> None:
        self.home = home
        self.project = f"asyncade-test-{name}-{os.getpid()}"
        self.port = free_port()
        self.environ = {
            **{name: value for name, value in os.environ.items() if name != "COMPOSE_FILE"},
            **{"TAG": TAG, "PROMETHEUS_PORT": str(self.port), "LEARNER_CPUS": "1", "ENVS": "2"},
            **{"EPISODES": "2"},
            **variables,
        }
        self.override = home / "override.json"
        content = {"services": {"learner": {"environment": OVERRIDE}}}
        self.override.write_text(json.dumps(content))

    def compose(self, *words: object) -> str:
        files = ("-f", ROOT / "compose.yaml", "-f", self.override)
        command = ("docker", "compose", "--project-name", self.project, *files, *words)
        return said(*command, environ=self.environ)

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

    def rises(self, promql: str) -> None:
        """Waits until a counter has risen."""
        self.eventually(lambda: self.value(promql) is not None, promql)
        before = self.value(promql)
        self.eventually(lambda: (self.value(promql) or 0) > (before or 0), f"{promql} rises")

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
def stack(home: Path, name: str, **variables: str) -> Iterator[Stack]:
    """The project; nothing of it outlives the test but the images."""
    one = Stack(home, name, **variables)
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


# --- images --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Service to image, built from this checkout."""
    one = Stack(tmp_path_factory.mktemp("images"), "images")
    one.compose("config", "--quiet")
    one.compose("build", "learner", "actor")
    return {name: f"asyncade-{name}:{TAG}" for name in ("learner", "actor")}


def inside(image: str, *command: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command in a container that is locked down as in compose.yaml."""
    locks = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none")
    who = ("--user", user) if user else ()
    words = ["docker", "run", "--rm", *locks, *who, "--entrypoint", command[0], image]
    words += command[1:]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("service", ["learner", "actor"])
def test_an_image_is_small(images: dict[str, str], service: str) -> None:
    base = os.environ.get("PYTHON_IMAGE", "python:3.11-slim-bookworm")
    size = inspected(images[service])["Size"] - inspected(base)["Size"]
    assert size <= MAX_IMAGE_BYTES, f"{size / 1e6:.0f} MB on top of {base}"


@pytest.mark.parametrize(
    ("service", "own", "foreign"),
    [("learner", "tensorboardX", ["gymnasium", "ale_py"]), ("actor", "ale_py", ["tensorboardX"])],
)
def test_an_image_holds_what_its_service_needs(
    images: dict[str, str], service: str, own: str, foreign: list[str]
) -> None:
    ask = (
        "import importlib.util as u, sys; print([u.find_spec(n) is not None for n in sys.argv[1:]])"
    )
    done = inside(images[service], "python", "-c", ask, own, *foreign, "rich", "pytest")
    assert done.stdout.strip() == str([True] + [False] * (len(foreign) + 2)), done.stderr


@pytest.mark.parametrize("service", ["learner", "actor"])
def test_an_image_has_no_tools_to_build_with_and_no_cache(
    images: dict[str, str], service: str
) -> None:
    look = "for tool in gcc cc make git; do command -v $tool; done; ls -d /root/.cache /build"
    done = inside(images[service], "sh", "-c", look, user="0")  # who may look everywhere
    assert done.stdout == ""
    assert inside(images[service], "id", "-u").stdout == "10001\n"


def test_a_service_says_what_is_wrong_with_its_settings(images: dict[str, str]) -> None:
    done = inside(images["learner"], "asyncade-learner", "--game=pongg")
    assert done.returncode == 2
    assert "pong" in done.stderr
    assert "Traceback" not in done.stderr


# --- a life --------------------------------------------------------------------------------------

ENV_STEPS = "asyncade_learner_env_steps_total"
UPDATES = "asyncade_learner_updates_total"
ACTIVE = "asyncade_learner_active_actors"
DROPPED = 'sum(asyncade_learner_messages_dropped_total{reason!~"stale|future|unasked"})'
ACTORS_UP = 'count(up{job="actor"} == 1)'


def start(one: Stack, facts: SimpleNamespace) -> None:
    """`docker compose up` with two actors."""
    one.compose("up", "--detach", *SERVICES)
    one.eventually(lambda: one.value("count(up == 1)") == 3, "three healthy targets")
    one.eventually(lambda: one.value(ACTIVE) == 2, "two actors at work")
    one.rises(ENV_STEPS)
    one.rises(UPDATES)
    facts.learner_status = one.compose(
        *("exec", "-T", "learner", "sh", "-c"),
        "id -u; grep -E 'CapEff|NoNewPrivs' /proc/1/status; touch /x 2>&1 || true",
    )


def scale(one: Stack, facts: SimpleNamespace) -> None:
    """Four actors, then one is killed."""
    one.compose("up", "--detach", "--no-recreate", "--scale", "actor=4", *SERVICES)
    one.eventually(lambda: one.value(ACTIVE) == 4, "four actors at work")
    one.compose("up", "--detach", "--no-recreate", "--no-deps", "evaluator")
    rounds = "asyncade_evaluator_rounds_total"
    one.eventually(lambda: (one.value(rounds) or 0) >= 1, "a round of evaluation")
    facts.queries_without_data = unanswered(one)
    facts.evaluated_version = one.value("asyncade_evaluator_policy_version")
    one.compose("stop", "evaluator")
    facts.dropped_before = one.value(DROPPED)
    said("docker", "kill", one.containers("actor")[-1])
    one.eventually(lambda: one.value(ACTORS_UP) == 3, "Prometheus sees three")
    one.eventually(lambda: one.value(ACTIVE) == 3, "the learner counts three")
    one.rises(ENV_STEPS)
    one.rises(UPDATES)
    facts.dropped_after = one.value(DROPPED)
    facts.learner_after_kill = inspected(one.containers("learner")[0])


def unanswered(one: Stack) -> list[str]:
    """Queries of the dashboard that stay without data."""
    board = json.loads((ROOT / "docker/grafana/dashboards/asyncade.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    left = list(asked)

    def all_answered() -> bool:
        left[:] = [promql for promql in left if not one.query(promql)]
        return not left

    deadline = time.monotonic() + DEADLINE_S
    while not all_answered() and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def crash(one: Stack, facts: SimpleNamespace) -> None:
    """The learner is killed and started again; the actors are not touched."""
    facts.actors_before = {id_: started_at(id_) for id_ in one.containers("actor")}
    one.compose("kill", "--signal=SIGKILL", "learner")
    folder = one.runs("at-the-crash") / "pong-data"
    facts.saved = checkpoint.load(checkpoint.found(folder / "checkpoints")[0]).progress
    # Until then Prometheus answers with what the dead one counted.
    one.eventually(lambda: not one.query(f"{ENV_STEPS} or up{{job='learner'}} == 1"), "it is gone")
    one.compose("up", "--detach", "--no-recreate", "--no-deps", "learner")
    one.eventually(lambda: one.query("asyncade_learner_policy_version"), "it is back")
    facts.version = one.value("asyncade_learner_policy_version")
    one.eventually(lambda: one.value(ACTIVE) == 3, "three actors at work again")
    one.rises(ENV_STEPS)
    facts.log = one.compose("logs", "--no-color", "learner")
    facts.actors_after = {id_: started_at(id_) for id_ in one.containers("actor")}


def started_at(container: str) -> str:
    return str(inspected(container)["State"]["StartedAt"])


@pytest.fixture(scope="module")
def life(
    images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    facts = SimpleNamespace()
    with stack(tmp_path_factory.mktemp("life"), "life", ACTORS="2") as one:
        start(one, facts)
        scale(one, facts)
        crash(one, facts)
        since = time.time()
        one.compose("down")
        facts.ends = ends(one.project, since)
        facts.folder = RunFolder(one.runs("at-the-end") / "pong-data")
        yield facts


def test_services_are_locked_down(life: SimpleNamespace) -> None:
    words = life.learner_status.split()
    assert words[:5] == ["10001", "CapEff:", "0" * 16, "NoNewPrivs:", "1"]
    assert "Read-only file system" in life.learner_status


def test_the_learner_counts_the_cores_of_its_container(life: SimpleNamespace) -> None:
    config = life.folder.read_config()["learner"]
    assert (config["cores"], config["torch_threads"]) == (1, 1)


def test_every_panel_of_the_dashboard_has_data(life: SimpleNamespace) -> None:
    assert life.queries_without_data == []


def test_the_evaluator_plays_by_the_weights(life: SimpleNamespace) -> None:
    assert life.evaluated_version >= 1


def test_a_killed_actor_changes_nothing_but_a_counter(life: SimpleNamespace) -> None:
    assert life.dropped_after == life.dropped_before == 0
    state = life.learner_after_kill
    assert state["State"]["Health"]["Status"] == "healthy"
    assert state["RestartCount"] == 0


def test_a_killed_learner_resumes_with_the_same_counters(life: SimpleNamespace) -> None:
    saved = life.saved
    assert saved.env_steps > 0
    assert saved.updates > 0
    assert life.version > saved.policy_version  # it has published them anew
    told = f"checkpoint={saved.policy_version:012d}.safetensors env_steps={saved.env_steps}"
    assert told in life.log
    rows = life.folder.read_metrics()
    for name in ("env_steps", "updates", "episodes", "policy_version", "seconds"):
        values = [row[name] for row in rows]
        assert values == sorted(values), f"{name} goes back"
    assert rows[-1]["env_steps"] > saved.env_steps
    assert rows[-1]["updates"] > saved.updates


def test_actors_outlive_their_learner(life: SimpleNamespace) -> None:
    assert len(life.actors_before) == 3
    assert life.actors_after == life.actors_before


def test_down_ends_everything_in_time_and_in_order(life: SimpleNamespace) -> None:
    assert life.ends == {"learner": {0}, "actor": {0}, "prometheus": {0}}  # 137: it took too long
    summary = life.folder.read_summary()
    assert summary["ended_by"] == "signal"
    kept = checkpoint.load(checkpoint.found(life.folder.checkpoints)[0]).progress
    assert kept.env_steps == summary["env_steps"]
    assert list(life.folder.tensorboard.glob("events.out.tfevents.*"))


def test_gradients_and_another_game_to_the_end(
    images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    asked = {"MODE": "gradients", "GAME": "catch", "MAX_ENV_STEPS": "2000", "ACTORS": "1"}
    with stack(tmp_path_factory.mktemp("gradients"), "gradients", **asked) as one:
        one.compose("up", "--detach", "learner", "actor")
        (learner,) = one.compose("ps", "--all", "--quiet", "learner").split()
        one.eventually(lambda: inspected(learner)["State"]["Status"] == "exited", "it ends")
        assert inspected(learner)["State"]["ExitCode"] == 0
        assert inspected(learner)["RestartCount"] == 0
        summary = RunFolder(one.runs("runs") / "catch-gradients").read_summary()
        assert summary is not None
        assert (summary["mode"], summary["game"]) == ("gradients", "catch")
        assert summary["ended_by"] == "max_env_steps"
        assert summary["updates"] > 0
