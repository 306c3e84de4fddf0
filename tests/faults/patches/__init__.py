"""The environment of a process on a faulty machine."""

from __future__ import annotations

import os
from pathlib import Path


def on_a_machine(*, clock_s: float = 0.0, fsync_s: float = 0.0) -> dict[str, str]:
    """Returns variables; see sitecustomize.py beside this file."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": path, "FAULT_CLOCK_S": str(clock_s), "FAULT_FSYNC_S": str(fsync_s)}
