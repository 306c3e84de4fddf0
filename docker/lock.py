"""Writes the lock files: exact versions with the hashes of all files of each release.

    python docker/lock.py PATH/TO/uv      what `make lock` runs

The hashes are those of the package index, for every Python and platform that a release has files
for. torch is left out, with the CUDA libraries that its default build needs: its CPU build has the
same version, other files and another index. constraints.txt pins it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

EXTRAS = ("dev", "build", "fuzz")
"""What requirements.lock holds; the services' extras are parts of dev."""

NOT_LOCKED = re.compile(r"(torch|triton|cuda-|nvidia-)")

HEADER = "# Written by `make lock` from {}; do not edit.\n"


def main(uv: str) -> None:
    """Resolves with uv and writes both files."""
    extras = [f"--extra={name}" for name in EXTRAS]
    for lock, sources in (
        ("requirements.lock", ["pyproject.toml", *extras, "--constraint=constraints.txt"]),
        ("docker/tools.lock", ["docker/tools.in"]),
    ):
        read = [name.removeprefix("--constraint=") for name in sources if name not in extras]
        Path(lock).write_text(HEADER.format(" and ".join(read)) + locked(uv, sources))


def locked(uv: str, sources: list[str]) -> str:
    """Returns the content of a lock file.

    Args:
        uv: the program.
        sources: arguments that say what is wanted.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "all.txt"
        command = [uv, "pip", "compile", *sources, f"--output-file={found}", "--quiet"]
        command += ["--universal", "--python-version=3.11", "--generate-hashes"]
        command += ["--no-header", "--annotation-style=line"]
        subprocess.run(command, check=True)
        text = found.read_text()
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
    lines = "".join(block for block in blocks if block and not NOT_LOCKED.match(block))
    return lines.replace("-c constraints.txt, ", "").replace(", -c constraints.txt", "")


if __name__ == "__main__":
    main(*sys.argv[1:])
