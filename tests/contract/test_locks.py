"""Whoever installs this project gets the files that were locked: versions, hashes, completeness."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "docker/tools.lock")
NOT_LOCKED = {"torch"}  # its builds have one version, but other files in other indexes


def blocks(text: str) -> list[tuple[Requirement, list[str]]]:
    """Returns requirements and their hashes."""
    parts = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    return [
        (
            Requirement(part.partition("\\")[0].strip()),
            re.findall(r"--hash=sha256:([0-9a-f]{64})", part),
        )
        for part in parts
    ]


def locked(*arguments: str) -> dict[str, Requirement]:
    """Returns what docker/requirements.py prints, by name."""
    command = [sys.executable, "docker/requirements.py", *arguments]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {one.name: one for one, hashes in blocks(printed) if hashes}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().split()
    return {canonicalize_name(name): version for name, version in (x.split("==") for x in lines)}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_one_exact_version_and_hashes(lock: str) -> None:
    found = blocks((ROOT / lock).read_text())
    assert len(found) > 20
    for one, hashes in found:
        assert re.fullmatch(r"==[\w.]+", str(one.specifier)), one
        assert hashes, f"{one} has no hash: make lock"
    names = [one.name for one, _ in found]
    assert len(set(names)) == len(names)


def test_the_lock_has_the_versions_of_the_constraints() -> None:
    versions = {
        one.name: str(one.specifier)[2:]
        for one, _ in blocks((ROOT / "requirements.lock").read_text())
    }
    wanted = {name: version for name, version in pins().items() if name not in NOT_LOCKED}
    found = {name: version for name, version in versions.items() if name in wanted}
    assert found == wanted, "make lock"


@pytest.mark.parametrize("extras", [("dev", "build"), ("fuzz",)])
def test_whatever_is_installed_here_is_pinned(extras: tuple[str, ...]) -> None:
    needed = {n for n, one in locked(*extras).items() if not one.marker or one.marker.evaluate()}
    assert needed <= pins().keys(), "add what is missing to constraints.txt"


def test_the_lock_knows_every_dependency_of_the_project() -> None:
    """A line that is added to pyproject.toml and not locked would be left out silently."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    not_installed = {"wandb", "mlflow", "trackio"}
    for extra in [None, *extras.keys() - not_installed]:
        lines = project["dependencies"] if extra is None else extras[extra]
        printed = locked(*([] if extra is None else [extra]))
        for line in map(Requirement, lines):
            name = canonicalize_name(line.name)
            if name not in NOT_LOCKED | {project["name"]}:
                assert name in printed, f"{name} of {extra} is not locked: make lock"
                assert line.specifier.contains(str(printed[name].specifier)[2:])


def test_an_image_gets_what_its_service_needs_and_no_more() -> None:
    relay = locked("--without", "torch", "safetensors")
    assert {"numpy", "pyzmq", "pydantic-core"} <= relay.keys()
    assert not {"torch", "safetensors", "sympy", "gymnasium", "pytest"} & relay.keys()
    actor = locked("actor", "watch")
    assert {"ale-py", "farama-notifications", "uvicorn", "h11"} <= actor.keys()
    assert "mpmath" in locked("--below", "torch")


def test_nothing_but_torch_is_installed_without_hashes() -> None:
    found = 0
    for file in (ROOT / "Makefile", *sorted((ROOT / "docker").glob("*.Dockerfile"))):
        text = file.read_text().replace("\\\n", " ")
        for command in re.split(r"&&|\|\||;|\n", text):
            installs = re.search(r"\$\(PIP\) |pip (--python \S+ )?install ", command)
            if not installs or "PIP :=" in command or 'install="' in command:
                continue
            found += 1
            checked = "--require-hashes" in command or "TORCH" in command
            ours = "--no-build-isolation" in command and "--no-deps" in command
            assert checked or ours, f"{file.name}: {command}"
    assert found > 10
