"""Services, network policies and scraping of k8s/ select the right pods and ports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

import yaml

from asyncade_evaluator.settings import EvaluatorSettings
from asyncade_proto import ports
from asyncade_runtime.settings import load
from contract.manifests import K8S, ROOT, Manifest, Renders, of, workloads

PROMETHEUS = yaml.safe_load((ROOT / "docker/prometheus/prometheus.yml").read_text())

Flow = tuple[str, str, str, int]
"""Sender, receiver, protocol, port."""

BOTH = ("Egress", "Ingress")
NAMESPACE_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Peer:
    """A pod of this or another namespace, as sender or receiver."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    ports: Mapping[str, int]


STRANGERS = (
    Peer("prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"}, {}),
    Peer("dns", "kube-system", {"k8s-app": "kube-dns"}, {"dns": 53, "metrics": 9153}),
    Peer("other", "kube-system", {"k8s-app": "other"}, {"dns": 53}),
    # In another namespace, with our labels.
    Peer("impostor", "default", {"asyncade/sends-to": "learner"}, {"upstream": 5555}),
    Peer("observer", "default", {"app.kubernetes.io/name": "evaluator"}, {"page": 9105}),
)


def peers(manifests: list[Manifest]) -> dict[str, Peer]:
    """Returns the pods of a render, by service."""
    found = {}
    for manifest in workloads(manifests):
        template = manifest["spec"]["template"]
        (container,) = template["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        peer = Peer(container["name"], "asyncade", template["metadata"]["labels"], ports)
        found[peer.name] = peer
    return found


def selects(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """Applies a label selector; an empty one selects everything."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())


def is_peer(rule: Manifest, peer: Peer) -> bool:
    """True if an entry of `from` or `to` in a policy of our namespace selects this pod."""
    if "ipBlock" in rule:
        assert rule == {"ipBlock": {"cidr": "169.254.20.10/32"}}  # one address, of no pod
        return False
    namespace = rule.get("namespaceSelector")
    if namespace is None:
        if peer.namespace != "asyncade":
            return False
    elif not selects(namespace, {NAMESPACE_LABEL: peer.namespace}):
        return False
    return selects(rule.get("podSelector", {}), peer.labels)


def lets_through(
    policies: list[Manifest], direction: str, here: Peer, there: Peer, protocol: str, port: int
) -> bool:
    """True if the policies of one side allow a connection."""
    if here.namespace != "asyncade":
        return True
    mine = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], here.labels)
    ]
    word = {"Ingress": "from", "Egress": "to"}[direction]
    for policy in mine:
        for rule in policy.get(direction.lower(), []):
            on_port = {"protocol": protocol, "port": port} in rule["ports"]
            if on_port and any(is_peer(entry, there) for entry in rule[word]):
                return True
    return not mine


def allowed(manifests: list[Manifest], *sides: str) -> set[Flow]:
    """Returns the flows that the policies of these sides allow between our pods and strangers."""
    policies = of(manifests, "NetworkPolicy")
    world = [*peers(manifests).values(), *STRANGERS]
    every_port = {port for peer in world for port in peer.ports.values()} | {80, 443}
    return {
        (one.name, other.name, protocol, port)
        for one in world
        for other in world
        if "asyncade"
        in [pod.namespace for side, pod in zip(BOTH, (one, other), strict=True) if side in sides]
        for protocol in ("TCP", "UDP")
        for port in every_port
        if all(
            lets_through(policies, side, here, there, protocol, port)
            for side, here, there in (("Egress", one, other), ("Ingress", other, one))
            if side in sides
        )
    }


def connections(manifests: list[Manifest]) -> Iterator[tuple[str, str, int]]:
    """Yields sender, Service and port of each connection in the settings of the pods."""
    for manifest in workloads(manifests):
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        for variable in container["env"]:
            found = re.fullmatch(r"(?:tcp|http)://([a-z-]+):(\d+)", variable["value"])
            if found:
                yield container["name"], found[1], int(found[2])


def target(manifests: list[Manifest], service: str, port: int) -> tuple[str, int]:
    """Returns the pod behind a Service, and the port there."""
    (found,) = of(manifests, "Service", service)
    behind = [
        peer
        for peer in peers(manifests).values()
        if selects({"matchLabels": found["spec"]["selector"]}, peer.labels)
    ]
    (entry,) = [entry for entry in found["spec"]["ports"] if entry["port"] == port]
    assert len(behind) == 1, f"{service} selects {behind}"
    return behind[0].name, behind[0].ports[entry["targetPort"]]


def test_policies_allow_exactly_the_connections_in_use(renders: Renders) -> None:
    for name, manifests in renders.items():
        if "network-policies" not in name:
            continue
        used: set[Flow] = set()
        for sender, service, port in connections(manifests):
            receiver, container_port = target(manifests, service, port)
            used |= {(sender, receiver, "TCP", container_port)}
            used |= {(sender, "dns", protocol, 53) for protocol in ("TCP", "UDP")}
        for peer in peers(manifests).values():
            used.add(("prometheus", peer.name, "TCP", peer.ports["metrics"]))
        assert allowed(manifests, *BOTH) == used, name
        # Each direction alone forbids everything else.
        ours = peers(manifests)
        assert allowed(manifests, "Egress") == {flow for flow in used if flow[0] in ours}, name
        assert allowed(manifests, "Ingress") == {flow for flow in used if flow[1] in ours}, name


def test_actors_use_relays_where_there_are_any(renders: Renders) -> None:
    for name, manifests in renders.items():
        found = set(connections(manifests))
        to_learner = {("learner", 5555), ("learner", 5556)}
        if "relay" in name:
            expected = {("actor", "relay", 5557), ("actor", "relay", 5558)}
            expected |= {("relay", *address) for address in to_learner}
        else:
            expected = {("actor", *address) for address in to_learner}
        if "evaluator" in name:  # whatever the actors use
            expected |= {("evaluator", "learner", 5556), ("evaluator", "learner-metrics", 9101)}
        assert found == expected, name


def test_nothing_but_port_forward_reaches_the_evaluators_page(renders: Renders) -> None:
    """It listens on the pod's loopback, in whose network kubectl's port-forward arrives."""
    for name, manifests in renders.items():
        for deployment in of(manifests, "Deployment", "evaluator"):
            (container,) = deployment["spec"]["template"]["spec"]["containers"]
            variables = {v["name"]: v["value"] for v in container["env"]}
            settings = load(EvaluatorSettings, [], variables)
            assert ip_address(settings.page_host).is_loopback, name
            assert settings.page_port == ports.WATCH
        for service in of(manifests, "Service"):
            assert service["spec"]["selector"] != {"app.kubernetes.io/name": "evaluator"}
    assert f"port-forward deployment/evaluator {ports.WATCH}" in (K8S / "README.md").read_text()


def test_without_the_component_there_are_no_policies(renders: Renders) -> None:
    for name, manifests in renders.items():
        policies = of(manifests, "NetworkPolicy")
        assert bool(policies) == ("network-policies" in name)


def test_services_lead_to_the_same_ports_of_their_pods(renders: Renders) -> None:
    for name, manifests in renders.items():
        services = {m["metadata"]["name"]: m["spec"] for m in of(manifests, "Service")}
        relay = {"relay"} if "relay" in name else set()
        assert services.keys() == {"learner", "learner-metrics"} | relay
        for service, spec in services.items():
            for entry in spec["ports"]:
                pod, port = target(manifests, service, entry["port"])
                assert pod == service.removesuffix("-metrics")
                assert port == entry["port"]
                assert entry["name"] == entry["targetPort"]
        assert services["learner"]["clusterIP"] == "None"
        assert services["learner"]["publishNotReadyAddresses"] is True
        for spec in [services[service] for service in relay]:
            assert spec["internalTrafficPolicy"] == "Local"


def test_the_stateful_set_names_the_learners_service(renders: Renders) -> None:
    for manifests in renders.values():
        for manifest in of(manifests, "StatefulSet"):
            assert manifest["spec"]["serviceName"] == "learner"


def test_selectors_of_workloads_select_their_own_pods_only(renders: Renders) -> None:
    for name, manifests in renders.items():
        pods = peers(manifests)
        for manifest in manifests:
            spec = manifest.get("spec", {})
            if manifest["kind"] in ("StatefulSet", "Deployment", "DaemonSet"):
                own = manifest["metadata"]["name"]
            elif manifest["kind"] == "PodDisruptionBudget":
                own = manifest["metadata"]["name"]
                assert spec["maxUnavailable"] == "50%"
                assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
            else:
                continue
            chosen = [pod.name for pod in pods.values() if selects(spec["selector"], pod.labels)]
            assert chosen == [own], name
        budgets = of(manifests, "PodDisruptionBudget")
        assert [m["metadata"]["name"] for m in budgets] == ["actor"]


def test_every_pod_is_scraped_under_a_job_of_the_rules(renders: Renders) -> None:
    jobs = {job["job_name"] for job in PROMETHEUS["scrape_configs"]}
    for name, manifests in renders.items():
        monitors = of(manifests, "PodMonitor")
        assert len(monitors) == ("monitoring" in name)
        for monitor in monitors:
            (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
            assert endpoint["path"] == "/metrics"
            assert int(endpoint["interval"].removesuffix("s")) <= 15  # rates over a minute
            for pod in peers(manifests).values():
                assert selects(monitor["spec"]["selector"], pod.labels), name
                assert endpoint["port"] in pod.ports
                assert pod.labels[monitor["spec"]["jobLabel"]] in jobs | {"relay"}
