"""The cores of a container, from control-group files of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asyncade_runtime.cores import available_cores, cpu_quota, set_thread_environment


def version_2(root: Path, text: str) -> Path:
    (root / "cpu.max").write_text(text)
    return root


def version_1(root: Path, quota: int, period: int) -> Path:
    (root / "cpu").mkdir()
    (root / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (root / "cpu" / "cpu.cfs_period_us").write_text(f"{period}\n")
    return root


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
