"""Process-wide state that every test must restore."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def denormal_numbers() -> Iterator[None]:
    """Services flush them to zero for the whole process; tests of the wire need them."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Fails a test that leaves a thread, which could disturb later tests."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(5.0)  # some are about to end
    left = [thread for thread in left if thread.is_alive()]
    assert not left, f"still running: {left}; close what started them"
