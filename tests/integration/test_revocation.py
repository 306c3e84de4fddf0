"""Keys that are revoked, added and rotated while connections live."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import zmq

from asyncade_runtime.transport.keys import (
    ActorKeys,
    LearnerKeys,
    authenticating,
    load_actor_keys,
    load_learner_keys,
    make_keys,
)
from asyncade_runtime.transport.roles import ConnectionEvent
from asyncade_runtime.transport.zmq_sockets import ZmqInbox, ZmqOutbox, ZmqPublisher, ZmqSubscriber
from integration.transports import SHORT_S, eventually, port_of


class Actor:
    """Both sockets of an actor, and the kinds of events that they have had."""

    def __init__(self, context: zmq.SyncContext, learner: Learner, keys: ActorKeys) -> None:
        self.key = keys.public.decode()
        up, down = (f"tcp://127.0.0.1:{port_of(one)}" for one in (learner.inbox, learner.publisher))
        self.outbox = ZmqOutbox(context, up, keys=keys)
        self.subscriber = ZmqSubscriber(context, down, keys=keys)
        self.kinds: set[str] = set()
        self.newest: bytes | None = None

    def step(self) -> None:
        self.note(self.outbox.events() + self.subscriber.events())
        self.outbox.send(self.key.encode(), 0.0)
        frame = self.subscriber.latest(SHORT_S)
        self.newest = self.newest if frame is None else frame

    def note(self, events: list[ConnectionEvent]) -> None:
        self.kinds |= {event.kind for event in events}

    def close(self) -> None:
        self.outbox.close()
        self.subscriber.close()


class Learner:
    """Both sockets of a learner, and whose messages it has received."""

    def __init__(self, context: zmq.SyncContext, address: str, keys: LearnerKeys) -> None:
        self.inbox = ZmqInbox(context, address, keys=keys)
        self.publisher = ZmqPublisher(context, address, resend_interval_s=0.02, keys=keys)
        self.heard: set[str | None] = set()

    def step(self) -> None:
        self.inbox.events()
        self.publisher.events()
        self.publisher.welcome_joiners()
        while (envelope := self.inbox.receive(0.0)) is not None:
            assert envelope.frame.decode() == envelope.peer.key
            assert envelope.peer.address == "127.0.0.1"
            self.heard.add(envelope.peer.key)

    def close(self) -> None:
        self.inbox.close()
        self.publisher.close()


class Site:
    """A learner, its folder of keys, and actors with keys of their own."""

    def __init__(self, root: Path, address: str, stack: ExitStack) -> None:
        self.root, self._stack = root, stack
        make_keys(root)
        self.folder = root / "learner"
        self.context = stack.enter_context(zmq.Context())
        keys = load_learner_keys(self.folder)
        stack.enter_context(authenticating(self.context, keys))
        self.learner = stack.enter_context(closing(Learner(self.context, address, keys)))
        self._actors: list[Actor] = []

    def keys(self, name: str) -> ActorKeys:
        """Makes a pair of keys for an actor; its public half is not yet admitted."""
        make_keys(self.root / name)
        made = self.root / name / "actor"
        shutil.copy(self.root / "actor" / "learner.key", made)
        return load_actor_keys(made)

    def admit(self, name: str) -> None:
        shutil.copy(self.root / name / "learner" / "actor.key", self.folder / f"{name}.key")

    def actor(self, keys: ActorKeys) -> Actor:
        made = self._stack.enter_context(closing(Actor(self.context, self.learner, keys)))
        self._actors.append(made)
        return made

    def until(self, reached: Callable[[], object], what: str) -> None:
        """Steps everybody until something is reached."""

        def step() -> object:
            self.learner.step()
            for actor in self._actors:
                actor.step()
            return reached()

        eventually(step, what)

    def until_served(self, actor: Actor, weights: bytes) -> None:
        """Until the learner has a new message of the actor, and the actor these weights."""
        self.learner.heard.clear()
        self.learner.publisher.publish(weights)
        self.until(
            lambda: actor.key in self.learner.heard and actor.newest == weights,
            f"{weights!r} for the actor with key {actor.key}",
        )


@pytest.fixture(params=["tcp://127.0.0.1:*", "tcp://*:*"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """On one address, and on all of both IP families, where one peer could have two names."""
    with ExitStack() as stack:
        yield Site(tmp_path, request.param, stack)


def test_a_revoked_key_gets_no_weights_and_is_not_heard_and_the_others_go_on(site: Site) -> None:
    lost, kept = site.keys("lost"), load_actor_keys(site.root / "actor")
    site.admit("lost")
    revoked, live = site.actor(lost), site.actor(kept)
    site.until_served(revoked, b"one")
    site.until_served(live, b"two")
    (site.folder / "lost.key").unlink()
    site.until(lambda: "refused" in revoked.kinds, "the revoked actor is refused")
    site.learner.heard.clear()
    revoked.newest = None
    for number in range(3):
        site.until_served(live, b"after %d" % number)
    assert revoked.newest is None
    assert revoked.key not in site.learner.heard
    assert "refused" not in live.kinds


def test_a_key_that_is_added_is_admitted_without_a_restart(site: Site) -> None:
    new = site.keys("new")
    early = site.actor(new)
    site.until(lambda: "refused" in early.kinds, "an unknown key is refused")
    site.admit("new")

    # A refused actor ends with exit code 3, and its successor connects.
    def served() -> bool:
        with closing(Actor(site.context, site.learner, new)) as late:
            for _ in range(20):
                site.learner.step()
                late.step()
            return late.key in site.learner.heard

    eventually(served, "an actor with the added key is heard")


def test_an_empty_folder_admits_nobody(site: Site) -> None:
    actor = site.actor(load_actor_keys(site.root / "actor"))
    site.until_served(actor, b"one")
    (site.folder / "actor.key").unlink()
    site.until(lambda: "refused" in actor.kinds, "the last key is refused")
    actor.newest = None
    site.learner.heard.clear()
    site.learner.publisher.publish(b"two")
    for _ in range(10):
        site.learner.step()
        actor.step()
    assert (actor.newest, site.learner.heard) == (None, set())


def test_keys_are_rotated_without_a_gap(site: Site) -> None:
    """Add the new key, move the actors, remove the old one, as docs/operations.md says."""
    old = site.actor(load_actor_keys(site.root / "actor"))
    site.until_served(old, b"one")
    keys = site.keys("new")
    site.admit("new")
    moved = []

    def connected() -> bool:
        actor = site.actor(keys)
        for _ in range(20):
            site.learner.step()
            actor.step()
        moved.append(actor)
        return "connected" in actor.kinds

    eventually(connected, "an actor with the new key")
    site.until_served(moved[-1], b"two")
    site.until_served(old, b"three")  # both hold while actors move
    (site.folder / "actor.key").unlink()
    site.until(lambda: "refused" in old.kinds, "the old key is refused")
    site.until_served(moved[-1], b"four")


@pytest.mark.parametrize("who", ["unknown", "wrong server key", "no key"])
def test_no_weights_reach_a_peer_without_a_known_key(site: Site, who: str) -> None:
    """The other direction is in test_keys.py."""
    good = site.actor(load_actor_keys(site.root / "actor"))
    known = load_actor_keys(site.root / "actor")
    other = site.keys("other")
    keys = {
        "unknown": other,
        "wrong server key": ActorKeys(known.public, known.secret, learner=other.public),
        "no key": None,
    }[who]
    address = f"tcp://127.0.0.1:{port_of(site.learner.publisher)}"
    with closing(ZmqSubscriber(site.context, address, keys=keys)) as bad:
        kinds = set[str]()
        for number in range(3):
            site.until_served(good, b"secret %d" % number)
            kinds |= {event.kind for event in bad.events()}
            assert bad.latest(SHORT_S) is None
        site.until(
            lambda: kinds.update(event.kind for event in bad.events()) or "refused" in kinds,
            "the peer is refused",
        )
        assert bad.latest(SHORT_S) is None
        assert "connected" not in kinds
