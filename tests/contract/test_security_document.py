"""SECURITY.md promises nothing without a test, and no more actors per address than are admitted."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from asyncade_learner.settings import LearnerSettings
from asyncade_relay.settings import RelaySettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()


def test_every_test_that_it_names_exists() -> None:
    named = re.findall(r"`(\w+(?:/\w+)*\.py)::(\w+)`", PAGE)
    assert len(named) == PAGE.count("::")
    for file, test in named:
        source = (ROOT / "tests" / file).read_text()
        assert f"\ndef {test}(" in source, f"{file}::{test}"


def test_every_control_has_a_test() -> None:
    section = PAGE.partition("## Who can do what")[2].partition("## ")[0]
    table = section.partition("|---")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    for row in rows:
        assert row.count("|") == 5, row
        assert "::" in row.split("|")[4], row


def test_no_overlay_puts_more_actors_behind_an_address_than_are_admitted() -> None:
    """A relay forwards the ids of its node's actors, in data mode: all may be on one node."""
    most = LearnerSettings.model_fields["actors_per_peer"].default
    assert RelaySettings.model_fields["actors_per_peer"].default == most
    numbers = [
        *re.findall(r"maxReplica(?:s|Count): (\d+)", "".join(manifests())),
        *(one["count"] for text in manifests() for one in replicas(text)),
    ]
    assert numbers
    assert max(map(int, numbers)) <= most


def manifests() -> list[str]:
    return [path.read_text() for path in sorted((ROOT / "k8s").rglob("*.yaml"))]


def replicas(text: str) -> list[dict[str, int]]:
    """Returns the numbers of replicas that a kustomization sets."""
    found: list[dict[str, int]] = []
    for document in yaml.safe_load_all(text):
        if isinstance(document, dict) and isinstance(document.get("replicas"), list):
            found += document["replicas"]
    return found
