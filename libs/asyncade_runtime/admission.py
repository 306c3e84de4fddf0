"""Admission of decoded messages: the outcome for each one, and the account of its sender.

Shared by learner and relay. No I/O and no clock: the caller passes the time in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Final, Literal, TypeAlias, get_args

from asyncade_proto.errors import DecodeReason
from asyncade_proto.limits import MAX_SENDERS
from asyncade_proto.messages import Upstream

ACTIVE_WINDOW_S: Final = 30.0
"""A sender that has been silent for this long, in seconds, is no longer active."""

DropReason: TypeAlias = Literal[
    "stale",
    "future",
    "unasked",
    "model",
    "shape",
    "action",
    "claim",
    "adverse",
    "identity",
    "crowded",
    "replay",
    "sequence",
    "shut_out",
]

DROP_REASONS: tuple[DropReason, ...] = get_args(DropReason)
"""Why a decoded message is dropped.

stale: made with weights that are too old. future: with weights that this learner has not
published (an earlier one did, and died before its next checkpoint). unasked: a kind that is not
requested now. model: of another network. shape: of frames, unroll or gradients. action: the game
has no such action. claim: says what cannot be true (`claims`). adverse: gradients of a sender that
points against the others again and again (`robust_mean`). The others are refused before anybody
looks at what they hold. identity: another peer uses this id. crowded: one peer with too many ids.
replay: sent before. sequence: numbered far ahead of its sender's last. shut_out: from a peer or an
id that has sent too much that no actor sends.
"""

_REFUSED: Final = frozenset({"identity", "crowded", "replay", "sequence", "shut_out"})
_FOREIGN: Final = frozenset({"model", "shape", "action"}) | _REFUSED

_NOT_BELIEVED: Final = frozenset({"claim", "adverse"})


@dataclass(frozen=True, slots=True)
class Accepted:
    """The message is used.

    Attributes:
        policy_lag: of the message: updates since its weights for a learner, versions for a relay.
        foreign: False; as in `Dropped`.
        refused: False; as in `Dropped`.
        believed: True; as in `Dropped`.
    """

    policy_lag: int
    foreign: ClassVar[bool] = False
    refused: ClassVar[bool] = False
    believed: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Dropped:
    """The message is not used.

    Attributes:
        reason: label of the metric.
        detail: one phrase for the log.
    """

    reason: DropReason | DecodeReason
    detail: str

    @property
    def foreign(self) -> bool:
        """True if the sender belongs to another run: its play does not count, it gets no credit."""
        return self.reason in _FOREIGN

    @property
    def refused(self) -> bool:
        """True if the message may not even touch the account of the id that it claims."""
        return self.reason in _REFUSED

    @property
    def believed(self) -> bool:
        """False if the message is a lie, or its sender hostile: its play does not count either."""
        return self.reason not in _NOT_BELIEVED


def check_policy(
    message: Upstream,
    *,
    model: str,
    policy_version: int,
    max_policy_lag: int,
    lag_of: Callable[[int], int] | None = None,
) -> Accepted | Dropped:
    """Decides by the network and the version that a message was made with.

    Args:
        message: decoded, of any sender.
        model: fingerprint of the present network.
        policy_version: the present one.
        max_policy_lag: messages older than this are dropped.
        lag_of: a version to its policy lag; by default the number of versions since.
    """
    versions = policy_version - message.policy_version
    if message.model != model:
        return Dropped("model", f"{message.actor_id} has network {message.model}, not {model}")
    if versions < 0:
        return Dropped("future", f"version {message.policy_version} > {policy_version}")
    lag = versions if lag_of is None else lag_of(message.policy_version)
    if lag > max_policy_lag:
        return Dropped("stale", f"{lag} old, over {max_policy_lag}")
    return Accepted(lag)


class Roster:
    """The senders: which are active, and what has arrived from each.

    Its length is the number of active senders. Times are seconds of one monotonic clock.

    Attributes:
        owes_credit: True if a message has arrived since `credit` was last called.
    """

    def __init__(self) -> None:
        self.owes_credit = False
        self._heard_at: dict[str, float] = {}
        self._received: dict[str, int] = {}  # newest last
        self._contributors: set[str] = set()

    def __len__(self) -> int:
        return len(self._heard_at)

    @property
    def active(self) -> Collection[str]:
        """The active senders."""
        return self._heard_at.keys()

    @property
    def absent(self) -> set[str]:
        """The active senders with no part in the current batch."""
        return self._heard_at.keys() - self._contributors

    def heard(self, actor_id: str, sequence: int, now: float) -> None:
        """Marks the sender as active; its messages up to this one count as received."""
        self._heard_at[actor_id] = now
        self._received.pop(actor_id, None)
        self._received[actor_id] = sequence + 1
        self.owes_credit = True

    def not_believed(self, actor_id: str) -> None:
        """Ends the activity of a sender that was not believed, until it is again.

        Nobody waits for it, and nothing is published for its sake. Unnamed, it has full credit with
        the next weights: an honest one, dropped for a wrong setting, must be able to go on.
        """
        self._heard_at.pop(actor_id, None)
        self._received.pop(actor_id, None)

    def credit(self) -> dict[str, int]:
        """Returns `received` for the next weights: messages arrived by sender, lost ones included.

        At most `MAX_SENDERS`, those heard of last. A sender that is not named has full credit.
        """
        self.owes_credit = False
        return dict(islice(reversed(self._received.items()), MAX_SENDERS))

    def silent(self, now: float, seconds: float) -> set[str]:
        """Returns the active senders that have not been heard of for longer than `seconds`."""
        return {sender for sender, at in self._heard_at.items() if now - at > seconds}

    def forgive(self, senders: Collection[str]) -> None:
        """Treats what these senders have in flight as lost: unnamed, they have full credit."""
        for sender in senders:
            self._received.pop(sender, None)

    def forget_received(self) -> None:
        """Treats everything in flight as lost: no sender is named, so all have full credit."""
        self._received.clear()

    def forget_silent(self, now: float) -> None:
        """Ends the activity of senders that have been silent for `ACTIVE_WINDOW_S`."""
        self._forget([a for a, at in self._heard_at.items() if now - at >= ACTIVE_WINDOW_S])

    def contributed(self, actor_id: str) -> None:
        """Notes that a message of this sender is part of the current batch."""
        self._contributors.add(actor_id)

    def forget_absent(self) -> None:
        """Ends the activity of senders with no part in the current batch, until heard of again.

        A sender that died must not hold up the next batch as well.
        """
        self._forget(self._heard_at.keys() - self._contributors)

    def next_batch(self) -> None:
        """Begins a batch without contributions."""
        self._contributors.clear()

    def kept(self) -> dict[str, dict[str, float]]:
        """Returns who is active and what has arrived, as JSON; see `restore`."""
        return {"heard_at": dict(self._heard_at), "received": dict(self._received)}

    def restore(self, kept: Mapping[str, Mapping[str, float]], later: float) -> None:
        """Continues with what `kept` returned, of a clock that was `later` seconds behind."""
        self._heard_at = {a: at + later for a, at in kept.get("heard_at", {}).items()}
        self._received = {a: int(n) for a, n in kept.get("received", {}).items()}

    def _forget(self, actors: Collection[str]) -> None:
        for actor in actors:
            del self._heard_at[actor]
            self._received.pop(actor, None)
