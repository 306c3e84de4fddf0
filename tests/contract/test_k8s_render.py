"""Overlays and components of k8s/ in every combination are valid and complete."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.manifests import K8S, ROOT, Documents, Manifest, Renders, of, workloads

README = (K8S / "README.md").read_text()

CLUSTER_WIDE = {"Namespace", "PriorityClass"}
IRREPLACEABLE = {"Namespace", "PersistentVolumeClaim", "PersistentVolume", "Secret"}
MUTABLE = {  # of a StatefulSet's spec: ValidateStatefulSetUpdate in kubernetes/kubernetes
    *("replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit"),
    *("persistentVolumeClaimRetentionPolicy", "minReadySeconds"),
}
OPERATORS = {"PodMonitor", "PrometheusRule", "ScaledObject"}  # kinds that a cluster may lack


def kubernetes_validate() -> Any:
    return pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")


def newest_versions() -> list[str]:
    utils = kubernetes_validate().utils
    versions: list[str] = []
    for version in utils.all_versions():
        if utils.major_minor(version) not in versions:
            versions.append(utils.major_minor(version))
    return versions[-3:]


@pytest.mark.parametrize("age", range(3), ids=["newest", "before", "before that"])
def test_every_document_matches_the_schemas_of_kubernetes(documents: Documents, age: int) -> None:
    validator = kubernetes_validate()
    version = newest_versions()[-1 - age]
    unknown = set()
    for name, manifest in documents:
        try:
            validator.validate(manifest, version, strict=True)
        except validator.SchemaNotFoundError:
            unknown.add(manifest["kind"])
        except validator.ValidationError as error:
            pytest.fail(f"{manifest['kind']} of {name} in {version}: {error.message}")
    assert unknown == OPERATORS


def test_every_overlay_and_component_is_rendered(renders: Renders) -> None:
    for folder, place in (("overlays", slice(1)), ("components", slice(1, None))):
        there = {path.name for path in (K8S / folder).iterdir()}
        assert there == {word for name in renders for word in name[place]}, folder
    assert len(renders) == 3 * (2**7 + 1)


def test_objects_are_unique_and_in_the_namespace(renders: Renders, storage: list[Manifest]) -> None:
    for name, manifests in [*renders.items(), (("storage",), storage)]:
        counts = Counter((m["kind"], m["metadata"]["name"]) for m in manifests)
        assert max(counts.values()) == 1, (name, counts.most_common(1))
        for manifest in manifests:
            expected = None if manifest["kind"] in CLUSTER_WIDE else "asyncade"
            assert manifest["metadata"].get("namespace") == expected, (name, manifest["kind"])
            assert manifest["metadata"]["labels"]["app.kubernetes.io/part-of"] == "asyncade"


def test_the_namespace_enforces_restricted_pods(storage: list[Manifest]) -> None:
    (namespace,) = of(storage, "Namespace")
    labels = namespace["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"


def test_deleting_an_overlay_keeps_runs_and_keys(renders: Renders, storage: list[Manifest]) -> None:
    """`kubectl delete -k` deletes all rendered objects, and a namespace with its contents."""
    for name, manifests in renders.items():
        assert not {m["kind"] for m in manifests} & IRREPLACEABLE, name
        for workload in of(manifests, "StatefulSet"):
            policy = workload["spec"].get("persistentVolumeClaimRetentionPolicy", {})
            assert set(policy.values()) <= {"Retain"}, name
    assert {m["kind"] for m in storage} == {"Namespace", "PersistentVolumeClaim"}


def test_an_overlay_can_be_changed_in_place(renders: Renders) -> None:
    """Compares immutable fields between renders, without an API server."""
    fixed: dict[tuple[str, str], Manifest] = {}
    for name, manifests in renders.items():
        for manifest in manifests:
            match manifest["kind"]:
                case "StatefulSet":
                    spec = without_keys(manifest["spec"], *MUTABLE)
                case "Deployment" | "DaemonSet":
                    spec = manifest["spec"]["selector"]
                case "Service":
                    spec = {"clusterIP": manifest["spec"].get("clusterIP")}
                case "PriorityClass":
                    spec = {key: manifest.get(key) for key in ("value", "preemptionPolicy")}
                case _:
                    continue
            one = (manifest["kind"], manifest["metadata"]["name"])
            assert fixed.setdefault(one, spec) == spec, (name, one)


def references(template: Manifest) -> Iterator[tuple[str, str]]:
    """Yields kind and name of every object that a pod needs."""
    spec = template["spec"]
    yield "ServiceAccount", spec["serviceAccountName"]
    yield "PriorityClass", spec["priorityClassName"]
    for container in spec["containers"]:
        for source in container.get("envFrom", []):
            if not source["configMapRef"].get("optional"):
                yield "ConfigMap", source["configMapRef"]["name"]
    for volume in spec["volumes"]:
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]


def test_every_object_that_a_pod_needs_is_rendered_or_documented(
    renders: Renders, storage: list[Manifest]
) -> None:
    for name, manifests in renders.items():
        there = {(m["kind"], m["metadata"]["name"]) for m in [*manifests, *storage]}
        for workload in workloads(manifests):
            for kind, needed in references(workload["spec"]["template"]):
                if kind == "Secret":
                    made = f"create secret generic {needed} --from-file="
                    assert made in README, f"k8s/README.md does not make {needed}"
                else:
                    assert (kind, needed) in there, (name, kind, needed)


def test_no_secret_is_rendered(documents: Documents) -> None:
    assert not [name for name, manifest in documents if manifest["kind"] == "Secret"]


def test_the_learner_writes_to_a_claim(renders: Renders) -> None:
    for manifests in renders.values():
        (learner,) = [*of(manifests, "StatefulSet"), *of(manifests, "Job")]
        spec = learner["spec"]["template"]["spec"]
        mounts = {m["name"]: m["mountPath"] for m in spec["containers"][0]["volumeMounts"]}
        assert [v["name"] for v in spec["volumes"] if "persistentVolumeClaim" in v] == ["runs"]
        (settings,) = [m for m in of(manifests, "ConfigMap") if "learner-settings" in str(m)]
        run_dir = Path(settings["data"]["ASYNCADE_LEARNER_RUN_DIR"])
        assert run_dir.is_relative_to(mounts["runs"])


def without_keys(content: Manifest, *keys: str) -> Manifest:
    return {key: value for key, value in content.items() if key not in keys}


def test_the_job_is_the_pod_of_the_only_learner(renders: Renders) -> None:
    for name, manifests in renders.items():
        sets, jobs = of(manifests, "StatefulSet", "learner"), of(manifests, "Job", "learner")
        if "job" not in name:
            assert (len(sets), len(jobs)) == (1, 0)
            assert sets[0]["spec"]["replicas"] == 1
            continue
        assert (len(sets), len(jobs)) == (0, 1)
        without = tuple(word for word in name if word != "job")
        if without not in renders:
            continue  # components in reverse order
        (stateful,) = of(renders[without], "StatefulSet")
        pod = jobs[0]["spec"]["template"]["spec"]
        other = stateful["spec"]["template"]["spec"]
        assert without_keys(pod, "restartPolicy", "containers") == without_keys(other, "containers")
        (one,), (two,) = pod["containers"], other["containers"]
        assert without_keys(one, "command", "args") == two


def test_components_leave_settings_to_the_user(renders: Renders) -> None:
    """kustomize merges literals of components last: they would override a kustomization's."""

    def settings(manifests: list[Manifest]) -> list[Manifest]:
        found = [m for m in of(manifests, "ConfigMap") if "-settings" in m["metadata"]["name"]]
        assert len(found) == 2
        return found

    for name, manifests in renders.items():
        assert settings(manifests) == settings(renders[name[:1]]), name
        assert "ASYNCADE_LEARNER_TARGET" not in str(settings(manifests)), name


