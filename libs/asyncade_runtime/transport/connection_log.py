"""Counts and logs the connection events of a process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from prometheus_client import Counter

from asyncade_runtime.transport.roles import AccessRefusedError, ConnectionEvent


class _HasEvents(Protocol):
    """A socket role, or a wrapper of one."""

    def events(self) -> list[ConnectionEvent]:
        """Returns the connection events since the last call."""
        ...


class ConnectionLog:
    """Counts and logs connection events of named sockets.

    Args:
        counter: with the labels ``socket`` and ``event``.
        log: outgoing connections are logged at level info, the rest at debug.
        serving: sockets that peers connect to, by name. A refused peer is not an error here.
        using: sockets that connect to a learner, by name.
        keys_option: command-line option that sets the keys of `using`, for the error message.
    """

    def __init__(
        self,
        counter: Counter,
        log: Any,
        *,
        serving: Mapping[str, _HasEvents] | None = None,
        using: Mapping[str, _HasEvents] | None = None,
        keys_option: str = "--keys",
    ) -> None:
        self._counter = counter
        self._log = log
        self._serving = dict(serving or {})
        self._using = dict(using or {})
        self._keys_option = keys_option

    def note(self) -> None:
        """Counts and logs the events since the last call. Call it every step.

        Raises:
            AccessRefusedError: the learner refused this process's key, or has an unknown key.
        """
        for socket, role in self._serving.items():
            for event in role.events():
                self._record(socket, event, "debug")
        for socket, role in self._using.items():
            for event in role.events():
                self._record(socket, event, "debug" if event.kind == "retried" else "info")
                if event.kind == "refused":
                    raise AccessRefusedError(
                        f"{event.detail}: give both sides keys that were made together, with"
                        f" {self._keys_option}"
                    )

    def _record(self, socket: str, event: ConnectionEvent, level: str) -> None:
        self._counter.labels(socket=socket, event=event.kind).inc()
        log = getattr(self._log, level)
        log(f"{socket} {event.kind}", endpoint=event.endpoint, detail=event.detail)
