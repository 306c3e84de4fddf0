"""When a batch is complete, and what is asked of late actors. No I/O and no clock."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from asyncade_proto.limits import MAX_UNROLL_LENGTHS
from asyncade_proto.messages import Trajectory, Upstream
from asyncade_runtime.admission import Roster
from asyncade_runtime.pace import Pace

_SHORTEST: Final = 16
"""Env steps of an unroll that is asked of a late actor, at least: the time that its message and the
weights take does not shrink with it."""

_MULTIPLE: Final = 8
"""Unroll lengths asked of late actors are multiples of this."""


class Rounds:
    """Waits for the actors that keep pace, and for no other.

    A batch is complete with its samples, or when every active actor that is not late has a part in
    it. What a late actor sends belongs to the batch that is open when it arrives. It is asked for
    unrolls as short as it can play in time, so that they are not old.

    Args:
        roster: of the actors.
        quorum: see `Pace`.
        patience_seconds: an actor that was silent for this long may have lost its credit.
        log: structured logger.
    """

    def __init__(self, roster: Roster, quorum: float, patience_seconds: float, log: Any) -> None:
        self._roster = roster
        self._pace = Pace(quorum)
        self._patience_seconds = patience_seconds
        self._log = log
        self._named: set[str] = set()  # as late, in the log
        self._unroll_length = 1
        self.unroll_lengths: dict[str, int] = {}

    def playing(self, now: float) -> int:
        """Returns the number of active actors, without those that are stopped or dead."""
        active = self._roster.active
        return len(active) - len(self._pace.gone(active, now))

    def complete(self, gathered: int, wanted: int | None, now: float) -> bool:
        """Returns whether the batch is complete.

        Args:
            gathered: samples in it.
            wanted: samples that it should have; None: whatever all actors send.
            now: time in seconds.
        """
        if not gathered:
            return False
        return (wanted is not None and gathered >= wanted) or not self._awaited(now)

    def seconds_left(self, now: float) -> float:
        """Returns after how long without a message `complete` can become true."""
        awaited = self._awaited(now)
        return self._pace.seconds_until_late(awaited, self._roster.active, now)

    def arrived(self, message: Upstream, messages_in_flight: int, now: float) -> None:
        """Notes an accepted message, and how long an unroll its actor has time for."""
        actor, more = message.actor_id, messages_in_flight > 1
        if not isinstance(message, Trajectory):
            self._pace.arrived(actor, now, may_send_more=more)
            return
        # Of a shorter unroll the time that a whole one would take counts: its actor is still late.
        share = min(1.0, len(message.actions) / self._unroll_length)
        self._pace.arrived(actor, now, may_send_more=more, share=share)
        steps = self._pace.steps_in_time(actor, self._unroll_length, self._roster.active)
        self.unroll_lengths[actor] = max(_SHORTEST, steps // _MULTIPLE * _MULTIPLE)

    def published(self, now: float) -> None:
        """Notes that actors got credit. Lost messages must not keep one out for ever."""
        roster = self._roster
        roster.forgive(roster.silent(now, self._patience_seconds))
        self._pace.may_send(roster.active, now)

    def late(self, now: float) -> set[str]:
        """Returns the late actors, and names new ones in the log. Forgets those that left."""
        active = self._roster.active
        self._pace.forget(active)
        for gone in self.unroll_lengths.keys() - set(active):
            del self.unroll_lengths[gone]
        late = self._pace.late(active, now)
        for actor in sorted(late - self._named):
            self._log.warning("actor is late; the others do not wait for it", actor_id=actor)
        self._named = late
        return late

    def lengths_below(self, unroll_length: int) -> dict[str, int]:
        """Returns the unroll lengths asked of single actors, where they are shorter than all's."""
        self._unroll_length = unroll_length
        self.unroll_lengths = {a: n for a, n in self.unroll_lengths.items() if n < unroll_length}
        return dict(islice(self.unroll_lengths.items(), MAX_UNROLL_LENGTHS))

    def kept(self) -> dict[str, dict[str, float]]:
        """Returns the actors' times and unroll lengths, as JSON; see `restore`."""
        return {**self._pace.kept(), "unroll_lengths": dict(self.unroll_lengths)}

    def restore(self, kept: Mapping[str, Mapping[str, float]], later: float) -> None:
        """Continues with what `kept` returned, of a clock that was `later` seconds behind."""
        self._pace.restore(kept, later)
        self.unroll_lengths = {a: int(n) for a, n in kept.get("unroll_lengths", {}).items()}

    def _awaited(self, now: float) -> set[str]:
        absent = self._roster.absent
        return absent - self._pace.late(self._roster.active, now) if absent else absent
