"""How long to wait for each sender: as long as the others take, so that none holds up a round.

Shared by whoever gathers one message from each of many senders. No I/O and no clock.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping
from typing import Final

_TIMES_MEDIAN: Final = 2.0
"""A sender is late after this many times the median of all: less would shut out honest noise."""

_AND_S: Final = 0.05
"""Seconds on top: rounds of a few milliseconds are shorter than a scheduler's time slices."""

_TIMES_PATIENCE: Final = 4.0
"""After this many times the patience a sender counts as gone, until it is heard of again."""

_MOMENT_S: Final = 0.001
"""Seconds: who waits until a sender is late must then find it late, whatever rounding does."""


class Pace:
    """The time that each sender needs for a message, from the moment it may make one.

    A sender that needs more than twice the median is late: the others do not wait for it, and its
    message belongs to the round in which it arrives. Slow is not dead: a late sender stays active.

    Args:
        quorum: share of the senders, in (0, 1], whose times must be known before any is late.
    """

    def __init__(self, quorum: float) -> None:
        self._quorum = quorum
        self._since: dict[str, float] = {}
        self._took: dict[str, float] = {}

    def may_send(self, senders: Iterable[str], now: float) -> None:
        """Notes that senders got credit; those that had some go on with what they do."""
        for sender in senders:
            self._since.setdefault(sender, now)

    def arrived(self, sender: str, now: float, *, may_send_more: bool, share: float = 1.0) -> None:
        """Notes a message.

        Args:
            sender: who made it.
            now: time in seconds.
            may_send_more: it has credit for another one, so it is at work already.
            share: of a whole message's work, in (0, 1]; its time counts as that of a whole one.
        """
        since = self._since.pop(sender, None)
        if since is not None:
            self._took[sender] = (now - since) / share
        if may_send_more:
            self._since[sender] = now

    def forget(self, present: Collection[str]) -> None:
        """Forgets all senders but the present ones."""
        for known in (self._since, self._took):
            for sender in known.keys() - set(present):
                del known[sender]

    def patience(self, active: Collection[str]) -> float:
        """Returns the seconds after which a sender is late; infinite until a quorum is known."""
        return _TIMES_MEDIAN * self._median(active) + _AND_S

    def gone(self, active: Collection[str], now: float) -> set[str]:
        """Returns those that have needed so long that they are stopped or dead, not slow."""
        limit = _TIMES_PATIENCE * self.patience(active)
        return {sender for sender in active if now - self._since.get(sender, now) > limit}

    def late(self, active: Collection[str], now: float) -> set[str]:
        """Returns those that needed, or have needed so far, longer than `patience`."""
        patience = self.patience(active)
        return {
            sender
            for sender in active
            if self._took.get(sender, 0.0) > patience
            or now - self._since.get(sender, now) > patience
        }

    def seconds_until_late(
        self, awaited: Collection[str], active: Collection[str], now: float
    ) -> float:
        """Returns after how long the first of the awaited senders is late, if none is yet."""
        patience = self.patience(active) + _MOMENT_S
        return min((self._since.get(s, now) + patience - now for s in awaited), default=math.inf)

    def steps_in_time(self, sender: str, steps: int, active: Collection[str]) -> int:
        """Returns how many of a whole message's steps a late sender makes in the median time."""
        took = self._took.get(sender, 0.0)
        late = took > self.patience(active)
        return max(1, int(steps * self._median(active) / took)) if late else steps

    def kept(self) -> dict[str, dict[str, float]]:
        """Returns the times, as JSON; see `restore`."""
        return {"since": dict(self._since), "took": dict(self._took)}

    def restore(self, kept: Mapping[str, Mapping[str, float]], later: float) -> None:
        """Continues with what `kept` returned, of a clock that was `later` seconds behind."""
        self._since = {sender: at + later for sender, at in kept.get("since", {}).items()}
        self._took = dict(kept.get("took", {}))

    def _median(self, active: Collection[str]) -> float:
        known = [self._took[sender] for sender in active if sender in self._took]
        if not known or len(known) < self._quorum * len(active):
            return math.inf
        return statistics.median_low(known)
