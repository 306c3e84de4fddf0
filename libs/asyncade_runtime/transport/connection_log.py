"""Counts and logs the connection events of a process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from prometheus_client import Counter

from asyncade_runtime.transport.roles import AccessRefusedError, ConnectionEvent

FIRST_WARNING_S: Final = 5.0
"""Seconds without a connection before the first warning; further ones follow ever more rarely."""

LONGEST_SILENCE_S: Final = 60.0
"""Seconds between two warnings of one kind at most."""


class _HasEvents(Protocol):
    """A socket role, or a wrapper of one."""

    def events(self) -> list[ConnectionEvent]:
        """Returns the connection events since the last call."""
        ...


def check_access(event: ConnectionEvent, keys_option: str = "--keys") -> None:
    """Raises AccessRefusedError, with the cure, if the event says that the keys do not match.

    Args:
        event: of a socket that connects to a learner.
        keys_option: command-line option that sets its keys.
    """
    if event.kind == "refused":
        raise AccessRefusedError(
            f"{event.detail}: give both sides keys that were made together, with {keys_option}"
        )


class _Outage:
    """The time since an outgoing connection was lost or could not be made."""

    def __init__(self, endpoint: str, now: float) -> None:
        self.endpoint = endpoint
        self.since = now
        self.next_warning = now + FIRST_WARNING_S
        self.cause = "no answer"

    def due(self, now: float) -> bool:
        """Returns true at intervals that double up to `LONGEST_SILENCE_S`."""
        if now < self.next_warning:
            return False
        self.next_warning = now + min(max(now - self.since, FIRST_WARNING_S), LONGEST_SILENCE_S)
        return True


class ConnectionLog:
    """Counts and logs connection events of named sockets.

    Changes of an outgoing connection are logged at level info, and an outage as a warning after
    some seconds and then now and then. Everything else is logged at level debug.

    Args:
        counter: with the labels ``socket`` and ``event``.
        log: structured logger.
        serving: sockets that peers connect to, by name. A refused peer is not an error here, but
            logged as a warning at most once a minute.
        using: sockets that connect to a learner, by name.
        keys_option: command-line option that sets the keys of `using`, for the error message.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        counter: Counter,
        log: Any,
        *,
        serving: Mapping[str, _HasEvents] | None = None,
        using: Mapping[str, _HasEvents] | None = None,
        keys_option: str = "--keys",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counter = counter
        self._log = log
        self._serving = dict(serving or {})
        self._using = dict(using or {})
        self._keys_option = keys_option
        self._clock = clock
        self._outages: dict[str, _Outage] = {}
        self._refused_at: dict[str, float] = {}

    def note(self) -> None:
        """Counts and logs the events since the last call. Call it every step.

        Raises:
            AccessRefusedError: the learner refused this process's key, or has an unknown key.
        """
        now = self._clock()
        for socket, role in self._serving.items():
            for event in role.events():
                self._record(socket, event, "debug")
                if event.kind == "refused":
                    self._warn_of_refused_peer(socket, event, now)
        for socket, role in self._using.items():
            for event in role.events():
                self._note_outgoing(socket, event, now)
        self._warn_of_outages(now)

    def _note_outgoing(self, socket: str, event: ConnectionEvent, now: float) -> None:
        known = socket in self._outages or event.kind == "retried"
        self._record(socket, event, "debug" if known and event.kind != "connected" else "info")
        if event.kind == "connected":
            self._outages.pop(socket, None)
            return
        outage = self._outages.setdefault(socket, _Outage(event.endpoint, now))
        if event.kind in ("handshake_failed", "unanswered"):
            outage.cause = event.detail
        check_access(event, self._keys_option)

    def _warn_of_outages(self, now: float) -> None:
        for socket, outage in self._outages.items():
            if outage.due(now):
                self._log.warning(
                    f"{socket} not connected",
                    endpoint=outage.endpoint,
                    seconds=round(now - outage.since),
                    detail=outage.cause,
                )

    def _warn_of_refused_peer(self, socket: str, event: ConnectionEvent, now: float) -> None:
        if now - self._refused_at.get(socket, -LONGEST_SILENCE_S) >= LONGEST_SILENCE_S:
            self._refused_at[socket] = now
            self._log.warning("peer refused", socket=socket, detail=event.detail)

    def _record(self, socket: str, event: ConnectionEvent, level: str) -> None:
        self._counter.labels(socket=socket, event=event.kind).inc()
        log = getattr(self._log, level)
        log(f"{socket} {event.kind}", endpoint=event.endpoint, detail=event.detail)
