"""Rendered manifests of k8s/, and look-ups in them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"

Manifest = dict[str, Any]
Name = tuple[str, ...]
"""An overlay and the components it is rendered with."""
Renders = Mapping[Name, list[Manifest]]
Documents = list[tuple[Name, Manifest]]
Pods = list[tuple[str, Manifest]]
"""Pod templates, each with a description of its origin."""


def rendered(kubectl: str, folder: Path) -> list[Manifest]:
    """Returns the documents of a kustomization."""
    command = [kubectl, "kustomize", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{folder}: {done.stderr}"
    assert not done.stderr, f"{folder}: {done.stderr}"  # a deprecation
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # twelve times as fast
    return list(yaml.load_all(done.stdout, loader))


def of(manifests: list[Manifest], kind: str, name: str | None = None) -> list[Manifest]:
    """Returns the manifests of this kind, and of this name if given."""
    return [
        m
        for m in manifests
        if m["kind"] == kind and (name is None or m["metadata"]["name"] == name)
    ]


def workloads(manifests: list[Manifest]) -> list[Manifest]:
    """Returns the manifests with a pod template."""
    return [m for m in manifests if "template" in m.get("spec", {})]
