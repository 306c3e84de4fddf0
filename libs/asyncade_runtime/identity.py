"""Who uses which actor id, and whether a message is its sender's next one.

An id is only claimed by the message; the peer is known from the socket. So each id belongs to the
peer that used it first, until that has been silent for a while. Shared by learner and relay. No I/O
and no clock: the caller passes the time in.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from asyncade_runtime.admission import ACTIVE_WINDOW_S, Dropped
from asyncade_runtime.transport.roles import Peer

_REMEMBERED: Final = 65_536
"""Accounts remembered, silent ones included."""

_STEPS_BACK_OF_TWO: Final = 3
"""Steps back of a sender's sequence number that only two senders with one id explain."""

_LOST_AT_MOST: Final = 4096
"""Messages of one sender that can be lost in a row: far more than sockets and kernels hold."""


@dataclass(slots=True)
class _Account:
    """What is known of an id.

    Attributes:
        peer: its owner.
        heard_at: monotonic time in seconds.
        sequence: of the last message.
        began_with: version of the first message since the sender started.
        newest: newest version of a message.
        steps_back: of the sequence number, to another than 0.
    """

    peer: Peer
    heard_at: float
    sequence: int
    began_with: int
    newest: int
    steps_back: int = 0


class Identities:
    """An account for every actor id, each bound to the peer that uses it.

    Args:
        actors_per_peer: ids that one peer may use at a time.
    """

    def __init__(self, actors_per_peer: int) -> None:
        self._actors_per_peer = actors_per_peer
        self._accounts: OrderedDict[str, _Account] = OrderedDict()  # heard of last at the end
        self._ids: dict[Peer, set[str]] = {}
        self._found_shared: str | None = None

    def arrived(
        self, actor_id: str, sequence: int, policy_version: int, peer: Peer, now: float
    ) -> Dropped | int:
        """Enters a message into its sender's account.

        A sender's numbers rise. It may begin again at 0, with newer weights than it began with
        before; or at a later number, if its first messages were lost, with weights newer than all
        that it had. Anything else was sent before.

        Args:
            actor_id: as the message claims.
            sequence: its number.
            policy_version: of the message, at most the present one.
            peer: that sent it.
            now: monotonic time in seconds.

        Returns:
            How many of the sender's messages are missing before this one; or why it is refused:
            then no account has changed. Of an id that two senders share nothing counts as missing.
        """
        account = self._accounts.get(actor_id)
        silent = account is None or now - account.heard_at >= ACTIVE_WINDOW_S
        if account is not None and account.peer != peer and not silent:
            owner = account.peer
            return Dropped("identity", f"{actor_id} is used by {owner}, and claimed by {peer}")
        if actor_id not in self._ids.get(peer, ()) and self._crowded(peer, now):
            most = self._actors_per_peer
            return Dropped(
                "crowded", f"{peer} uses more than {most} ids at a time (--actors-per-peer)"
            )
        if account is None or account.peer != peer:
            self._forget(actor_id)
            account = _Account(peer, now, sequence, policy_version, policy_version)
            missing = 0
        else:
            found = self._missing(actor_id, account, sequence, policy_version, silent=silent)
            if isinstance(found, Dropped):
                return found
            missing = found
        account.heard_at = now
        account.sequence = sequence
        account.newest = max(account.newest, policy_version)
        self._accounts[actor_id] = account
        self._accounts.move_to_end(actor_id)
        self._ids.setdefault(peer, set()).add(actor_id)
        if len(self._accounts) > _REMEMBERED:
            self._forget(next(iter(self._accounts)))
        return missing

    def active(self, peer: Peer, now: float) -> int:
        """Returns the number of ids that a peer uses now."""
        ids = self._ids.get(peer, set())
        return sum(now - self._accounts[one].heard_at < ACTIVE_WINDOW_S for one in ids)

    def take_shared(self) -> str | None:
        """Returns, once, an id whose sequence numbers show that two senders use it.

        A sender that restarts begins at 0. One whose first messages are lost steps back to a later
        number, but not several times.
        """
        found, self._found_shared = self._found_shared, None
        return found

    def new_run(self) -> None:
        """Another learner numbers the versions anew."""
        for account in self._accounts.values():
            account.began_with = account.newest = -1

    def _missing(
        self, actor_id: str, account: _Account, sequence: int, policy_version: int, *, silent: bool
    ) -> Dropped | int:
        """Returns the messages missing before this one of a known sender, or why it is refused."""
        last = account.sequence
        if sequence > last:
            missing = sequence - last - 1
            if missing <= _LOST_AT_MOST:
                return 0 if account.steps_back >= _STEPS_BACK_OF_TWO else missing
            if silent:
                return 0
            return Dropped("sequence", f"{actor_id} jumps from {last} to {sequence}")
        if sequence > 0:
            account.steps_back += 1
            if account.steps_back == _STEPS_BACK_OF_TWO:
                self._found_shared = actor_id
        if policy_version <= (account.newest if sequence else account.began_with):
            return Dropped("replay", f"{actor_id} sends {sequence} again, after {last}")
        account.began_with = policy_version
        return 0

    def _crowded(self, peer: Peer, now: float) -> bool:
        """True if the peer can have no further id."""
        ids = self._ids.get(peer)
        if ids is None or len(ids) < self._actors_per_peer:
            return False
        ids -= {one for one in ids if now - self._accounts[one].heard_at >= ACTIVE_WINDOW_S}
        return len(ids) >= self._actors_per_peer

    def _forget(self, actor_id: str) -> None:
        account = self._accounts.pop(actor_id, None)
        if account is None:
            return
        ids = self._ids.get(account.peer, set())
        ids.discard(actor_id)
        if not ids:
            self._ids.pop(account.peer, None)
