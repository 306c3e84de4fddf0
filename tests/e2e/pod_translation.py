"""Translates a rendered pod template to `docker run`, completely or with an error.

Every field is either translated or listed in `IGNORED` with the reason, so that no field of a
manifest is silently untested.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal

Manifest = dict[str, Any]

PROBES: Final = ("startupProbe", "livenessProbe", "readinessProbe")
UNITS: Final = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
CPU_PERIOD_US: Final = 100_000  # what a kubelet sets; unlike --cpus it may exceed the machine

_CONTROLLER: Final = "a controller's: the test starts, ends and replaces containers itself"
_PLACE: Final = "chooses a node: there is one machine"
_PATIENCE: Final = "the test asks until an answer comes, or its own deadline"

IGNORED: Final[Mapping[str, Mapping[str, str]]] = {
    "StatefulSet": {
        "podManagementPolicy": _CONTROLLER,
        "replicas": _CONTROLLER,
        "serviceName": "gives each pod a DNS name, which is not used",
    },
    "Deployment": {"replicas": _CONTROLLER},
    "DaemonSet": {"updateStrategy": _CONTROLLER},
    "Job": {"backoffLimit": _CONTROLLER, "podFailurePolicy": _CONTROLLER},
    "Service": {
        "clusterIP": "a name leads to the container itself, as without an address",
        "internalTrafficPolicy": _PLACE,
        "publishNotReadyAddresses": "names lead to containers, ready or not",
    },
    "Service port": {"appProtocol": "a hint for proxies", "name": "for people"},
    "pod spec": {
        "affinity": _PLACE,
        "priorityClassName": _PLACE,
        "restartPolicy": _CONTROLLER,
        "serviceAccountName": "nothing of it is mounted: see automountServiceAccountToken",
        "tolerations": _PLACE,
        "topologySpreadConstraints": _PLACE,
    },
    "pod securityContext": {"fsGroupChangePolicy": "a new volume gets its group either way"},
    "container": {
        "imagePullPolicy": "images are built from the checkout, and never pulled",
        "name": "there is one",
        "terminationMessagePolicy": "the test reads the log itself",
    },
    "resources": {"requests": _PLACE},
    "limits": {"ephemeral-storage": "no quota here; the root is read-only, /tmp has its own limit"},
    "probe": dict.fromkeys(("failureThreshold", "periodSeconds", "timeoutSeconds"), _PATIENCE),
}


class UntranslatableError(AssertionError):
    """A field or value without a translation."""


class Fields:
    """A mapping of a manifest, as a context manager: fields left untaken are an error."""

    def __init__(self, content: Mapping[str, Any], where: str) -> None:
        self._left = dict(content)
        self._where = where

    def __enter__(self) -> Fields:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None
    ) -> None:
        unknown = self._left.keys() - IGNORED.get(self._where, {}).keys()
        if kind is None and unknown:
            raise UntranslatableError(f"{self._where}: no translation of {sorted(unknown)}")

    def take(self, name: str, *default: Any) -> Any:
        """Returns a field, or the default; without a default the field is required."""
        if name not in self._left and not default:
            raise UntranslatableError(f"{self._where}: {name} is not set, and is relied on")
        return self._left.pop(name, *default)

    def must_be(self, name: str, value: object) -> None:
        """Takes a field of which only this value has a translation."""
        found = self.take(name)
        if found != value:
            raise UntranslatableError(f"{self._where}: {name} is {found!r}, not {value!r}")


@dataclass(frozen=True)
class Mount:
    """A volume that is prepared before the container starts.

    Attributes:
        kind: of its source.
        source: name of the Secret or of the claim.
        path: where it is mounted.
        group: fsGroup, the volume's group.
        mode: of the files of a Secret.
        read_only: for the container.
    """

    kind: Literal["secret", "claim"]
    source: str
    path: str
    group: int
    mode: int
    read_only: bool


@dataclass(frozen=True)
class Probe:
    """A page that a kubelet requests."""

    port: int
    path: str


@dataclass(frozen=True)
class DockerRun:
    """A pod's only container.

    Attributes:
        name: of the pod.
        image: with its tag.
        options: of `docker run`, without mounts.
        words: after the image.
        mounts: volumes to prepare.
        probes: page of each kind of probe.
        grace_seconds: between SIGTERM and SIGKILL.
    """

    name: str
    image: str
    options: Sequence[str]
    words: Sequence[str]
    mounts: Sequence[Mount]
    probes: Mapping[str, Probe]
    grace_seconds: int


def translate(workload: Manifest, manifests: Iterable[Manifest], replica: int = 0) -> DockerRun:
    """Translates a pod of a workload, with ConfigMaps and Services of the same render.

    Raises:
        UntranslatableError: a field or value has no translation.
    """
    name = f"{workload['metadata']['name']}-{replica}"
    with Fields(workload["spec"], workload["kind"]) as of_workload:
        template = of_workload.take("template")
        selector = of_workload.take("selector", None)
    with Fields(template, "template") as of_template:
        with Fields(of_template.take("metadata"), "template metadata") as metadata:
            labels = metadata.take("labels")
        pod = of_template.take("spec")
    if selector is not None and not _selects(selector["matchLabels"], labels):
        raise UntranslatableError(f"{name}: {selector} does not select {labels}")
    return _pod(name, labels, pod, list(manifests))


def memory_bytes(quantity: str) -> int:
    """Returns the bytes of a quantity such as 512Mi."""
    if quantity[-2:] not in UNITS:
        raise UntranslatableError(f"{quantity} is not in {sorted(UNITS)}")
    return int(quantity[:-2]) * UNITS[quantity[-2:]]


def cores(quantity: str) -> float:
    """Returns the cores of a quantity such as 2 or 250m."""
    return int(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def _pod(name: str, labels: Manifest, pod: Manifest, manifests: list[Manifest]) -> DockerRun:
    with Fields(pod, "pod spec") as spec:
        spec.must_be("automountServiceAccountToken", False)
        spec.must_be("enableServiceLinks", False)  # the engine makes no such variables
        options, group = _user(spec.take("securityContext"))
        grace = spec.take("terminationGracePeriodSeconds")
        volumes = {one["name"]: one for one in spec.take("volumes")}
        (only,) = spec.take("containers")
    with Fields(only, "container") as container:
        words = container.take("args", [])
        if (command := container.take("command", None)) is not None:
            entry, *rest = command
            options += ["--entrypoint", entry]
            words = [*rest, *words]
        variables = dict(_environment(container, manifests))
        _check_no_references([*words, *variables.values()])
        options += [word for item in variables.items() for word in ("--env", "=".join(item))]
        options += _locks(container.take("securityContext"))
        options += _limits(container.take("resources"))
        ports = {port["name"]: _port(port) for port in container.take("ports")}
        probes = {kind: _probe(container.take(kind), ports) for kind in PROBES}
        mounted = [_volume(one, volumes, group) for one in container.take("volumeMounts")]
        image = container.take("image")
    options += [f"--expose={port}" for port in ports.values()]
    # A kubelet requests from outside the container: pages must listen beyond loopback.
    options += [f"--publish=127.0.0.1::{port}" for port in {one.port for one in probes.values()}]
    options += [f"--network-alias={alias}" for alias in _names(labels, ports, manifests)]
    options += [f"--tmpfs={one}" for one in mounted if isinstance(one, str)]
    mounts = [one for one in mounted if isinstance(one, Mount)]
    return DockerRun(name, image, ["--hostname", name, *options], words, mounts, probes, grace)


def _user(context: Manifest) -> tuple[list[str], int]:
    """Returns options for the user, and fsGroup."""
    with Fields(context, "pod securityContext") as fields:
        user, group = fields.take("runAsUser"), fields.take("runAsGroup")
        extra = fields.take("fsGroup")
        fields.must_be("runAsNonRoot", True)
        fields.must_be("seccompProfile", {"type": "RuntimeDefault"})  # Docker's default
    if user == 0:
        raise UntranslatableError("runAsNonRoot, and runAsUser is 0")
    return ["--user", f"{user}:{group}", "--group-add", str(extra)], extra


def _locks(context: Manifest) -> list[str]:
    with Fields(context, "container securityContext") as fields:
        fields.must_be("allowPrivilegeEscalation", False)
        fields.must_be("readOnlyRootFilesystem", True)
        fields.must_be("capabilities", {"drop": ["ALL"]})
    return ["--security-opt=no-new-privileges", "--read-only", "--cap-drop=ALL"]


def _limits(resources: Manifest) -> list[str]:
    with (
        Fields(resources, "resources") as of_resources,
        Fields(of_resources.take("limits"), "limits") as limits,
    ):
        memory = memory_bytes(limits.take("memory"))
        quota = round(cores(limits.take("cpu")) * CPU_PERIOD_US)
    cpu = [f"--cpu-period={CPU_PERIOD_US}", f"--cpu-quota={quota}"]
    return [*cpu, f"--memory={memory}", f"--memory-swap={memory}"]  # no swap


def _environment(container: Fields, manifests: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Yields variables of ConfigMaps, then the container's own, which override them."""
    maps = {one["metadata"]["name"]: one["data"] for one in manifests if one["kind"] == "ConfigMap"}
    for source in container.take("envFrom", []):
        with Fields(source, "envFrom") as fields, Fields(fields.take("configMapRef"), "ref") as ref:
            name, optional = ref.take("name"), ref.take("optional", False)
            if name in maps or not optional:
                yield from maps[name].items()
    for variable in container.take("env", []):
        with Fields(variable, "env") as fields:
            yield fields.take("name"), fields.take("value")


