"""Freed memory is reused instead of returned to the kernel."""

from __future__ import annotations

import ctypes
import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest

from asyncade_runtime.allocator import keep_freed_memory

GLIBC = hasattr(ctypes.CDLL(None), "gnu_get_libc_version")

BATCHES = """
import resource
import sys
from asyncade_runtime.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
b"x" * (int(sys.argv[2]) << 20)  # the first block comes from the kernel
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    b"x" * (int(sys.argv[2]) << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not GLIBC, reason="needs the GNU C library")
def test_large_blocks_are_reused_without_page_faults() -> None:
    def page_faults(how: str) -> int:
        command = [sys.executable, "-c", BATCHES, how, "64"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout)

    kept, given_back = page_faults("keep"), page_faults("default")
    assert kept < given_back / 10
    assert given_back * resource.getpagesize() >= 64 << 20  # otherwise nothing could be saved


@pytest.mark.parametrize(
    ("library", "could"),
    [
        (SimpleNamespace(), False),  # another C library
        (SimpleNamespace(mallopt=lambda *_: 0), False),  # an old glibc refuses so high a threshold
        (SimpleNamespace(mallopt=lambda *_: 1), True),
    ],
)
def test_keep_freed_memory_reports_success(library: SimpleNamespace, could: bool) -> None:
    assert keep_freed_memory(library) is could
