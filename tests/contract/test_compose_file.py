"""compose.yaml against the code: ports, variables, defaults, security."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from asyncade_actor.settings import ActorSettings
from asyncade_evaluator.settings import EvaluatorSettings
from asyncade_learner.settings import LearnerSettings
from asyncade_proto import ports
from asyncade_relay.settings import RelaySettings
from asyncade_runtime.settings import Settings, load
from asyncade_runtime.transport.keys import ACTOR, LEARNER

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "compose.yaml").read_text()
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^${}]*))?\}")
OURS: dict[str, type[Settings]] = {
    "learner": LearnerSettings,
    "learner-gpu": LearnerSettings,
    "relay": RelaySettings,
    "actor": ActorSettings,
    "evaluator": EvaluatorSettings,
}


def env_file(name: str) -> dict[str, str]:
    """Returns the variables of a file for --env-file."""
    lines = (ROOT / "docker" / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def composed(**variables: str) -> dict[str, Any]:
    """Returns the content of compose.yaml with only these variables set."""
    text, found = COMPOSE, 1
    while found:  # from the innermost default outwards
        text, found = VARIABLE.subn(lambda m: variables.get(m[1]) or m[2] or "", text)
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def settings_of(service: str, **variables: str) -> Any:
    """Returns a service's settings from its Compose environment."""
    return load(OURS[service], [], composed(**variables)["services"][service]["environment"])


SERVICES = composed()["services"]


@pytest.mark.parametrize("service", OURS)
def test_without_variables_services_have_their_defaults(service: str) -> None:
    given = settings_of(service).model_dump()
    defaults = load(OURS[service], [], {}).model_dump()
    changed = {name for name, value in given.items() if value != defaults[name]}
    assert (
        changed
        == {
            "learner": {"run_dir", "keys"},
            "learner-gpu": {"run_dir", "keys", "device"},
            "relay": {
                "learner_upstream_address",
                "learner_weights_address",
                "keys",
                "learner_keys",
            },
            "actor": {"upstream_address", "weights_address", "keys"},
            "evaluator": {
                *("weights_address", "keys", "metrics_host", "page_host", "page_port"),
                "learner_http",
            },
        }[service]
    )


def test_variables_reach_the_learner() -> None:
    learner = settings_of(
        "learner", MODE="gradients", GAME="breakout", TARGET="20", SEED="7", MAX_MINUTES="30"
    )
    assert (learner.mode, learner.game, learner.target) == ("gradients", "breakout", 20.0)
    assert (learner.seed, learner.max_minutes) == (7, 30.0)
    assert settings_of("actor", ENVS="16").envs == 16


def test_each_game_and_mode_has_a_folder_in_the_volume() -> None:
    default = load(LearnerSettings, [], {})
    assert settings_of("learner").run_dir == Path(f"/runs/{default.game}-{default.mode}")
    other = settings_of("learner", MODE="gradients", GAME="breakout")
    assert other.run_dir == Path("/runs/breakout-gradients")
    assert settings_of("learner", RUN="mine").run_dir == Path("/runs/mine")
    assert settings_of("learner-gpu").run_dir != settings_of("learner").run_dir
    assert "runs:/runs" in SERVICES["learner"]["volumes"]


def test_actors_connect_to_the_learners_addresses() -> None:
    actor = settings_of("actor")
    assert actor.upstream_address == f"tcp://learner:{ports.UPSTREAM}"
    assert actor.weights_address == f"tcp://learner:{ports.WEIGHTS}"
    assert settings_of("evaluator").weights_address == actor.weights_address


def test_the_evaluator_runs_the_actors_image() -> None:
    evaluator = SERVICES["evaluator"]
    assert evaluator["image"] == SERVICES["actor"]["image"]
    assert evaluator["entrypoint"] == ["asyncade-evaluator"]
    assert evaluator["profiles"] == ["eval"]
    assert evaluator["healthcheck"]["test"][-1] == str(ports.EVALUATOR_HTTP)
    assert settings_of("evaluator").page_port == ports.WATCH
    assert settings_of("evaluator").learner_http == f"http://learner:{ports.LEARNER_HTTP}"
    assert {*SERVICES["learner"]["networks"]} <= {*evaluator["networks"]}
    (published,) = evaluator["ports"]
    assert published == f"127.0.0.1:{ports.WATCH}:{ports.WATCH}"
    asked = settings_of("evaluator", EPISODES="5", POLICY="greedy")
    assert (asked.episodes, asked.policy) == (5, "greedy")


def test_actors_can_be_scaled() -> None:
    assert composed()["services"]["actor"]["deploy"]["replicas"] == 2
    assert composed(ACTORS="5")["services"]["actor"]["deploy"]["replicas"] == 5
    assert not {"container_name", "ports"} & SERVICES["actor"].keys()


def test_services_depend_on_keys_and_actors_wait_for_the_learner() -> None:
    waits = {name: service.get("depends_on") for name, service in SERVICES.items()}
    keys = {"keys": {"condition": "service_completed_successfully"}}
    assert {name: what for name, what in waits.items() if what} == {
        "learner": keys,
        "learner-gpu": keys,
        "evaluator": keys,
        "relay": keys,
        "actor": keys
        | {
            "learner": {"condition": "service_healthy"},
            "relay": {"condition": "service_healthy", "required": False},
        },
    }


