"""k8s/README.md: its commands and figures match the manifests."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from contract.manifests import K8S, ROOT, Manifest, Pods, Renders, of, rendered

README = (K8S / "README.md").read_text()

NODE_OF_KUBERNETES_MILLICORES = 950
"""CPU that a kind node's own pods request: control plane, etcd, kindnet, two of DNS."""


def commands() -> Iterator[list[str]]:
    """Yields the words of every command line of the README, in blocks and in the text."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    lines = [line for language, text in blocks if not language for line in text.splitlines()]
    lines += re.findall(r"`((?:kubectl|kind|docker|make) [^`]+)`", README)
    for line in lines:
        for command in line.partition(" #")[0].split("&&"):
            yield command.split()


def test_commands_name_folders_and_files_that_exist() -> None:
    named = {word for words in commands() for word in words if re.match(r"(k8s|docker)/", word)}
    assert {"k8s/storage", "k8s/overlays/local", "docker/relay.Dockerfile"} <= named
    assert {word for word in named if not (ROOT / word).exists()} == set()
    for words in commands():
        for option, folder in itertools.pairwise(words):
            if option == "-k":
                assert (ROOT / folder / "kustomization.yaml").is_file(), folder


def test_commands_name_objects_that_are_rendered(renders: Renders, storage: list[Manifest]) -> None:
    everything = [*storage, *(m for manifests in renders.values() for m in manifests)]
    there = {f"{m['kind'].lower()}/{m['metadata']['name']}" for m in everything}
    named = {
        word
        for words in commands()
        if words[:1] == ["kubectl"]
        for word in words
        if re.fullmatch(r"[a-z]+/[a-z-]+", word) and not word.startswith("k8s/")
    }
    assert {"statefulset/learner", "job/learner", "deployment/actor"} <= named
    assert named <= there


def test_the_namespace_and_the_claim_come_before_keys_and_overlay() -> None:
    storage, keys, overlay = (
        README.index(f"\n{command}")
        for command in ("kubectl apply -k k8s/storage", "keys=$", "kubectl apply -k k8s/overlays")
    )
    assert storage < min(keys, overlay)
    assert "`make setup`" in README  # where the command `asyncade` comes from
    assert re.search("^setup:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_image_is_built_and_loaded(pods: Pods) -> None:
    used = {template["spec"]["containers"][0]["image"].split(":")[0] for _, template in pods}
    loaded = [word for words in commands() if words[:2] == ["kind", "load"] for word in words[3:]]
    assert {word.removesuffix(":latest") for word in loaded} == used
    built = {
        f"asyncade-{word}"
        for words in commands()
        if words[:3] == ["docker", "compose", "build"]
        for word in words[3:]
    }
    built |= {
        word.removesuffix(":latest")
        for words in commands()
        if words[:2] == ["docker", "build"]
        for option, word in itertools.pairwise(words)
        if option == "-t"
    }
    assert built == used


def test_a_learner_is_deleted_with_its_pod() -> None:
    """Without --cascade=foreground its pod and its lock on the run folder outlive the command."""
    deleted = {
        word: words
        for words in commands()
        if "delete" in words
        for word in words
        if word.endswith("/learner")
    }
    assert deleted.keys() == {"statefulset/learner", "job/learner"}
    assert all("--cascade=foreground" in words for words in deleted.values())


def test_the_table_says_what_is_deleted(storage: list[Manifest]) -> None:
    rows = dict(re.findall(r"^\| (`kubectl[^|]+) \| ([^|]+) \|$", README, re.MULTILINE))
    (everything,) = [text for command, text in rows.items() if "k8s/storage" in command]
    assert all(manifest["kind"] in everything for manifest in storage)
    (overlay,) = [text for command, text in rows.items() if "k8s/overlays" in command]
    assert "run and the keys stay" in overlay


def test_the_label_for_old_config_maps_is_on_all(renders: Renders) -> None:
    (selector,) = [
        words[words.index("-l") + 1]
        for words in commands()
        if {"delete", "configmap", "-l"} <= set(words)
    ]
    key, _, value = selector.partition("=")
    for name, manifests in renders.items():
        for manifest in of(manifests, "ConfigMap"):
            assert manifest["metadata"]["labels"][key] == value, name


def millicores(manifest: Manifest) -> int:
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    cpu = container["resources"]["requests"]["cpu"]
    return int(cpu[:-1]) if cpu.endswith("m") else 1000 * int(cpu)


def test_the_number_of_actors_that_fit_a_small_node(renders: Renders) -> None:
    """Computed from requests, as the scheduler does."""
    (learner,), (actor,) = (of(renders[("local",)], k) for k in ("StatefulSet", "Deployment"))
    left = 2000 - NODE_OF_KUBERNETES_MILLICORES - millicores(learner)
    fit = left // millicores(actor)
    assert f"two cores has room for {fit} actors" in README
    assert actor["spec"]["replicas"] <= fit
    (evaluator,) = of(renders[("local", "evaluator")], "Deployment", "evaluator")
    with_evaluator = (left - millicores(evaluator)) // millicores(actor)
    assert f"or {with_evaluator} and an evaluator" in README
    assert actor["spec"]["replicas"] <= with_evaluator


def kustomized(kubectl: str, folder: Path, kustomization: str) -> list[Manifest]:
    """Renders a user's kustomization, in a folder beside k8s/."""
    text = kustomization.replace("../k8s", os.path.relpath(K8S, folder))
    (folder / "kustomization.yaml").write_text(text)
    return rendered(kubectl, folder)


def test_the_kustomization_of_the_readme_is_rendered(kubectl: str, tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    manifests = kustomized(kubectl, tmp_path, example)
    (learner,) = of(manifests, "StatefulSet")
    (container,) = learner["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example/asyncade-learner:0.1.0"
    (settings,) = [m for m in of(manifests, "ConfigMap") if "learner-settings" in str(m)]
    assert settings["data"]["ASYNCADE_LEARNER_GAME"] == "breakout"
    assert of(manifests, "NetworkPolicy")
    assert of(manifests, "PodMonitor")


WITH_SETTINGS = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: asyncade
resources: [../k8s/overlays/local]
components: [../k8s/components/relay, ../k8s/components/evaluator]
configMapGenerator:
  - name: relay-settings
    literals: [ASYNCADE_RELAY_LOG_LEVEL=debug]
  - name: evaluator-settings
    literals: [ASYNCADE_EVALUATOR_LOG_LEVEL=debug]
"""


def test_components_have_the_settings_of_a_kustomization(kubectl: str, tmp_path: Path) -> None:
    manifests = kustomized(kubectl, tmp_path, WITH_SETTINGS)
    for service, kind in (("relay", "DaemonSet"), ("evaluator", "Deployment")):
        (made,) = [m for m in of(manifests, "ConfigMap") if f"{service}-" in m["metadata"]["name"]]
        assert made["data"] == {f"ASYNCADE_{service.upper()}_LOG_LEVEL": "debug"}
        (workload,) = of(manifests, kind, service)
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        name = made["metadata"]["name"]
        assert name != f"{service}-settings"  # a change replaces the pods
        assert container["envFrom"] == [{"configMapRef": {"name": name, "optional": True}}]


def test_the_readme_mentions_every_overlay_and_component() -> None:
    for folder in ("overlays", "components"):
        for path in (K8S / folder).iterdir():
            assert f"`{path.name}`" in README, f"k8s/README.md does not mention {path.name}"
