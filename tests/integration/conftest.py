"""A ZeroMQ context, and transports over it and over memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import zmq

from integration.transports import DEADLINE_S, MemoryTransport, Transport, ZmqTransport


@pytest.fixture
def context() -> Iterator[zmq.SyncContext]:
    context = zmq.Context()
    yield context
    ended = threading.Thread(target=context.term, daemon=True)
    ended.start()
    ended.join(DEADLINE_S)
    assert not ended.is_alive(), "a socket was left open, or lingers without limit"


@pytest.fixture
def zeromq(context: zmq.SyncContext) -> Iterator[ZmqTransport]:
    transport = ZmqTransport(context)
    yield transport
    transport.close()


@pytest.fixture(params=["zeromq", "memory"])
def transport(request: pytest.FixtureRequest) -> Transport:
    if request.param == "memory":
        return MemoryTransport()
    zeromq: Transport = request.getfixturevalue("zeromq")
    return zeromq