def test_connections_are_encrypted_by_default() -> None:
    made = dict(volume.split(":")[::-1] for volume in SERVICES["keys"]["volumes"])
    folder = SERVICES["keys"]["entrypoint"][-1]
    sides = {"learner": LEARNER, "learner-gpu": LEARNER, "actor": ACTOR, "evaluator": ACTOR}
    for service, side in sides.items():
        keys = settings_of(service).keys
        assert keys == Path(folder) / side
        assert f"{made[str(keys)]}:{keys}:ro" in SERVICES[service]["volumes"]
        mounted = [v for v in SERVICES[service]["volumes"] if "keys" in v]
        assert len(mounted) == 1  # only a relay has the other side's secret
    assert settings_of("learner", LEARNER_KEYS="null").keys is None
    assert settings_of("actor", ACTOR_KEYS="null").keys is None


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_locked_down(service: str) -> None:
    content = SERVICES[service]
    assert content["read_only"] is True
    assert "/tmp" in content["tmpfs"]
    assert content["cap_drop"] == ["ALL"]
    assert content["security_opt"] == ["no-new-privileges:true"]
    assert not {"cap_add", "privileged", "user", "pid", "network_mode"} & content.keys()
    limits = content["deploy"]["resources"]["limits"]
    assert limits.keys() == {"cpus", "memory", "pids"}
    files = [volume for volume in content.get("volumes", []) if volume.startswith(".")]
    assert all(volume.endswith(":ro") for volume in files)


def test_only_pages_to_look_at_are_published_and_only_on_loopback() -> None:
    published = {name: s["ports"] for name, s in SERVICES.items() if "ports" in s}
    assert published == {
        "evaluator": ["127.0.0.1:9105:9105"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }
    assert composed()["networks"]["training"] == {"internal": True}
    outside = {name for name, s in SERVICES.items() if {*s["networks"]} - {"training"}}
    assert outside == {*published}


def test_prometheus_finds_each_target_once() -> None:
    """By name, in every network that it shares with the target."""
    own = {*SERVICES["prometheus"]["networks"]}
    for name in ("learner", "actor", "evaluator", "relay"):
        assert len(own & {*SERVICES[name]["networks"]}) == 1, name


def test_the_gpu_learner_replaces_the_other() -> None:
    variables = env_file("gpu.env")
    services = composed(**variables)["services"]
    profile = variables["COMPOSE_PROFILES"]
    assert [n for n, s in services.items() if profile in s.get("profiles", [])] == ["learner-gpu"]
    assert services["learner"]["deploy"]["replicas"] == 0
    assert services["learner-gpu"]["networks"]["training"]["aliases"] == ["learner"]
    assert services["learner-gpu"]["image"] != services["learner"]["image"]
    build = composed(TORCH_INDEX="of-cpu-builds")["services"]["learner-gpu"]["build"]
    assert build["args"]["TORCH_INDEX"] == ""


def test_a_relay_stands_between_learner_and_actors() -> None:
    variables = env_file("relay.env")
    services = composed(**variables)["services"]
    profile = variables["COMPOSE_PROFILES"]
    assert [n for n, s in services.items() if profile in s.get("profiles", [])] == ["relay"]
    direct, relay = settings_of("actor"), settings_of("relay", **variables)
    assert relay.learner_upstream_address == direct.upstream_address
    assert relay.learner_weights_address == direct.weights_address
    actor = settings_of("actor", **variables)
    assert actor.upstream_address == f"tcp://relay:{ports.RELAY_UPSTREAM}"
    assert actor.weights_address == f"tcp://relay:{ports.RELAY_WEIGHTS}"
    assert settings_of("learner").actors_behind_relay == 1
    assert settings_of("learner", **variables).actors_behind_relay >= 32
    # The evaluator evaluates the learner's own weights.
    assert settings_of("evaluator", **variables) == settings_of("evaluator")


def test_a_relay_has_the_keys_of_both_sides() -> None:
    relay = settings_of("relay")
    assert relay.keys == settings_of("learner").keys
    assert relay.learner_keys == settings_of("actor").keys
    both = {v for side in ("learner", "actor") for v in SERVICES[side]["volumes"] if "keys" in v}
    assert {*SERVICES["relay"]["volumes"]} == both
    off = settings_of("relay", LEARNER_KEYS="null", ACTOR_KEYS="null")
    assert (off.keys, off.learner_keys) == (None, None)
    actor = settings_of("actor", LEARNER_KEYS="null", ACTOR_KEYS="null", **env_file("relay.env"))
    assert actor.keys is None


def test_services_have_a_longer_grace_period_than_by_default() -> None:
    """Compose's default is 10 s."""
    for service in OURS:
        assert int(SERVICES[service]["stop_grace_period"].removesuffix("s")) > 10, service


def test_every_mounted_file_exists() -> None:
    mounts = [volume for s in SERVICES.values() for volume in s.get("volumes", [])]
    files = [volume.split(":")[0] for volume in mounts if volume.startswith(".")]
    assert len(files) == 4
    assert all((ROOT / file).exists() for file in files)


def test_every_variable_is_documented() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    for name in {found[1] for found in re.finditer(r"\$\{(\w+)", COMPOSE)}:
        assert f"`{name}`" in page, f"docs/operations.md does not mention {name}"
