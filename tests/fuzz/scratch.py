"""A folder for what a target writes."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from asyncade_runtime.run_folder import RunFolder


def scratch() -> RunFolder:
    """Returns a run folder of this process, in memory where there is such a disk."""
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, root)
    return RunFolder.create(root)
