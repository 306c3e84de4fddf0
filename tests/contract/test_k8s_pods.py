"""Pods of k8s/ against code and images: settings, ports, probes, keys, security."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry

from asyncade_actor.settings import ActorSettings
from asyncade_evaluator.settings import EvaluatorSettings
from asyncade_learner.settings import LearnerSettings
from asyncade_proto import ports
from asyncade_relay.settings import RelaySettings
from asyncade_runtime.lifecycle import Health, serve_http
from asyncade_runtime.settings import Settings, load
from asyncade_runtime.transport.keys import load_actor_keys, load_learner_keys, make_keys
from contract.manifests import ROOT, Manifest, Pods, Renders, of, workloads

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]

SETTINGS: dict[str, type[Settings]] = {
    "learner": LearnerSettings,
    "actor": ActorSettings,
    "relay": RelaySettings,
    "evaluator": EvaluatorSettings,
}
IMAGE = {service: f"asyncade-{service}" for service in SETTINGS} | {"evaluator": "asyncade-actor"}
PORTS = {
    "learner": {
        "upstream": ports.UPSTREAM,
        "weights": ports.WEIGHTS,
        "metrics": ports.LEARNER_HTTP,
    },
    "actor": {"metrics": ports.ACTOR_HTTP},
    "relay": {
        "upstream": ports.RELAY_UPSTREAM,
        "weights": ports.RELAY_WEIGHTS,
        "metrics": ports.RELAY_HTTP,
    },
    "evaluator": {"metrics": ports.EVALUATOR_HTTP, "page": ports.WATCH},
}


def container(template: Manifest) -> Manifest:
    """Returns a pod's only container, which is named after the service."""
    (found,) = template["spec"]["containers"]
    assert found["name"] == template["metadata"]["labels"]["app.kubernetes.io/name"]
    assert isinstance(found, dict)
    return found


def image_environment(service: str) -> dict[str, str]:
    """Returns the service's variables that the image sets."""
    text = (ROOT / f"docker/{IMAGE[service].removeprefix('asyncade-')}.Dockerfile").read_text()
    return dict(re.findall(rf"\b(ASYNCADE_{service.upper()}_\w+)=(\S+)", text))


