"""Rendered pods on a Docker engine, which replaces kubelet, volumes and Services."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from e2e.docker import DEADLINE_S, inspected, said
from e2e.pod_translation import DockerRun, Manifest, Mount, translate

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
SERVICES = ("learner", "actor", "relay")
TAG = "test-k8s"
LABEL = "asyncade-test"
HOLDER = f"asyncade-learner:{TAG}"  # for containers that hold a volume and never start


def build_images() -> None:
    """Builds the images of k8s/README.md from this checkout."""
    environ = {name: value for name, value in os.environ.items() if name != "COMPOSE_FILE"}
    compose = ("docker", "compose", "-f", ROOT / "compose.yaml")
    said(*compose, "build", "learner", "actor", environ=environ | {"TAG": TAG})
    base = os.environ.get("PYTHON_IMAGE")
    arguments = ("--build-arg", f"PYTHON_IMAGE={base}") if base else ()
    relay = ("-f", ROOT / "docker/relay.Dockerfile", "-t", f"asyncade-relay:{TAG}")
    said("docker", "build", *arguments, *relay, ROOT)


def render(
    folder: Path, *components: str, overlay: str = "local", **settings: Mapping[str, str]
) -> list[Manifest]:
    """Renders a kustomization such as the one in k8s/README.md.

    Args:
        folder: for the kustomization; made here.
        components: by name.
        overlay: by name.
        settings: for learner and actor, by environment variable.
    """
    folder.mkdir(parents=True)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "asyncade",
        "resources": [os.path.relpath(K8S / "overlays" / overlay, folder)],
        "components": [os.path.relpath(K8S / "components" / name, folder) for name in components],
        "images": [{"name": f"asyncade-{name}", "newTag": TAG} for name in SERVICES],
        "configMapGenerator": [
            {
                "name": f"{service}-settings",
                "behavior": "merge",
                "literals": [f"{name}={value}" for name, value in values.items()],
            }
            for service, values in settings.items()
        ],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization))
    return list(yaml.safe_load_all(said("kubectl", "kustomize", folder)))


def documented_secrets(folder: Path) -> dict[str, Manifest]:
    """Returns the Secrets that the commands of k8s/README.md would make, by name."""
    kubectl, made = shutil.which("kubectl"), folder / "made"
    for path in (made, folder / "bin"):
        path.mkdir(parents=True)
    commands = {  # a Secret's name is the sixth word of its command
        "kubectl": f'{kubectl} "$@" --dry-run=client --output=json > "{made}/$6"',
        "asyncade": f'{sys.executable} -m asyncade_cli "$@"',
    }
    for name, line in commands.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\nexec {line}\n")
        (folder / "bin" / name).chmod(0o755)
    environ = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    for line in re.findall(
        r"^keys=\$\(mktemp -d\).*$", (K8S / "README.md").read_text(), re.MULTILINE
    ):
        said("sh", "-ec", line, environ=environ)
    return {path.name: json.loads(path.read_text()) for path in made.iterdir()}


class Pod:
    """A container started from a pod template."""

    def __init__(self, container: str, run: DockerRun) -> None:
        self.container = container
        self.run = run
        self._ports: dict[int, str] = {}

    def address(self) -> str:
        """Returns its address on the pods' network."""
        (network,) = inspected(self.container)["NetworkSettings"]["Networks"].values()
        return str(network["IPAddress"])

    def said(self, *command: str) -> str:
        """Returns the output of a command run inside."""
        return said("docker", "exec", self.container, *command)

    def log(self) -> str:
        done = subprocess.run(
            ["docker", "logs", self.container], capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    def get(self, port: int, path: str) -> tuple[int, str]:
        """Returns status and body of a page, asked from outside; status 0 without an answer."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            url = f"http://127.0.0.1:{self._bound(port)}{path}"
            with opener.open(url, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def _bound(self, port: int) -> str:
        """Returns the host port of a port, which does not change while the container lives."""
        if port not in self._ports:
            (found,) = inspected(self.container)["NetworkSettings"]["Ports"][f"{port}/tcp"]
            self._ports[port] = found["HostPort"]
        return self._ports[port]

    def probe(self, kind: str) -> int:
        """Returns the HTTP status for a kubelet's probe."""
        page = self.run.probes[f"{kind}Probe"]
        return self.get(page.port, page.path)[0]

    def value(self, name: str, **labels: str) -> float:
        """Returns a metric, summed over the labels not given; 0 if absent."""
        _, text = self.get(self.run.probes["livenessProbe"].port, "/metrics")
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
        return sum(
            one.value
            for one in samples
            if one.name == f"asyncade_{name}" and labels.items() <= one.labels.items()
        )

    def kill(self) -> None:
        """Kills it with SIGKILL, as the kernel does out of memory, and removes the container."""
        said("docker", "kill", self.container)
        said("docker", "rm", "--volumes", self.container)

    def stop(self) -> int:
        """Stops it as a kubelet does; returns the exit code, 137 after the grace period."""
        said("docker", "stop", "-t", self.run.grace_seconds, self.container)
        return self.exit_code()

    def exit_code(self) -> int:
        """Waits until it ends by itself and removes it; returns the exit code."""
        words = ["docker", "wait", self.container]
        try:
            done = subprocess.run(words, capture_output=True, check=True, timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.run.name} does not end\n{self.log()[-5000:]}")
        said("docker", "rm", "--volumes", self.container)
        return int(done.stdout)


class Pods:
    """Pods of a render, with their own network and volumes.

    Attributes:
        manifests: the render; replace it to apply changed settings.
    """

    def __init__(self, manifests: list[Manifest], secrets: Mapping[str, Manifest]) -> None:
        self.manifests = manifests
        self.project = f"{LABEL}-{uuid.uuid4().hex[:8]}"
        self._secrets = secrets
        self._mark = f"--label={LABEL}={self.project}"
        said("docker", "network", "create", self._mark, self.project)

    def start(self, kind: str, replica: int = 0) -> Pod:
        """Starts a pod of the only workload of this kind."""
        (workload,) = [one for one in self.manifests if one["kind"] == kind]
        run = translate(workload, self.manifests, replica)
        pod = Pod(f"{self.project}-{run.name}", run)
        words = ["docker", "run", "--detach", "--pull=never", "--name", pod.container, self._mark]
        words += ["--network", self.project]
        words.append("--no-healthcheck")  # Kubernetes ignores an image's own
        for mount in run.mounts:
            end = ",readonly" if mount.read_only else ""
            # Kubernetes copies nothing from the image into a volume and keeps its owner.
            words.append(
                f"--mount=type=volume,src={self._volume(mount)},dst={mount.path},volume-nocopy{end}"
            )
        said(*words, *run.options, run.image, *run.words)
        return pod

    def start_all(self, kind: str) -> list[Pod]:
        """Starts as many pods as the workload has replicas."""
        (workload,) = [one for one in self.manifests if one["kind"] == kind]
        return [self.start(kind, number) for number in range(workload["spec"]["replicas"])]

    def eventually(self, condition: Callable[[], object], what: str) -> None:
        """Waits for a condition. A container that ends meanwhile fails the test."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            mine = ("--all", "--filter", f"label={LABEL}={self.project}", "--format={{.Names}}")
            ended = said("docker", "ps", *mine, "--filter=status=exited").split()
            if ended or time.monotonic() > deadline:
                names = said("docker", "ps", *mine).split()
                logs = [f"--- {one}\n{_tail(one)}" for one in names]
                pytest.fail(f"not in time: {what}; ended: {ended}\n" + "\n".join(logs))
            time.sleep(0.25)

    def rises(self, pod: Pod, name: str, by: float = 1, **labels: str) -> None:
        """Waits until a counter has increased."""
        wanted = pod.value(name, **labels) + by
        self.eventually(lambda: pod.value(name, **labels) >= wanted, f"{name} rises to {wanted}")

    def copied(self, claim: str, target: Path) -> Path:
        """Returns a copy of the present volume, with or without a running pod."""
        with self._holding(f"{self.project}-{claim}") as holder:
            said("docker", "cp", f"{holder}:/held", target)
        return target

    def remove(self) -> None:
        """Removes containers, volumes and network."""
        mine = ("--quiet", "--filter", f"label={LABEL}={self.project}")
        for what, some in (("container", "--all"), ("volume", ""), ("network", "")):
            listed = said("docker", what, "ls", *filter(None, [some]), *mine).split()
            force = {"container": ["--force", "--volumes"], "volume": ["--force"]}.get(what, [])
            if listed:
                said("docker", what, "rm", *force, *listed)

    def _volume(self, mount: Mount) -> str:
        """Returns the volume; makes and fills it at its first use."""
        name = f"{self.project}-{mount.source}"
        if name in said("docker", "volume", "ls", "--quiet", "--filter", f"name={name}").split():
            return name
        said("docker", "volume", "create", self._mark, name)
        if mount.kind == "claim":
            archive = _archive([_folder(".", 0o2775)], mount.group)
        else:
            archive = _archive(_secret(self._secrets[mount.source], mount.mode), mount.group)
        with self._holding(name) as holder:
            said("docker", "cp", "-", f"{holder}:/", stdin=archive)
        return name

    @contextmanager
    def _holding(self, volume: str) -> Iterator[str]:
        mount = f"--mount=type=volume,src={volume},dst=/held,volume-nocopy"
        holder = said("docker", "create", self._mark, mount, HOLDER).strip()
        try:
            yield holder
        finally:
            said("docker", "rm", "--volumes", holder)


def _folder(name: str, mode: int) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    return entry, b""


def _secret(secret: Manifest, mode: int) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yields a Secret's files as a kubelet lays them out, behind two links."""
    yield _folder(".", 0o3777)
    yield _folder("..made", 0o2755)
    links = {"..data": "..made"}
    for name, content in decoded(secret).items():
        entry = tarfile.TarInfo(f"..made/{name}")
        entry.mode, entry.size = mode | 0o440, len(content)  # with fsGroup, its group may read
        yield entry, content
        links[name] = f"..data/{name}"
    for name, target in links.items():
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        yield entry, b""


def _archive(entries: Iterable[tuple[tarfile.TarInfo, bytes]], group: int) -> bytes:
    """Returns a tar archive of a volume at /held, owned by root and a group."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for entry, content in entries:
            entry.name, entry.gid = f"held/{entry.name}", group
            archive.addfile(entry, io.BytesIO(content))
    return whole.getvalue()


def _tail(container: str) -> str:
    words = ["docker", "logs", "--tail=30", container]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@contextmanager
def running(manifests: list[Manifest], secrets: Mapping[str, Manifest]) -> Iterator[Pods]:
    """Yields the pods of a render; only their images outlive the test."""
    pods = Pods(manifests, secrets)
    try:
        yield pods
    finally:
        pods.remove()


def decoded(secret: Manifest) -> dict[str, bytes]:
    """Returns the files of a Secret."""
    return {name: base64.b64decode(data) for name, data in secret["data"].items()}
