"""Who is behind this relay, and how many messages of each have come in. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from asyncade_proto.limits import MAX_SENDERS

ACTIVE_WINDOW_S: Final = 30.0
"""An actor that was not heard of for so long is gone; as at the learner."""


class Roster:
    """The actors behind a relay. Times are seconds by any one monotonic clock."""

    def __init__(self) -> None:
        self._heard_at: dict[str, float] = {}
        self._received: dict[str, int] = {}
        self._last: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._heard_at)

    def heard(self, actor_id: str, sequence: int, now: float) -> int:
        """Notes a message; returns how many of this actor's were lost before it.

        A lower sequence number than before is an actor that started anew under its old name.
        """
        last = self._last.get(actor_id)
        self._last[actor_id] = sequence
        self._received[actor_id] = sequence + 1
        self._heard_at[actor_id] = now
        return 0 if last is None else max(0, sequence - last - 1)

    def forget_silent(self, now: float) -> None:
        """Forgets who was not heard of in the last `ACTIVE_WINDOW_S`."""
        self.keep({a for a, at in self._heard_at.items() if now - at < ACTIVE_WINDOW_S})

    def keep(self, actors: Set[str]) -> None:
        """Forgets all others until they are heard of again.

        Not named in `received`, they have full credit then: what they sent may be lost.
        """
        for actor in self._heard_at.keys() - actors:
            del self._heard_at[actor], self._last[actor]
            self._received.pop(actor, None)

    def forget_received(self) -> None:
        """Takes everything on its way for lost: nobody is named, so everybody has full credit."""
        self._received = {}

    def received(self) -> dict[str, int]:
        """Returns actor to the number of its messages that came in, those heard of last first."""
        newest = sorted(self._received, key=self._heard_at.__getitem__, reverse=True)
        return {actor: self._received[actor] for actor in newest[:MAX_SENDERS]}
