"""An actor that does not wait: the test, in the same thread, sends nothing meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asyncade_actor import actor as actor_module
from rigs.actor import Rig


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor_module, "WAIT_S", 0.0)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.actor.close()
