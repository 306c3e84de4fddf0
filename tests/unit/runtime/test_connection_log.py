"""Every event is counted; who must know of it hears of it; a refusal by the learner ends it."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter
from structlog.testing import CapturingLogger

from asyncade_runtime.transport.connection_log import ConnectionLog
from asyncade_runtime.transport.roles import AccessRefusedError, ConnectionEvent

CONNECTED = ConnectionEvent("connected", "tcp://x:1")
RETRIED = ConnectionEvent("retried", "tcp://x:1", "in 2 s")
REFUSED = ConnectionEvent("refused", "tcp://x:1", "a wrong key")


class Socket:
    def __init__(self, *events: ConnectionEvent) -> None:
        self._events = list(events)

    def events(self) -> list[ConnectionEvent]:
        happened, self._events = self._events, []
        return happened


class Rig:
    def __init__(self, **sides: dict[str, Socket]) -> None:
        self._registry = CollectorRegistry()
        counter = Counter("events", "Events.", ("socket", "event"), registry=self._registry)
        self._log = CapturingLogger()
        self.connections = ConnectionLog(
            counter,
            self._log,
            serving=sides.get("serving"),
            using=sides.get("using"),
            keys_option="--learner-keys",
        )

    def counted(self, socket: str, event: str) -> float | None:
        return self._registry.get_sample_value("events_total", {"socket": socket, "event": event})

    def told(self) -> list[tuple[str, str]]:
        return [(call.method_name, call.args[0]) for call in self._log.calls]


def test_events_are_counted_by_socket_once() -> None:
    rig = Rig(serving={"in": Socket(CONNECTED)}, using={"out": Socket(RETRIED, CONNECTED)})
    rig.connections.note()
    rig.connections.note()
    assert rig.counted("in", "connected") == 1
    assert rig.counted("out", "retried") == 1
    assert rig.counted("out", "connected") == 1


def test_the_learners_coming_is_news_and_that_of_actors_is_not() -> None:
    rig = Rig(serving={"in": Socket(CONNECTED)}, using={"out": Socket(RETRIED, CONNECTED)})
    rig.connections.note()
    assert rig.told() == [
        ("debug", "in connected"),
        ("debug", "out retried"),
        ("info", "out connected"),
    ]


def test_a_refusal_by_the_learner_ends_it_and_names_the_cure() -> None:
    rig = Rig(using={"out": Socket(REFUSED)})
    with pytest.raises(AccessRefusedError, match=r"a wrong key: .* with --learner-keys"):
        rig.connections.note()
    assert rig.counted("out", "refused") == 1


def test_a_refused_actor_is_only_counted() -> None:
    rig = Rig(serving={"in": Socket(REFUSED)})
    rig.connections.note()
    assert rig.counted("in", "refused") == 1
