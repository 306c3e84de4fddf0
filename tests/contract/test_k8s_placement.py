"""Where the pods of k8s/ are scheduled, and which of them give way."""

from __future__ import annotations

from contract.manifests import Renders, of, workloads


def test_priorities_fall_from_learner_to_relay_to_actor(renders: Renders) -> None:
    for manifests in renders.values():
        classes = {m["metadata"]["name"]: m for m in of(manifests, "PriorityClass")}
        value = {name: content["value"] for name, content in classes.items()}
        order = ["asyncade-learner", "asyncade-relay", "asyncade-actor"]
        values = [value[name] for name in order if name in value]
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == len(values) >= 2
        assert value["asyncade-actor"] >= -10  # less, and cluster-autoscaler adds no nodes
        assert classes["asyncade-actor"]["preemptionPolicy"] == "Never"
        for manifest in workloads(manifests):
            spec = manifest["spec"]["template"]["spec"]
            service = spec["containers"][0]["name"]
            of_class = "actor" if service == "evaluator" else service  # it may be lost at any time
            assert spec["priorityClassName"] == f"asyncade-{of_class}"


def test_a_relay_runs_on_every_node_that_an_actor_can(renders: Renders) -> None:
    for name, manifests in renders.items():
        pods = {m["metadata"]["name"]: m["spec"]["template"]["spec"] for m in workloads(manifests)}
        if "relay" not in name:
            continue
        relay, actor = pods["relay"], pods["actor"]
        for toleration in actor.get("tolerations", []):
            assert toleration in relay["tolerations"], name
        assert not {"nodeSelector", "affinity"} & relay.keys(), name


def test_actors_are_spread_over_nodes_and_zones(renders: Renders) -> None:
    for manifests in renders.values():
        (actor,) = of(manifests, "Deployment", "actor")
        spread = actor["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert {constraint["topologyKey"] for constraint in spread} == {
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        }
        for constraint in spread:
            assert constraint["labelSelector"] == actor["spec"]["selector"]
            assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
