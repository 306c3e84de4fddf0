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

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
MEMBERSHIP: Final = Path("/proc/self/cgroup")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def cpu_quota(root: Path = CGROUP_ROOT, membership: Path = MEMBERSHIP) -> float | None:
    """Returns the CPU quota of this process: the smallest of its control group and those above.

    Args:
        root: mount point of the control groups.
        membership: names the process's own groups below it.

    Returns:
        The quota in cores, such as 1.5; None without a quota or without control groups.

    Source: Linux admin-guide/cgroup-v2.rst, "cpu.max"; scheduler/sched-bwc.rst for version 1.
    """
    quotas = [_quota(group) for group in own_groups(root, membership)]
    return min((quota for quota in quotas if quota is not None), default=None)


def throttled_seconds(root: Path = CGROUP_ROOT, membership: Path = MEMBERSHIP) -> float:
    """Returns for how long quotas have kept this process's groups from running, in seconds.

    0 without a quota or without control groups; arguments as of `cpu_quota`. Ever increasing: the
    difference of two calls counts.
    """
    return sum(_throttled(group) for group in own_groups(root, membership))


def own_groups(root: Path = CGROUP_ROOT, membership: Path = MEMBERSHIP) -> list[Path]:
    """Returns the folders of this process's CPU group and those above it, outermost first.

    In a container the outermost is often its own group, and the path in `membership`, which is the
    host's, does not exist. Arguments as of `cpu_quota`.
    """
    own = "/"
    version_2 = (root / "cgroup.controllers").exists()
    base = root if version_2 else root / "cpu"
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []  # macOS
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if ("" if version_2 else "cpu") in controllers.split(","):
            own = path
    groups = [base]
    for name in Path(own).parts[1:]:
        group = groups[-1] / name
        if name == ".." or not group.is_dir():
            break
        groups.append(group)
    return groups


def _quota(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except OSError:
        pass  # version 1, or a root group, which has no such file
    try:
        quota_us = int((group / "cpu.cfs_quota_us").read_text())
        period_us = int((group / "cpu.cfs_period_us").read_text())
    except OSError:
        return None
    return quota_us / period_us if quota_us > 0 else None  # -1 is no limit


def _throttled(group: Path) -> float:
    try:
        lines = (group / "cpu.stat").read_text().splitlines()
    except OSError:
        return 0.0
    counters = dict(line.split() for line in lines)
    # Microseconds in version 2, nanoseconds in version 1.
    return (
        int(counters.get("throttled_usec", 0)) / 1e6 + int(counters.get("throttled_time", 0)) / 1e9
    )


def available_cores(root: Path = CGROUP_ROOT, membership: Path = MEMBERSHIP) -> int:
    """Returns the number of cores that this process may keep busy.

    Args:
        root: see `cpu_quota`.
        membership: see `cpu_quota`.

    Returns:
        The smaller of CPU affinity and quota, rounded down so that no thread is throttled; at
        least one.
    """
    # macOS has no affinity, and no control groups either.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, math.floor(min(cores or 1, cpu_quota(root, membership) or math.inf)))


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
