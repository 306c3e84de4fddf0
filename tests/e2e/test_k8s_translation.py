"""Every rendered pod has a translation to `docker run`; unknown fields are refused."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from e2e.docker_pods import decoded, documented_secrets, render
from e2e.pod_translation import (
    CPU_PERIOD_US,
    DockerRun,
    Manifest,
    Mount,
    UntranslatableError,
    cores,
    memory_bytes,
    translate,
)

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="kubectl is not installed (Debian 13: apt-get install kubectl)",
)

WORKLOADS = ("StatefulSet", "Job", "DaemonSet", "Deployment")
OTHERS = ("network-policies", "monitoring", "autoscaling-keda", "relay", "evaluator")


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    return render(tmp_path_factory.mktemp("local") / "render", "relay")


def the(kind: str, manifests: Sequence[Manifest]) -> Manifest:
    (found,) = [one for one in manifests if one["kind"] == kind]
    return found


def options(run: DockerRun, name: str) -> list[str]:
    """Returns the values of an option, given as two words or with an equals sign."""
    words = list(run.options)
    after = [words[n + 1] for n, word in enumerate(words) if word == name]
    return after + [word.removeprefix(f"{name}=") for word in words if word.startswith(f"{name}=")]


@pytest.mark.parametrize("overlay", ["local", "production"])
@pytest.mark.parametrize("components", [(), OTHERS, (*OTHERS, "job")], ids=["none", "most", "all"])
def test_every_rendered_pod_is_translated(
    tmp_path: Path, overlay: str, components: Sequence[str]
) -> None:
    rendered = render(tmp_path / "render", *components, overlay=overlay)
    found = [one for one in rendered if one["kind"] in WORKLOADS]
    assert len(found) == (4 if "relay" in components else 2)
    for workload in found:
        translate(workload, rendered)


def test_a_gpu_is_refused(tmp_path: Path) -> None:
    rendered = render(tmp_path / "render", overlay="gpu")
    with pytest.raises(UntranslatableError, match=r"limits: no translation of .'nvidia.com/gpu'"):
        translate(the("StatefulSet", rendered), rendered)


def test_the_learners_pod_becomes_docker_options(manifests: list[Manifest]) -> None:
    run = translate(the("StatefulSet", manifests), manifests)
    assert (run.name, run.image, list(run.words)) == ("learner-0", "asyncade-learner:test-k8s", [])
    assert options(run, "--user") == ["10001:10001"]
    assert options(run, "--cpu-quota") == [str(2 * CPU_PERIOD_US)]
    assert options(run, "--memory") == options(run, "--memory-swap") == [str(2**31)]
    assert options(run, "--network-alias") == ["learner", "learner-metrics"]
    assert options(run, "--expose") == ["5555", "5556", "9101"]
    assert options(run, "--publish") == ["127.0.0.1::9101"]
    assert "ASYNCADE_LEARNER_RUN_DIR=/runs/pong-data" in options(run, "--env")
    assert set(run.mounts) == {
        Mount("claim", "runs", "/runs", 10001, 0, read_only=False),
        Mount("secret", "learner-keys", "/keys/learner", 10001, 0o440, read_only=True),
    }
    assert run.grace_seconds == 60


def test_actors_connect_to_the_relays_service(manifests: list[Manifest]) -> None:
    actor = translate(the("Deployment", manifests), manifests)
    assert "ASYNCADE_ACTOR_UPSTREAM_ADDRESS=tcp://relay:5557" in options(actor, "--env")
    assert options(actor, "--network-alias") == []
    relay = translate(the("DaemonSet", manifests), manifests)
    assert options(relay, "--network-alias") == ["relay"]


POD = ("spec", "template", "spec")
CONTAINER = (*POD, "containers", 0)


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (("spec",), "revisionHistoryLimit", 1),
        (("spec",), "volumeClaimTemplates", []),
        (("spec", "template", "metadata"), "annotations", {"a": "b"}),
        (("spec", "selector"), "matchLabels", {"app.kubernetes.io/name": "else"}),
        (POD, "hostNetwork", True),
        (POD, "initContainers", []),
        (POD, "enableServiceLinks", True),
        (POD, "automountServiceAccountToken", True),
        ((*POD, "securityContext"), "supplementalGroups", [1]),
        ((*POD, "securityContext"), "runAsUser", 0),
        ((*POD, "securityContext"), "seccompProfile", {"type": "Unconfined"}),
        ((*POD, "volumes", 0), "hostPath", {"path": "/"}),
        ((*POD, "volumes", 0, "secret"), "items", []),
        (CONTAINER, "lifecycle", {"preStop": {}}),
        (CONTAINER, "workingDir", "/"),
        (CONTAINER, "args", ["--actor-id=$(POD_NAME)"]),
        ((*CONTAINER, "env", 0), "valueFrom", {"fieldRef": {"fieldPath": "status.hostIP"}}),
        ((*CONTAINER, "ports", 0), "hostPort", 9102),
        ((*CONTAINER, "livenessProbe"), "initialDelaySeconds", 3),
        ((*CONTAINER, "livenessProbe", "httpGet"), "scheme", "HTTPS"),
        ((*CONTAINER, "resources", "limits"), "hugepages-2Mi", "4Mi"),
        ((*CONTAINER, "securityContext"), "privileged", True),
        ((*CONTAINER, "securityContext"), "readOnlyRootFilesystem", False),
        ((*CONTAINER, "volumeMounts", 0), "subPath", "x"),
    ],
)
def test_unknown_fields_and_values_are_refused(
    manifests: list[Manifest], place: tuple[Any, ...], name: str, value: object
) -> None:
    workload = copy.deepcopy(the("Deployment", manifests))
    target: Any = workload
    for step in place:
        target = target[step]
    target[name] = value
    with pytest.raises(UntranslatableError):
        translate(workload, manifests)


def test_a_service_that_renumbers_ports_is_refused(manifests: list[Manifest]) -> None:
    changed = copy.deepcopy(manifests)
    (service,) = [
        one for one in changed if one["kind"] == "Service" and one["metadata"]["name"] == "relay"
    ]
    service["spec"]["ports"][0]["port"] = 80
    with pytest.raises(UntranslatableError, match="Service port 80"):
        translate(the("DaemonSet", changed), changed)


def test_quantities_are_converted() -> None:
    assert (cores("250m"), cores("2")) == (0.25, 2.0)
    assert memory_bytes("512Mi") == 2**29
    with pytest.raises(UntranslatableError):
        memory_bytes("1G")


def test_the_documented_commands_make_four_matching_secrets(tmp_path: Path) -> None:
    made = {name: decoded(secret) for name, secret in documented_secrets(tmp_path).items()}
    assert made.keys() == {"learner-keys", "actor-keys", "relay-keys", "relay-actor-keys"}
    for server, client in (("learner-keys", "actor-keys"), ("relay-keys", "relay-actor-keys")):
        assert made[server].keys() == {"learner.key_secret", "actor.key"}
        assert made[client].keys() == {"actor.key_secret", "learner.key"}
    assert made["learner-keys"]["actor.key"] != made["relay-keys"]["actor.key"]
