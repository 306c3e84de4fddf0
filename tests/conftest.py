"""What every test leaves as it found it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def denormal_numbers() -> Iterator[None]:
    """Services and benchmarks switch them off for their process; tests of the wire need them."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A thread that outlives its test fails some later test, and only sometimes."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(5.0)  # some were told to end and are about to
    left = [thread for thread in left if thread.is_alive()]
    assert not left, f"still running: {left}; close what started them"
