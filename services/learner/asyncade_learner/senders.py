"""Who sends to the learner: for people who look, not for Prometheus, where every id would stay.

No I/O and no clock.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

_MOST: Final = 256
"""Senders remembered, those heard of last."""

_NEWEST_SHARE: Final = 0.3
"""Of the last report in a rate: between two reports a slow sender sends nothing, or twice."""


@dataclass(slots=True)
class _Sender:
    last_seen: float
    env_steps: int = 0
    policy_lag: int | None = None
    rate: float | None = None


class Senders:
    """The last messages of each sender, and the reasons why messages were dropped."""

    def __init__(self) -> None:
        self._senders: dict[str, _Sender] = {}  # heard of last at the end
        self._dropped: dict[str, int] = {}
        self._reported: float | None = None

    def received(self, sender: str, env_steps: int, policy_lag: int | None, now: float) -> None:
        """Notes a message.

        Args:
            sender: its id.
            env_steps: played.
            policy_lag: in updates; None if the message was dropped.
            now: Unix time in seconds.
        """
        known = self._senders.pop(sender, None) or _Sender(now)
        self._senders[sender] = known
        known.last_seen = now
        known.env_steps += env_steps
        if policy_lag is not None:
            known.policy_lag = policy_lag
        if len(self._senders) > _MOST:
            del self._senders[next(iter(self._senders))]

    def dropped(self, reason: str) -> None:
        """Notes a dropped message."""
        self._dropped[reason] = self._dropped.get(reason, 0) + 1

    def report(self, now: float, late: Collection[str]) -> dict[str, Any]:
        """Returns senders and reasons, as JSON.

        Args:
            now: Unix time in seconds.
            late: ids of those that are not waited for.
        """
        elapsed = None if self._reported is None else now - self._reported
        self._reported = now
        for one in self._senders.values():
            if elapsed is not None and elapsed > 0:  # the clock may have gone back
                rate = one.env_steps / elapsed
                before = rate if one.rate is None else one.rate
                one.rate = before + _NEWEST_SHARE * (rate - before)
            one.env_steps = 0
        return {
            "actors": [
                {
                    "id": name,
                    "env_steps_per_second": one.rate and round(one.rate, 1),
                    "policy_lag": one.policy_lag,
                    "last_seen": round(one.last_seen, 1),
                    "late": name in late,
                }
                for name, one in sorted(self._senders.items())
            ],
            "dropped": dict(self._dropped),
        }
