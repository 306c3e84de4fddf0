"""What happens to a process's connections, counted and logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from prometheus_client import Counter

from asyncade_runtime.transport.roles import AccessRefusedError, ConnectionEvent


class _HasEvents(Protocol):
    """A socket role, or what stands before one."""

    def events(self) -> list[ConnectionEvent]:
        """Returns what happened since the last call."""
        ...


class ConnectionLog:
    """Tells of a process's sockets.

    Args:
        counter: with the labels ``socket`` and ``event``.
        log: told of a learner that comes or goes, and in detail of everything else.
        serving: by name, sockets that others connect to. Whom they let in is no trouble of theirs.
        using: by name, sockets that connect to a learner.
        keys_option: of the command line, where `using` needs keys.
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
        """Counts and logs what happened since the last call. Call it every step.

        Raises:
            AccessRefusedError: by the learner: whoever is not wanted must not look as if it were
                only slow.
        """
        for socket, role in self._serving.items():
            for event in role.events():
                self._tell(socket, event, "debug")
        for socket, role in self._using.items():
            for event in role.events():
                self._tell(socket, event, "debug" if event.kind == "retried" else "info")
                if event.kind == "refused":
                    raise AccessRefusedError(
                        f"{event.detail}: give both sides keys that were made together, with"
                        f" {self._keys_option}"
                    )

    def _tell(self, socket: str, event: ConnectionEvent, level: str) -> None:
        self._counter.labels(socket=socket, event=event.kind).inc()
        log = getattr(self._log, level)
        log(f"{socket} {event.kind}", endpoint=event.endpoint, detail=event.detail)