def environments(renders: Renders) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yields origin, service and variables of the containers, once for each overlay."""
    seen = []
    for name, manifests in renders.items():
        maps = {m["metadata"]["name"]: m["data"] for m in of(manifests, "ConfigMap")}
        for manifest in workloads(manifests):
            found = container(manifest["spec"]["template"])
            variables = image_environment(found["name"])
            for source in found.get("envFrom", []):
                if source["configMapRef"].get("optional"):
                    continue  # its content is the user's
                variables |= maps[source["configMapRef"]["name"]]
            variables |= {variable["name"]: variable["value"] for variable in found["env"]}
            if (one := (name[0], found["name"], variables)) not in seen:
                seen.append(one)  # most components change no variable
                yield " + ".join(name), found["name"], variables


def test_all_services_have_pods(pods: Pods) -> None:
    assert {container(template)["name"] for _, template in pods} == PORTS.keys()
    kinds = {where.split()[0] for where, _ in pods}
    assert kinds == {"StatefulSet", "Job", "Deployment", "DaemonSet"}


def test_pods_meet_the_restricted_pod_security_standard(pods: Pods) -> None:
    """kubernetes.io/docs/concepts/security/pod-security-standards, field by field."""
    volumes = {
        *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
        *("persistentVolumeClaim", "projected", "secret"),
    }
    for where, template in pods:
        spec = template["spec"]
        pod = spec["securityContext"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), where
        assert not {"sysctls", "seLinuxOptions", "appArmorProfile", "windowsOptions"} & pod.keys()
        assert pod["runAsNonRoot"] is True, where
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, where
        for volume in spec["volumes"]:
            assert volume.keys() - {"name"} <= volumes, where
        assert not {"initContainers", "ephemeralContainers"} & spec.keys()
        own = container(template)["securityContext"]
        assert own == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, where
        assert not any("hostPort" in port for port in container(template)["ports"]), where


def test_pods_have_limits_and_no_service_account(pods: Pods) -> None:
    for where, template in pods:
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False, where
        assert spec["enableServiceLinks"] is False, where  # LEARNER_PORT=tcp://... and the like
        resources = container(template)["resources"]
        for bound in ("requests", "limits"):
            assert {"cpu", "memory", "ephemeral-storage"} <= resources[bound].keys(), where
        assert {"mountPath": "/tmp", "name": "tmp"} in container(template)["volumeMounts"]
        (tmp,) = [volume for volume in spec["volumes"] if volume["name"] == "tmp"]
        assert tmp["emptyDir"]["sizeLimit"], where


def test_a_failed_pods_status_has_the_end_of_its_log(pods: Pods) -> None:
    for where, template in pods:
        assert container(template).get("terminationMessagePolicy") == "FallbackToLogsOnError", where


def test_pods_run_as_the_user_of_the_images(pods: Pods) -> None:
    for service in ("learner", "actor"):
        text = (ROOT / f"docker/{service}.Dockerfile").read_text()
        (user,) = re.findall(r"^USER (.*)$", text, re.MULTILINE)
        for where, template in pods:
            pod = template["spec"]["securityContext"]
            assert f"{pod['runAsUser']}:{pod['runAsGroup']}" == user, where
            assert pod["fsGroup"] == pod["runAsGroup"], where


def test_images_are_those_that_compose_builds(pods: Pods) -> None:
    built = {service["image"].split(":")[0] for service in COMPOSE.values() if "build" in service}
    built.add("asyncade-relay")
    gpu = COMPOSE["learner-gpu"]["image"].replace("${TAG:-latest}", "latest")
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    for where, template in pods:
        image = container(template)["image"]
        name, _, tag = image.partition(":")
        assert name in built, where
        assert name == IMAGE[container(template)["name"]], where
        asks_for_gpu = "nvidia.com/gpu" in container(template)["resources"]["limits"]
        assert (image == gpu) == asks_for_gpu, where
        assert tag in ("", "latest-gpu", version[1]), where
        assert container(template)["imagePullPolicy"] == "IfNotPresent", where


def test_the_evaluator_is_the_actors_image_with_its_tag(renders: Renders) -> None:
    for name, manifests in renders.items():
        images = {
            m["metadata"]["name"]: container(m["spec"]["template"])["image"]
            for m in of(manifests, "Deployment")
        }
        assert images.get("evaluator", images["actor"]) == images["actor"], name
        assert ("evaluator" in images) == ("evaluator" in name)
        for deployment in of(manifests, "Deployment", "evaluator"):
            command = container(deployment["spec"]["template"])["command"]
            assert command == COMPOSE["evaluator"]["entrypoint"]


def test_variables_are_settings_of_the_service(renders: Renders) -> None:
    seen = set()
    for where, service, variables in environments(renders):
        seen.add(service)
        names = {name.removeprefix(f"ASYNCADE_{service.upper()}_").lower() for name in variables}
        known = SETTINGS[service].model_fields.keys()
        assert names <= known, f"{where}: {service} has no {names - known}"
        load(SETTINGS[service], [], variables)  # checks the values too
    assert seen == PORTS.keys()


def test_a_learner_on_shared_cores_has_one_thread(renders: Renders, pods: Pods) -> None:
    """Threads that wait for each other all stop when a neighbour takes one core."""
    shares = {
        where.partition(" of ")[2].split(" + ")[0]
        for where, template in pods
        for resources in [container(template)["resources"]]
        if container(template)["name"] == "learner"
        and resources["requests"]["cpu"] != resources["limits"]["cpu"]
    }
    assert shares == {"local"}
    for where, service, variables in environments(renders):
        if service == "learner":
            threads = load(LearnerSettings, [], variables).torch_threads
            assert threads == (1 if where.split(" + ")[0] in shares else None), where


def test_a_service_listens_on_its_ports(renders: Renders, pods: Pods) -> None:
    for where, template in pods:
        service = container(template)["name"]
        found = {port["name"]: port["containerPort"] for port in container(template)["ports"]}
        assert found == PORTS[service], where
    for where, service, variables in environments(renders):
        prefix = f"ASYNCADE_{service.upper()}_"
        if service in ("learner", "relay"):
            for side in ("upstream", "weights"):
                address = variables[f"{prefix}{side.upper()}_ADDRESS"]
                assert address == f"tcp://*:{PORTS[service][side]}", where
        assert variables[f"{prefix}METRICS_HOST"] == "::", where
        assert variables.get(f"{prefix}METRICS_PORT") is None, where  # the default


def test_probes_request_existing_pages(pods: Pods) -> None:
    health = Health(stall_seconds=60)
    health.ready = True
    requested = set()
    with serve_http("127.0.0.1", 0, CollectorRegistry(), health) as http:
        for where, template in pods:
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                page = container(template)[kind]["httpGet"]
                assert page["port"] == "metrics", where
                requested.add(page["path"])
                url = f"http://127.0.0.1:{http.port}{page['path']}"
                with urllib.request.urlopen(url, timeout=10) as answer:
                    assert answer.status == 200, where
    assert requested == {"/healthz", "/readyz"}


def test_liveness_does_not_depend_on_other_services(pods: Pods) -> None:
    """/readyz fails while a service waits for another, when a restart would not help."""
    for where, template in pods:
        for kind in ("startupProbe", "livenessProbe"):
            assert container(template)[kind]["httpGet"]["path"] == "/healthz", where
        startup = container(template)["startupProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 60, where


def test_a_service_has_a_grace_period(pods: Pods) -> None:
    grace = {"60s": 60, "15s": 15}
    for where, template in pods:
        service = container(template)["name"]
        seconds = template["spec"]["terminationGracePeriodSeconds"]
        if service == "relay":
            assert seconds == 15
            continue
        assert seconds == grace[COMPOSE[service]["stop_grace_period"]], where
        assert service != "actor" or seconds < 25, "spot machines give 25 seconds"


def test_each_side_has_only_its_own_keys(renders: Renders, tmp_path: Path) -> None:
    """Servers are the learner and the relay towards actors; `asyncade keys` makes the folders."""
    make_keys(tmp_path)
    load_learner_keys(tmp_path / "learner")
    load_actor_keys(tmp_path / "actor")
    expected = {
        False: {
            "learner": {"/keys/learner": "learner-keys"},
            "actor": {"/keys/actor": "actor-keys"},
        },
        True: {
            "learner": {"/keys/learner": "learner-keys"},
            "actor": {"/keys/actor": "relay-actor-keys"},
            "relay": {"/keys/relay": "relay-keys", "/keys/learner": "actor-keys"},
        },
    }
    readme = (ROOT / "k8s/README.md").read_text()
    sides = {"learner-keys": "learner", "actor-keys": "actor"}
    sides |= {f"relay-{'actor-' * (side == 'actor')}keys": side for side in ("learner", "actor")}
    for secret, side in sides.items():
        assert re.search(rf"generic {secret} --from-file=\S+/{side}\b", readme), secret
    for name, manifests in renders.items():
        wanted = dict(expected["relay" in name])
        if "evaluator" in name:  # it subscribes to the learner, whatever the actors connect to
            wanted["evaluator"] = {"/keys/actor": "actor-keys"}
        found = {}
        for manifest in workloads(manifests):
            spec = manifest["spec"]["template"]["spec"]
            secrets = {v["name"]: v["secret"] for v in spec["volumes"] if "secret" in v}
            assert all(secret["defaultMode"] == 0o440 for secret in secrets.values())
            own = container(manifest["spec"]["template"])
            found[own["name"]] = {
                mount["mountPath"]: secrets[mount["name"]]["secretName"]
                for mount in own["volumeMounts"]
                if mount["name"] in secrets and mount["readOnly"]
            }
            pointed = {v["value"] for v in own["env"] if v["name"].endswith("KEYS")}
            assert pointed == found[own["name"]].keys(), name
        assert found == wanted, name


def test_a_learner_knows_how_many_actors_a_relay_may_speak_for(renders: Renders) -> None:
    """In gradient mode it would drop the mean of several as a false claim."""
    variable = "ASYNCADE_LEARNER_ACTORS_BEHIND_RELAY"
    for name, manifests in renders.items():
        (learner,) = of(manifests, "StatefulSet") + of(manifests, "Job")
        told = [v for v in container(learner["spec"]["template"])["env"] if v["name"] == variable]
        assert [int(one["value"]) for one in told] == [32] * ("relay" in name), name