def _check_no_references(texts: Iterable[str]) -> None:
    """Refuses $(NAME), which Kubernetes replaces and Docker does not."""
    for text in texts:
        if "$(" in text:
            raise UntranslatableError(f"$(...) is not replaced here: {text}")


def _port(port: Manifest) -> int:
    with Fields(port, "port") as fields:
        fields.take("name")
        return int(fields.take("containerPort"))


def _probe(probe: Manifest, ports: Mapping[str, int]) -> Probe:
    with Fields(probe, "probe") as of_probe, Fields(of_probe.take("httpGet"), "httpGet") as page:
        port = page.take("port")
        return Probe(ports.get(port, port), page.take("path"))


def _volume(mount: Manifest, volumes: Mapping[str, Manifest], group: int) -> Mount | str:
    """Returns a mount; for an emptyDir, the value of --tmpfs."""
    with Fields(mount, "volumeMount") as of_mount:
        volume = volumes[of_mount.take("name")]
        path, read_only = of_mount.take("mountPath"), of_mount.take("readOnly", False)
    with Fields(volume, "volume") as of_volume:
        of_volume.take("name")
        if secret := of_volume.take("secret", None):
            with Fields(secret, "secret") as fields:
                name, mode = fields.take("secretName"), fields.take("defaultMode")
            return Mount("secret", name, path, group, mode, read_only=True)
        if claim := of_volume.take("persistentVolumeClaim", None):
            with Fields(claim, "persistentVolumeClaim") as fields:
                name = fields.take("claimName")
            return Mount("claim", name, path, group, 0, read_only)
        with Fields(of_volume.take("emptyDir"), "emptyDir") as fields:
            size = memory_bytes(fields.take("sizeLimit"))
    # Modes as a kubelet sets them; Docker's default forbids execution.
    return f"{path}:rw,exec,size={size},mode=2777,gid={group}"


def _names(labels: Manifest, ports: Mapping[str, int], manifests: list[Manifest]) -> Iterator[str]:
    """Yields the names of a pod's Services. A name leads to all ports, so none is renumbered."""
    for service in manifests:
        if service["kind"] != "Service" or not _selects(service["spec"]["selector"], labels):
            continue
        with Fields(service["spec"], "Service") as spec:
            spec.take("selector")
            for port in spec.take("ports"):
                with Fields(port, "Service port") as fields:
                    outside, inside = fields.take("port"), fields.take("targetPort")
                if outside != ports.get(inside, inside):
                    raise UntranslatableError(f"Service port {outside} is {inside} of the pod")
        yield service["metadata"]["name"]


def _selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return selector.items() <= labels.items()
