"""Both autoscalers query the same series and scale at the same rate.

The recording rule is tested with promtool: docker/prometheus/tests/autoscaling.yml.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from contract.manifests import of

ROOT = Path(__file__).parents[2]
COMPONENTS = ROOT / "k8s/components"
RULES = ROOT / "docker/prometheus/rules/autoscaling.yml"

WINDOW_S = 300
"""Range of the recording rule."""

Manifest = dict[str, Any]
Renders = Mapping[tuple[str, ...], list[Manifest]]


def content(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


KEDA = content(COMPONENTS / "autoscaling-keda/scaled-object.yaml")["spec"]
HPA = content(COMPONENTS / "autoscaling-hpa/autoscaler.yaml")["spec"]
ADAPTER = content(COMPONENTS / "autoscaling-hpa/adapter-values.yaml")
(TRIGGER,) = KEDA["triggers"]
(METRIC,) = HPA["metrics"]
((RULE,),) = [group["rules"] for group in content(RULES)["groups"]]


def test_both_query_the_recorded_series() -> None:
    (rule,) = ADAPTER["rules"]["external"]
    assert TRIGGER["metadata"]["query"] == RULE["record"]
    assert rule["seriesQuery"] == RULE["record"]
    assert rule["metricsQuery"] == "<<.Series>>"
    assert METRIC["external"]["metric"] == {"name": rule["name"]["as"]}
    keda, adapter = TRIGGER["metadata"]["serverAddress"], ADAPTER["prometheus"]
    assert keda == f"{adapter['url']}:{adapter['port']}"


def test_the_value_is_the_number_of_actors() -> None:
    """An HPA divides an AverageValue by the replicas, so a target of 1 gives the value itself."""
    assert METRIC["type"] == "External"
    assert METRIC["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}
    assert TRIGGER["metricType"] == "AverageValue"
    assert TRIGGER["metadata"]["threshold"] == "1"


def test_the_rule_has_the_range_that_the_manifests_assume() -> None:
    assert RULE["expr"].count(f"[{WINDOW_S // 60}m]") == 3


def test_both_scale_the_same_and_down_more_slowly_than_up() -> None:
    assert KEDA["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == HPA["behavior"]
    assert (KEDA["minReplicaCount"], KEDA["maxReplicaCount"]) == (
        HPA["minReplicas"],
        HPA["maxReplicas"],
    )
    assert HPA["minReplicas"] >= 1
    up, down = HPA["behavior"]["scaleUp"], HPA["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] >= WINDOW_S
    assert down["stabilizationWindowSeconds"] > up["stabilizationWindowSeconds"]
    fastest = {
        name: {policy["type"]: policy["value"] for policy in rule["policies"]}
        for name, rule in (("up", up), ("down", down))
    }
    assert all(fastest["down"][kind] < fastest["up"][kind] for kind in ("Percent", "Pods"))


def test_without_an_answer_the_number_of_actors_stays() -> None:
    """An HPA does so by default; KEDA needs a fallback, and an empty answer to be an error."""
    assert KEDA["fallback"]["behavior"] == "currentReplicas"
    assert TRIGGER["metadata"]["ignoreNullValues"] == "false"


def test_an_autoscaled_deployment_has_no_number_of_replicas(renders: Renders) -> None:
    kinds = {"autoscaling-keda": "ScaledObject", "autoscaling-hpa": "HorizontalPodAutoscaler"}
    for name, manifests in renders.items():
        (actor,) = of(manifests, "Deployment", "actor")
        expected = [kinds[word] for word in name if word in kinds][-1:]
        scalers = [m for m in manifests if m["kind"] in kinds.values()]
        assert [m["kind"] for m in scalers] == expected, name
        assert ("replicas" in actor["spec"]) == (not scalers), name
        for scaler in scalers:
            assert scaler["spec"]["scaleTargetRef"] == {
                "apiVersion": actor["apiVersion"],
                "kind": actor["kind"],
                "name": actor["metadata"]["name"],
            }


def test_the_readme_says_how_few_actors_lose_how_many() -> None:
    """An HPA rounds what is left down to whole actors: calculateScaleDownLimitWithBehaviors."""
    percent = {p["type"]: p["value"] for p in HPA["behavior"]["scaleDown"]["policies"]}["Percent"]
    readme = " ".join((ROOT / "k8s/README.md").read_text().split())
    assert f"3 become {int(3 * (1 - percent / 100))}" in readme
    assert {5: "a fifth"}[100 // percent] in readme
