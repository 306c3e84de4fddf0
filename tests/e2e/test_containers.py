"""compose.yaml on a real Docker engine: images, metrics, scaling, killed containers.

One fixture runs a sequence of events; the tests check its facts.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from asyncade_learner import checkpoint
from asyncade_runtime.run_folder import RunFolder
from e2e.commands import assert_rows_continue
from e2e.docker import inspected, said
from e2e.stack import (
    ACTIVE,
    ENV_STEPS,
    NEEDS_DOCKER,
    RELAYS_ROW,
    UPDATES,
    Stack,
    dashboard,
    ends,
    stack,
    started_at,
)

pytestmark = NEEDS_DOCKER

SERVICES = ("learner", "actor", "prometheus")  # Grafana: tests/contract checks its files
# On top of the base image. A relay has no torch.
MAX_IMAGE_BYTES = {"learner": 900e6, "actor": 900e6, "relay": 150e6}

# --- images --------------------------------------------------------------------------------------


def inside(image: str, *command: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command in a container locked down as in compose.yaml."""
    locks = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none")
    as_user = ("--user", user) if user else ()
    words = ["docker", "run", "--rm", *locks, *as_user, "--entrypoint", command[0], image]
    words += command[1:]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("service", MAX_IMAGE_BYTES)
def test_an_image_is_small(images: dict[str, str], service: str) -> None:
    base = os.environ.get("PYTHON_IMAGE", "python:3.11-slim-bookworm")
    size = inspected(images[service])["Size"] - inspected(base)["Size"]
    assert size <= MAX_IMAGE_BYTES[service], f"{size / 1e6:.0f} MB on top of {base}"


@pytest.mark.parametrize(
    ("service", "own", "foreign"),
    [
        ("learner", "tensorboardX", ["gymnasium", "ale_py"]),
        ("actor", "ale_py", ["tensorboardX"]),
        ("relay", "zmq", ["torch", "safetensors", "gymnasium", "ale_py", "tensorboardX"]),
    ],
)
def test_an_image_holds_what_its_service_needs(
    images: dict[str, str], service: str, own: str, foreign: list[str]
) -> None:
    ask = (
        "import importlib.util as u, sys; print([u.find_spec(n) is not None for n in sys.argv[1:]])"
    )
    done = inside(images[service], "python", "-c", ask, own, *foreign, "rich", "pytest")
    assert done.stdout.strip() == str([True] + [False] * (len(foreign) + 2)), done.stderr


@pytest.mark.parametrize("service", MAX_IMAGE_BYTES)
def test_an_image_has_no_build_tools_and_no_cache(images: dict[str, str], service: str) -> None:
    look = "for tool in gcc cc make git; do command -v $tool; done; ls -d /root/.cache /build"
    done = inside(images[service], "sh", "-c", look, user="0")  # may read everything
    assert done.stdout == ""
    assert inside(images[service], "id", "-u").stdout == "10001\n"


def test_a_service_names_its_bad_setting(images: dict[str, str]) -> None:
    done = inside(images["learner"], "asyncade-learner", "--game=pongg")
    assert done.returncode == 2
    assert "pong" in done.stderr
    assert "Traceback" not in done.stderr


# --- a sequence of events ------------------------------------------------------------------------

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
    """Scales to four actors, then kills one."""
    one.compose("up", "--detach", "--no-recreate", "--scale", "actor=4", *SERVICES)
    one.eventually(lambda: one.value(ACTIVE) == 4, "four actors at work")
    one.compose("up", "--detach", "--no-recreate", "--no-deps", "evaluator")
    rounds = "asyncade_evaluator_rounds_total"
    one.eventually(lambda: (one.value(rounds) or 0) >= 1, "a round of evaluation")
    rows = {row: asked for row, asked in dashboard().items() if not row.startswith(RELAYS_ROW)}
    facts.queries_without_data = one.unanswered([*itertools.chain(*rows.values())])
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


def crash(one: Stack, facts: SimpleNamespace) -> None:
    """Kills the learner and starts it again; the actors keep running."""
    facts.actors_before = {id_: started_at(id_) for id_ in one.containers("actor")}
    one.compose("kill", "--signal=SIGKILL", "learner")
    folder = one.runs("at-the-crash") / "pong-data"
    facts.saved = checkpoint.load(RunFolder(folder).checkpoint_files()[0]).progress
    # Until then Prometheus returns the dead learner's counters.
    one.eventually(lambda: not one.query(f"{ENV_STEPS} or up{{job='learner'}} == 1"), "it is gone")
    one.compose("up", "--detach", "--no-recreate", "--no-deps", "learner")
    one.eventually(lambda: one.query("asyncade_learner_policy_version"), "it is back")
    facts.version = one.value("asyncade_learner_policy_version")
    one.eventually(lambda: one.value(ACTIVE) == 3, "three actors at work again")
    one.rises(ENV_STEPS)
    facts.log = one.compose("logs", "--no-color", "learner")
    facts.actors_after = {id_: started_at(id_) for id_ in one.containers("actor")}


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


def test_the_learner_uses_the_cores_of_its_container(life: SimpleNamespace) -> None:
    config = life.folder.read_config()["learner"]
    assert (config["cores"], config["torch_threads"]) == (1, 1)


def test_every_panel_of_the_dashboard_has_data(life: SimpleNamespace) -> None:
    assert life.queries_without_data == []


def test_the_evaluator_plays_with_published_weights(life: SimpleNamespace) -> None:
    assert life.evaluated_version >= 1


def test_a_killed_actor_causes_no_dropped_messages(life: SimpleNamespace) -> None:
    assert life.dropped_after == life.dropped_before == 0
    state = life.learner_after_kill
    assert state["State"]["Health"]["Status"] == "healthy"
    assert state["RestartCount"] == 0


def test_a_killed_learner_resumes_with_the_same_counters(life: SimpleNamespace) -> None:
    saved = life.saved
    assert saved.env_steps > 0
    assert saved.updates > 0
    assert life.version > saved.policy_version  # published again
    resumed = f"checkpoint={saved.policy_version:012d}.safetensors env_steps={saved.env_steps}"
    assert resumed in life.log
    rows = life.folder.read_metrics()
    assert_rows_continue(rows)
    assert rows[-1]["env_steps"] > saved.env_steps
    assert rows[-1]["updates"] > saved.updates


def test_actors_outlive_their_learner(life: SimpleNamespace) -> None:
    assert len(life.actors_before) == 3
    assert life.actors_after == life.actors_before


def test_down_ends_everything_in_time(life: SimpleNamespace) -> None:
    assert life.ends == {"learner": {0}, "actor": {0}, "prometheus": {0}}  # 137: it took too long
    summary = life.folder.read_summary()
    assert summary["ended_by"] == "signal"
    kept = checkpoint.load(life.folder.checkpoint_files()[0]).progress
    assert kept.env_steps == summary["env_steps"]
    assert list(life.folder.tensorboard.glob("events.out.tfevents.*"))


def test_gradients_mode_with_another_game_runs_to_its_end(
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
