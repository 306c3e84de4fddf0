"""How old the weights of a version are, in updates. No I/O and no clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

VERSIONS_REMEMBERED: Final = 4096
"""Versions whose updates are known; what was made with an older one counts as older still."""

DISCARDED: Final = 2**31
"""Lag of a version that was rolled back: above any limit."""


class Versions:
    """The published versions, and the updates before each."""

    def __init__(self) -> None:
        self.discarded_up_to = -1
        self._updates_at: dict[int, int] = {}  # newest last

    def published(self, version: int, updates: int) -> None:
        """Notes a version.

        Args:
            version: of the weights.
            updates: of this process before it.
        """
        self._updates_at[version] = updates
        if len(self._updates_at) > VERSIONS_REMEMBERED:
            del self._updates_at[next(iter(self._updates_at))]

    def discard(self, up_to: int) -> None:
        """Discards the versions up to one: the model has gone back to an earlier state."""
        self.discarded_up_to = up_to
        self._updates_at.clear()

    def lag_of(self, version: int, updates: int) -> int:
        """Returns the updates since a version. Of one that is not known, each counts as one."""
        if version <= self.discarded_up_to:
            return DISCARDED
        first = next(iter(self._updates_at), version)
        at = self._updates_at.get(max(version, first), 0)
        return updates - at + max(0, first - version)

    def kept(self, updates: int, max_lag: int) -> list[tuple[int, int]]:
        """Returns versions with their lag, oldest first, of which messages can still be used."""
        lags = [(version, updates - at) for version, at in self._updates_at.items()]
        return [(version, lag) for version, lag in lags if lag <= max_lag]

    def restore(self, kept: Iterable[tuple[int, int]], discarded_up_to: int) -> None:
        """Continues with the versions of an earlier process, for one that has made no update."""
        self.discarded_up_to = discarded_up_to
        self._updates_at = {version: -lag for version, lag in kept}
