"""Connection events are counted and logged; a refusal by the learner is an error."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter
from structlog.testing import CapturingLogger

from asyncade_runtime.transport.connection_log import ConnectionLog
from asyncade_runtime.transport.roles import AccessRefusedError, ConnectionEvent
from builders import Clock

CONNECTED = ConnectionEvent("connected", "tcp://x:1")
RETRIED = ConnectionEvent("retried", "tcp://x:1", "in 2 s")
REFUSED = ConnectionEvent("refused", "tcp://x:1", "a wrong key")
FAILED = ConnectionEvent("handshake_failed", "tcp://x:1", "another protocol")
GONE = ConnectionEvent("disconnected", "tcp://x:1")


class Socket:
    def __init__(self, *events: ConnectionEvent) -> None:
        self._events = list(events)

    def add(self, *events: ConnectionEvent) -> None:
        self._events += events

    def events(self) -> list[ConnectionEvent]:
        happened, self._events = self._events, []
        return happened


class Log:
    """A connection log with its counter, its logger and a clock."""

    def __init__(self, **sides: dict[str, Socket]) -> None:
        self._registry = CollectorRegistry()
        counter = Counter("events", "Events.", ("socket", "event"), registry=self._registry)
        self._log = CapturingLogger()
        self.clock = Clock()
        self.connections = ConnectionLog(
            counter,
            self._log,
            serving=sides.get("serving"),
            using=sides.get("using"),
            keys_option="--learner-keys",
            clock=self.clock,
        )

    def counted(self, socket: str, event: str) -> float | None:
        return self._registry.get_sample_value("events_total", {"socket": socket, "event": event})

    def warnings(self, seconds: int) -> list[dict[str, object]]:
        """Advances the clock second by second and returns the warnings."""
        before = len(self._log.calls)
        for _ in range(seconds):
            self.clock.now += 1.0
            self.connections.note()
        calls = self._log.calls[before:]
        return [call.kwargs for call in calls if call.method_name == "warning"]

    def happens(self, socket: Socket, *events: ConnectionEvent) -> None:
        socket.add(*events)
        self.connections.note()

    def lines(self) -> list[tuple[str, str]]:
        return [(call.method_name, call.args[0]) for call in self._log.calls]


def test_events_are_counted_by_socket_once() -> None:
    log = Log(serving={"in": Socket(CONNECTED)}, using={"out": Socket(RETRIED, CONNECTED)})
    log.connections.note()
    log.connections.note()
    assert log.counted("in", "connected") == 1
    assert log.counted("out", "retried") == 1
    assert log.counted("out", "connected") == 1


def test_connections_to_the_learner_are_logged_at_info_and_those_of_actors_at_debug() -> None:
    log = Log(serving={"in": Socket(CONNECTED)}, using={"out": Socket(RETRIED, CONNECTED)})
    log.connections.note()
    assert log.lines() == [
        ("debug", "in connected"),
        ("debug", "out retried"),
        ("info", "out connected"),
    ]


def test_a_refusal_by_the_learner_raises_and_names_the_flag() -> None:
    log = Log(using={"out": Socket(REFUSED)})
    with pytest.raises(AccessRefusedError, match=r"a wrong key.*--learner-keys"):
        log.connections.note()
    assert log.counted("out", "refused") == 1


def test_a_refused_actor_is_only_counted() -> None:
    log = Log(serving={"in": Socket(REFUSED)})
    log.connections.note()
    assert log.counted("in", "refused") == 1


def test_an_outage_is_logged_soon_and_then_less_and_less_often() -> None:
    log = Log(using={"out": Socket(RETRIED)})
    log.connections.note()
    assert log.warnings(4) == []
    (first,) = log.warnings(1)
    assert first["endpoint"] == "tcp://x:1"
    assert first["seconds"] == 5
    later = log.warnings(600)
    assert [one["seconds"] for one in later[:4]] == [10, 20, 40, 80]
    assert len(later) == pytest.approx(4 + 520 / 60, abs=1)


def test_a_connection_ends_the_outage() -> None:
    socket = Socket(RETRIED)
    log = Log(using={"out": socket})
    log.connections.note()
    log.happens(socket, CONNECTED)
    assert log.warnings(100) == []
    log.happens(socket, GONE)
    assert log.warnings(5)[0]["seconds"] == 5


def test_an_outage_names_its_cause_and_is_not_repeated_per_event() -> None:
    socket = Socket(FAILED, GONE, RETRIED)
    log = Log(using={"out": socket})
    log.connections.note()
    (warning,) = log.warnings(5)
    assert warning["detail"] == "another protocol"
    before = len([one for one in log.lines() if one[0] == "info"])
    log.happens(socket, *[FAILED, GONE, RETRIED] * 50)
    assert len([one for one in log.lines() if one[0] == "info"]) == before


def test_a_refused_peer_is_logged_once_a_minute() -> None:
    socket = Socket(REFUSED)
    log = Log(serving={"in": socket})
    log.connections.note()
    log.happens(socket, *[REFUSED] * 10)
    log.clock.now += 60.0
    log.happens(socket, REFUSED)
    warnings = [one for one in log.lines() if one[0] == "warning"]
    assert len(warnings) == 2
