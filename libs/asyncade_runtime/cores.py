"""How many cores this process really has, and how to tell the maths libraries.

torch, OpenMP and OpenBLAS count the machine's cores and ignore the quota of a container. On a large
node they then start dozens of threads that the kernel throttles together: a slowdown of 45 times
was reported (ollama/ollama#17916; also llvm/llvm-project#225493, vllm-project/vllm#34462).
"""

from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

CGROUP_ROOT = Path("/sys/fs/cgroup")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def cpu_quota(root: Path = CGROUP_ROOT) -> float | None:
    """Reads the CPU quota of this container.

    Args:
        root: where the control groups are mounted. In a container that is its own group; a quota
            elsewhere in the tree, as systemd may set on a host, is not found.

    Returns:
        The quota in cores, such as 1.5; None when there is none, or no control groups at all.

    Source: Linux admin-guide/cgroup-v2.rst, "cpu.max"; scheduler/sched-bwc.rst for version 1.
    """
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except OSError:
        return _cpu_quota_v1(root / "cpu")
    return None if quota == "max" else int(quota) / int(period)


def _cpu_quota_v1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
    except OSError:
        return None
    return quota / period if quota > 0 else None  # -1 is no limit


def available_cores(root: Path = CGROUP_ROOT) -> int:
    """Counts the cores this process may keep busy.

    Args:
        root: see `cpu_quota`.

    Returns:
        The smaller of CPU affinity and quota, rounded down so that no thread is throttled, at least
        one.
    """
    # macOS has no affinity, and no control groups either.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, math.floor(min(cores or 1, cpu_quota(root) or math.inf)))


MAX_LEARNER_THREADS: Final = 16
"""A guess, not measured: one minibatch is too small to keep many threads busy."""


def learner_threads(cores: int) -> int:
    """Returns how many threads the learner's torch gets: a machine's cores.

    Actors on the same machine wait for new weights while it trains, so the cores are free.
    """
    return max(1, min(cores, MAX_LEARNER_THREADS))


def set_thread_environment(threads: int, environ: MutableMapping[str, str]) -> None:
    """Limits the threads of OpenMP, MKL and OpenBLAS.

    Must be called before torch or NumPy is imported: the libraries read these variables once, when
    they are loaded. Processes started later inherit them.

    Args:
        threads: how many, at least one.
        environ: changed in place; `os.environ` in a service's ``__main__``. A value that is already
            there is replaced: the service's own setting is the one place to ask for threads.

    Raises:
        ValueError: fewer than one thread.
    """
    if threads < 1:
        raise ValueError(f"at least one thread is needed, not {threads}")
    environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
