"""The cores of a container, from control-group files of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asyncade_runtime.cores import (
    available_cores,
    cpu_quota,
    set_thread_environment,
    throttled_seconds,
)


def version_2(root: Path, text: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "cgroup.controllers").write_text("cpu memory\n")
    (root / "cpu.max").write_text(text)
    return root


def version_1(root: Path, quota: int, period: int) -> Path:
    group = root / "cpu"
    group.mkdir(parents=True, exist_ok=True)
    (group / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (group / "cpu.cfs_period_us").write_text(f"{period}\n")
    return root


def member_of(folder: Path, text: str) -> Path:
    """A file as /proc/self/cgroup."""
    file = folder / "membership"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2.0),
        ("150000 100000\n", 1.5),
        ("5000 10000", 0.5),
    ],
)
def test_quota_of_version_2(tmp_path: Path, text: str, cores: float | None) -> None:
    assert cpu_quota(version_2(tmp_path, text)) == cores


@pytest.mark.parametrize(("quota", "cores"), [(-1, None), (250_000, 2.5)])
def test_quota_of_version_1(tmp_path: Path, quota: int, cores: float | None) -> None:
    assert cpu_quota(version_1(tmp_path, quota, 100_000)) == cores


@pytest.mark.parametrize("path", ["/user.slice/run.scope", "/../elsewhere", "/of/the/host"])
def test_the_quotas_above_a_group_of_version_2_hold_too(tmp_path: Path, path: str) -> None:
    root = version_2(tmp_path / "tree", "300000 100000")
    version_2(root / "user.slice", "150000 100000")
    version_2(root / "user.slice/run.scope", "max 100000")
    version_2(tmp_path / "elsewhere", "50000 100000")
    membership = member_of(tmp_path, f"0::{path}\n")
    expected = 1.5 if path.startswith("/user") else 3.0  # else: a container; the root is its own
    assert cpu_quota(root, membership) == expected


def test_a_root_group_of_version_2_has_no_quota_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu\n")
    version_2(tmp_path / "slice", "75000 100000")
    membership = member_of(tmp_path, "0::/slice\n")
    assert cpu_quota(tmp_path, membership) == 0.75
    assert available_cores(tmp_path, membership) == 1


def test_the_quotas_above_a_group_of_version_1_hold_too(tmp_path: Path) -> None:
    root = version_1(tmp_path / "tree", -1, 100_000)
    group = version_1(root / "cpu/a", 50_000, 100_000) / "cpu"
    group.rename(root / "cpu/a/b")
    membership = member_of(tmp_path, "5:memory:/x\n3:cpu,cpuacct:/a/b\n0::/unified\n")
    assert cpu_quota(root, membership) == 0.5
    assert available_cores(root, membership) == 1


def test_throttled_time_of_both_versions(tmp_path: Path) -> None:
    two, one = version_2(tmp_path / "2", "max 100000"), version_1(tmp_path / "1", -1, 100_000)
    (two / "cpu.stat").write_text("usage_usec 5000000\nthrottled_usec 1500000\n")
    (one / "cpu/cpu.stat").write_text("nr_periods 7\nthrottled_time 2500000000\n")
    top = member_of(tmp_path, "1:cpu:/\n0::/\n")
    assert throttled_seconds(two, top) == 1.5
    assert throttled_seconds(one, top) == 2.5
    assert throttled_seconds(tmp_path / "none", tmp_path / "none") == 0.0


def test_no_control_groups_means_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


def test_this_machine_has_cores() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000", 4),
        ("250000 100000", 2),  # a third thread would be throttled half the time
        ("20000 100000", 1),  # a fifth of a core still runs one thread
        ("6400000 100000", 4),  # affinity is the smaller
    ],
)
def test_cores_are_the_smaller_of_affinity_and_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert available_cores(version_2(tmp_path, text)) == cores


def test_cores_without_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert available_cores(tmp_path) == 8


def test_thread_environment_names_every_library() -> None:
    environ = {"OMP_NUM_THREADS": "64", "HOME": "/root"}
    set_thread_environment(2, environ)
    assert environ == {
        "HOME": "/root",
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
    }


def test_zero_threads_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one thread"):
        set_thread_environment(0, {})
