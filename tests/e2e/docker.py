"""The Docker engine that container tests need, and its commands."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

DEADLINE_S = 180.0  # only a failing test waits this long


def said(
    *command: object, stdin: bytes | None = None, environ: Mapping[str, str] | None = None
) -> str:
    """Runs a command and returns its output; fails the test with all output if it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, check=False, input=stdin, env=environ)
    output, error = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    assert done.returncode == 0, f"{' '.join(words)}\n{output[-5000:]}\n{error[-5000:]}"
    return output


def inspected(thing: str) -> dict[str, Any]:
    """Returns what `docker inspect` prints of a container or image."""
    (found,) = json.loads(said("docker", "inspect", thing))
    assert isinstance(found, dict)
    return found


def why_not(*tools: str) -> str | None:
    """Returns what is missing: one of these tools, or a Docker engine with Compose."""
    for tool in (*tools, "docker"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    for words in (("info",), ("compose", "version")):
        if subprocess.run(["docker", *words], capture_output=True, check=False).returncode:
            return f"docker {' '.join(words)} fails: no engine, or no Compose"
    return None
