"""Packages that a test installs, without pip and without a network."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

MY_GAME = Path(__file__).parents[1] / "examples/my_game"


def install(project: Path, site: Path) -> dict[str, str]:
    """Writes the metadata that pip would, from pyproject.toml; the code stays where it is.

    Returns:
        The variable with which a Python process finds both.
    """
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    name, version = about["name"].replace("-", "_"), about["version"]
    metadata = site / f"{name}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, entries in about["entry-points"].items():
        lines += [f"[{group}]", *(f"{entry} = {value}" for entry, value in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    before = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(site), str(project), before]))}
