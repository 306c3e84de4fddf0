"""The relay of compose.yaml on a real Docker engine: actors train through it, and outlive it.

Per mode, one fixture runs a sequence of events; the tests check its facts. The image:
test_containers.py.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from asyncade_runtime.run_folder import RunFolder
from e2e.docker import inspected, said
from e2e.stack import (
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

SERVICES = ("learner", "relay", "actor", "prometheus")
BEHIND = "asyncade_relay_active_actors"
ANSWERS = f"{BEHIND} or up{{job='relay'}} == 1"
RATIO = {  # messages received by the relay for each one sent
    kind: f"sum(asyncade_relay_messages_received_total{{kind='{kind}'}})"
    f" / sum(asyncade_relay_messages_sent_total{{kind='{kind}'}})"
    for kind in ("trajectory", "gradients")
}


def start(one: Stack, facts: SimpleNamespace) -> None:
    """`docker compose --env-file docker/relay.env up` with two actors."""
    one.compose("up", "--detach", *SERVICES)
    one.eventually(lambda: one.value("count(up == 1)") == 4, "four healthy targets")
    one.eventually(lambda: one.value(BEHIND) == 2, "two actors behind the relay")
    one.rises(UPDATES)
    asked = [queries for row, queries in dashboard().items() if row.startswith(RELAYS_ROW)]
    facts.asked = [*itertools.chain(*asked)]
    facts.queries_without_data = one.unanswered(facts.asked)
    facts.ratio = {kind: one.value(promql) for kind, promql in RATIO.items()}
    facts.relay_status = one.compose(
        *("exec", "-T", "relay", "sh", "-c"),
        "id -u; grep -E 'CapEff|NoNewPrivs' /proc/1/status; touch /x 2>&1 || true",
    )


def crash(one: Stack, facts: SimpleNamespace) -> None:
    """Kills the relay and starts it again with one more actor; the others keep running."""
    others = [id_ for service in ("learner", "actor") for id_ in one.containers(service)]
    facts.others_before = {id_: started_at(id_) for id_ in others}
    said("docker", "kill", *one.containers("relay"))
    # Until then Prometheus returns the dead relay's counters. By then its last messages have
    # arrived: what the learner counts from now on has come through the new relay.
    one.eventually(lambda: not one.query(ANSWERS), "it is gone")
    env_steps, updates = one.value(ENV_STEPS), one.value(UPDATES)
    one.compose("up", "--detach", "--no-recreate", "--scale", "actor=3", *SERVICES)
    one.eventually(lambda: one.value(BEHIND) == 3, "three actors behind the new relay")
    one.rises(ENV_STEPS, above=env_steps)
    one.rises(UPDATES, above=updates)
    facts.others_after = {id_: started_at(id_) for id_ in others}
    facts.restarts = [inspected(id_)["RestartCount"] for id_ in others]
    facts.log = one.compose("logs", "--no-color", "learner", "relay", "actor")


@pytest.fixture(scope="module", params=["data", "gradients"])
def life(
    request: pytest.FixtureRequest,
    images: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SimpleNamespace]:
    mode: str = request.param
    facts = SimpleNamespace(mode=mode)
    home = tmp_path_factory.mktemp(mode)
    with stack(home, f"relay-{mode}", env_file="relay.env", MODE=mode, ACTORS="2") as one:
        start(one, facts)
        crash(one, facts)
        since = time.time()
        one.compose("down")
        facts.ends = ends(one.project, since)
        facts.folder = RunFolder(one.runs("at-the-end") / f"pong-{mode}")
        yield facts


def test_trajectories_pass_and_gradients_are_averaged(life: SimpleNamespace) -> None:
    if life.mode == "data":
        assert 0.8 < life.ratio["trajectory"] < 1.2
    else:
        assert 1.3 < life.ratio["gradients"] < 3.5


def test_every_panel_of_the_relays_row_has_data(life: SimpleNamespace) -> None:
    assert len(life.asked) > 10
    assert life.queries_without_data == []


def test_the_relay_is_locked_down(life: SimpleNamespace) -> None:
    words = life.relay_status.split()
    assert words[:5] == ["10001", "CapEff:", "0" * 16, "NoNewPrivs:", "1"]
    assert "Read-only file system" in life.relay_status


def test_a_killed_relay_is_replaced_without_touching_actors_or_learner(
    life: SimpleNamespace,
) -> None:
    assert len(life.others_before) == 3
    assert life.others_after == life.others_before
    assert set(life.restarts) == {0}


def test_both_sides_of_the_relay_are_encrypted(life: SimpleNamespace) -> None:
    """A service without keys would log a warning."""
    assert "actors joined" in life.log
    assert "nothing is encrypted" not in life.log


def test_down_ends_everything_in_time(life: SimpleNamespace) -> None:
    assert life.ends == {service: {0} for service in SERVICES}  # 137: it took too long
    summary = life.folder.read_summary()
    assert (summary["mode"], summary["game"], summary["ended_by"]) == (life.mode, "pong", "signal")
    assert summary["updates"] > 0
