"""Counts the cores available to this process and limits the threads of the maths libraries.

torch, OpenMP and OpenBLAS count the machine's cores and ignore a container's quota. On a large node
they start dozens of threads that the kernel then throttles: a slowdown of 45 times was reported
(ollama/ollama#17916; also llvm/llvm-project#225493, vllm-project/vllm#34462).
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
    """Returns the CPU quota of this container.

    Args:
        root: mount point of the control groups. In a container this is its own group; a quota
            deeper in the tree, such as systemd sets on a host, is not found.

    Returns:
        The quota in cores, such as 1.5; None without a quota or without control groups.

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
    """Returns the number of cores that this process may keep busy.

    Args:
        root: see `cpu_quota`.

    Returns:
        The smaller of CPU affinity and quota, rounded down so that no thread is throttled; at
        least one.
    """
    # macOS has no affinity, and no control groups either.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, math.floor(min(cores or 1, cpu_quota(root) or math.inf)))


MAX_LEARNER_THREADS: Final = 16
"""Estimated, not measured: one minibatch is too small to keep many threads busy."""


def learner_threads(cores: int) -> int:
    """Returns the number of torch threads for a learner with this many cores.

    It may use all of them: actors on the same machine wait for weights while the learner trains.
    """
    return max(1, min(cores, MAX_LEARNER_THREADS))


def set_thread_environment(threads: int, environ: MutableMapping[str, str]) -> None:
    """Limits the threads of OpenMP, MKL and OpenBLAS.

    Call it before importing torch: the libraries read these variables once, when they are loaded.
    Child processes inherit them.

    Args:
        threads: at least one.
        environ: changed in place. Existing values are replaced: a service's own setting is the
            only place to configure threads.

    Raises:
        ValueError: fewer than one thread.
    """
    if threads < 1:
        raise ValueError(f"at least one thread is needed, not {threads}")
    environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
