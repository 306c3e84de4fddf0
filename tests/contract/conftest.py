"""All overlays of k8s/ with all combinations of components, rendered by kubectl."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contract import manifests as manifests_module
from contract.manifests import (
    K8S,
    ROOT,
    Documents,
    Manifest,
    Name,
    Pods,
    Renders,
    rendered,
    workloads,
)

OVERLAYS = ("local", "gpu", "production")
COMPONENTS = (
    "network-policies",
    "monitoring",
    "autoscaling-keda",
    "autoscaling-hpa",
    "relay",
    "evaluator",
    "job",
)

CACHE = "asyncade/k8s-renders"


def combinations() -> list[Name]:
    """Returns every overlay with every subset of components, and with all in reverse order."""
    subsets = [
        chosen
        for n in range(len(COMPONENTS) + 1)
        for chosen in itertools.combinations(COMPONENTS, n)
    ]
    names = [(overlay, *chosen) for overlay in OVERLAYS for chosen in subsets]
    return names + [(overlay, *reversed(COMPONENTS)) for overlay in OVERLAYS]


def combined(kubectl: str, folder: Path, overlay: str, components: Sequence[str]) -> list[Manifest]:
    """Renders a user's own kustomization of an overlay and components."""
    folder.mkdir()
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(K8S / "overlays" / overlay, folder)],
        "components": [os.path.relpath(K8S / "components" / name, folder) for name in components],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization))
    return rendered(kubectl, folder)


def render_all(kubectl: str, root: Path) -> dict[Name, list[Manifest]]:
    """Renders all combinations with 387 runs of kubectl."""
    names = combinations()
    folders = [root / str(number) for number in range(len(names))]

    def render(folder: Path, name: Name) -> list[Manifest]:
        return combined(kubectl, folder, name[0], name[1:])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(names, pool.map(render, folders, names), strict=True))


def inputs(kubectl: str) -> str:
    """Returns a hash of the inputs of all renders: kubectl, its files and this code."""
    version = subprocess.run([kubectl, "version", "--client"], capture_output=True, check=True)
    digest = hashlib.sha256(version.stdout)
    read = [*K8S.rglob("*"), *(ROOT / "docker/grafana").rglob("*")]
    read += [Path(__file__), Path(manifests_module.__file__)]
    for file in sorted(path for path in read if path.is_file()):
        digest.update(f"\0{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="session")
def kubectl() -> str:
    """The path of kubectl."""
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is not installed (Debian 13: apt-get install kubectl)")
    return found


@pytest.fixture(scope="session")
def storage(kubectl: str) -> list[Manifest]:
    """The namespace and the claim, which are applied once and outlive every overlay."""
    return rendered(kubectl, K8S / "storage")


@pytest.fixture(scope="session")
def renders(
    kubectl: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Renders:
    """All combinations, cached until one of their inputs changes."""
    made_from = inputs(kubectl)
    kept = request.config.cache.get(CACHE, None) if request.config.cache else None
    if kept and kept["made_from"] == made_from:
        documents = kept["documents"]
        return {tuple(name): [documents[n] for n in numbers] for name, numbers in kept["renders"]}
    found = render_all(kubectl, tmp_path_factory.mktemp("kustomizations"))
    if request.config.cache:  # each document once: most are part of many renders
        texts = {json.dumps(m, sort_keys=True): m for made in found.values() for m in made}
        number = {text: n for n, text in enumerate(texts)}
        content = {
            "made_from": made_from,
            "documents": list(texts.values()),
            "renders": [
                [name, [number[json.dumps(m, sort_keys=True)] for m in made]]
                for name, made in found.items()
            ],
        }
        request.config.cache.set(CACHE, content)
    return found


@pytest.fixture(scope="session")
def documents(renders: Renders, storage: list[Manifest]) -> Documents:
    """Every rendered document once, with the first combination that contains it."""
    found: dict[str, tuple[Name, Manifest]] = {}
    for name, manifests in [*renders.items(), (("storage",), storage)]:
        for manifest in manifests:
            found.setdefault(json.dumps(manifest, sort_keys=True), (name, manifest))
    return list(found.values())


@pytest.fixture(scope="session")
def pods(documents: Documents) -> Pods:
    """Every rendered pod template once, with a description of its origin."""
    return [
        (
            f"{manifest['kind']} {manifest['metadata']['name']} of {' + '.join(name)}",
            manifest["spec"]["template"],
        )
        for name, one in documents
        for manifest in workloads([one])
    ]
