"""Prints what to install, for pip: pins with hashes from requirements.lock, with all they need.

The images install dependencies before they copy the code, in a layer that a change of the code
does not invalidate.

    python requirements.py                     what all services need
    python requirements.py actor watch         what these extras of pyproject.toml need
    python requirements.py --below torch       what torch needs; torch itself is not locked
    python requirements.py --without torch     what all services need, without torch and all below
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path


def named(extras: Collection[str], project: dict) -> Iterator[str]:
    """Yields the names of the project's own dependencies, or of those of some extras."""
    lines = [line for extra in extras for line in project["optional-dependencies"][extra]]
    for line in lines if extras else project["dependencies"]:
        name, _, inner = re.match(r"([\w.-]+)(\[([\w,]+)])?", line).groups()
        if name == project["name"]:
            yield from named((), project)
            yield from named(inner.split(","), project)
        else:
            yield normal(name)


def normal(name: str) -> str:
    """Returns a package's name as the lock spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(roots: Collection[str], blocks: dict[str, str]) -> set[str]:
    """Returns the packages that these need, themselves included.

    Args:
        roots: names.
        blocks: of the lock, by name; each ends with a comment that says who needs it.
    """
    wanted_by = {
        name: set(re.findall(r"[\w.-]+", block.rpartition("# via ")[2]))
        for name, block in blocks.items()
    }
    found = set(roots)
    while more := {name for name, by in wanted_by.items() if by & found} - found:
        found |= more
    return found


def main() -> None:
    """Prints the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extras", nargs="*")
    parser.add_argument("--below", help="a package; pyproject.toml is not read")
    parser.add_argument("--without", nargs="+", default=[], help="packages")
    chosen = parser.parse_args()
    without = set(chosen.without)
    text = Path("requirements.lock").read_text(encoding="utf-8")
    parts = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    blocks = {part.partition("==")[0]: part for part in parts}
    if chosen.below:
        found = needed([chosen.below], blocks)
    else:
        project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
        found = needed(set(named(chosen.extras, project)) - without, blocks)
    print("".join(block for name, block in blocks.items() if name in found), end="")


if __name__ == "__main__":
    main()