def test_the_order_of_components_does_not_matter(renders: Renders) -> None:
    """Except for the two autoscalers: the one listed last is kept."""

    def key(manifest: Manifest) -> str:
        return str((manifest["kind"], manifest["metadata"]["name"]))

    scalers = {"ScaledObject", "HorizontalPodAutoscaler"}
    complete = [name for name in renders if len(name) == 8]
    assert len(complete) == 6
    for overlay in {name[0] for name in complete}:
        one, other = (sorted(renders[name], key=key) for name in complete if name[0] == overlay)
        assert [m for m in one if m["kind"] not in scalers] == [
            m for m in other if m["kind"] not in scalers
        ]


def test_the_dashboard_is_the_one_of_compose(renders: Renders) -> None:
    file = ROOT / "docker/grafana/dashboards/asyncade.json"
    for name, manifests in renders.items():
        boards = of(manifests, "ConfigMap", "asyncade-dashboard")
        assert len(boards) == ("monitoring" in name)
        for board in boards:
            assert board["data"] == {file.name: file.read_text()}
            assert board["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_the_rules_are_those_of_compose(renders: Renders) -> None:
    files = sorted((ROOT / "docker/prometheus/rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    assert len(groups) == len(files)
    for name, manifests in renders.items():
        rules = of(manifests, "PrometheusRule")
        assert len(rules) == ("monitoring" in name)
        assert all(rule["spec"] == {"groups": groups} for rule in rules)


def test_the_generated_rule_file_is_up_to_date() -> None:
    command = [sys.executable, str(K8S / "prometheus_rule.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
