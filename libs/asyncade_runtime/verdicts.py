"""What is decided about a message that is well-formed: by a learner, or by a relay in its stead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Reason = TypeVar("Reason", bound=str)


@dataclass(frozen=True, slots=True)
class Accepted:
    """Use it.

    Attributes:
        policy_lag: version of the weights here minus the message's.
        lost: messages of this actor that never arrived, between its last one and this one.
    """

    policy_lag: int
    lost: int


@dataclass(frozen=True, slots=True)
class Dropped(Generic[Reason]):
    """Do not use it.

    Attributes:
        reason: one of those that whoever decides may give.
        detail: one phrase for the log.
        lost: as in `Accepted`.
    """

    reason: Reason
    detail: str
    lost: int
