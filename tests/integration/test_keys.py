"""Encrypted sockets: which peers are admitted, and the error that others get."""

from __future__ import annotations

from collections.abc import Iterator
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
from asyncade_runtime.transport.zmq_sockets import ZmqInbox, ZmqOutbox, ZmqPublisher, ZmqSubscriber
from builders import frame_from
from integration.transports import DEADLINE_S, SHORT_S, eventually, welcome

ANYWHERE = "tcp://127.0.0.1:*"


@pytest.fixture
def context() -> Iterator[zmq.SyncContext]:
    with zmq.Context() as made:
        yield made


@pytest.fixture
def keys(tmp_path: Path) -> tuple[LearnerKeys, ActorKeys]:
    make_keys(tmp_path)
    return load_learner_keys(tmp_path / "learner"), load_actor_keys(tmp_path / "actor")


@pytest.fixture
def strangers(tmp_path: Path) -> ActorKeys:
    make_keys(tmp_path / "strangers")
    return load_actor_keys(tmp_path / "strangers" / "actor")


@pytest.fixture
def inbox(context: zmq.SyncContext, keys: tuple[LearnerKeys, ActorKeys]) -> Iterator[ZmqInbox]:
    with authenticating(context, keys[0]):
        made = ZmqInbox(context, ANYWHERE, max_message_bytes=1000, keys=keys[0])
        yield made
        made.close()


def until_refused(outbox: ZmqOutbox, inbox: ZmqInbox) -> str:
    """Sends until the outbox reports a refusal; returns its detail."""

    def refusal() -> str | None:
        outbox.send(b"x", SHORT_S)
        assert inbox.receive(SHORT_S) is None
        events = {event.kind: event.detail for event in outbox.events()}
        assert "connected" not in events
        return events.get("refused")

    return eventually(refusal)


def test_known_keys_are_admitted_on_both_sockets(
    context: zmq.SyncContext, keys: tuple[LearnerKeys, ActorKeys]
) -> None:
    with authenticating(context, keys[0]):
        inbox = ZmqInbox(context, ANYWHERE, max_message_bytes=1000, keys=keys[0])
        publisher = ZmqPublisher(context, ANYWHERE, keys=keys[0])
        outbox = ZmqOutbox(context, inbox.endpoint, keys=keys[1])
        subscriber = ZmqSubscriber(
            context, publisher.endpoint, max_message_bytes=1000, keys=keys[1]
        )
        assert outbox.send(b"up", DEADLINE_S)
        assert frame_from(inbox, DEADLINE_S) == b"up"
        publisher.publish(b"down")
        assert welcome(publisher, subscriber) == b"down"
        for role in (inbox, publisher, outbox, subscriber):
            role.close()


def test_a_key_unknown_to_the_learner_is_refused(
    context: zmq.SyncContext,
    keys: tuple[LearnerKeys, ActorKeys],
    strangers: ActorKeys,
    inbox: ZmqInbox,
) -> None:
    mixed = ActorKeys(strangers.public, strangers.secret, learner=keys[1].learner)
    outbox = ZmqOutbox(context, inbox.endpoint, keys=mixed)
    assert "key" in until_refused(outbox, inbox)
    outbox.close()


def test_a_learner_with_another_key_is_not_trusted(
    context: zmq.SyncContext, strangers: ActorKeys, inbox: ZmqInbox
) -> None:
    outbox = ZmqOutbox(context, inbox.endpoint, keys=strangers)
    assert "key" in until_refused(outbox, inbox)
    outbox.close()


def test_a_learner_without_keys_is_not_trusted(
    context: zmq.SyncContext, keys: tuple[LearnerKeys, ActorKeys]
) -> None:
    inbox = ZmqInbox(context, ANYWHERE, max_message_bytes=1000)
    outbox = ZmqOutbox(context, inbox.endpoint, keys=keys[1])
    assert "key" in until_refused(outbox, inbox)
    outbox.close()
    inbox.close()


def test_an_actor_without_keys_is_refused(context: zmq.SyncContext, inbox: ZmqInbox) -> None:
    outbox = ZmqOutbox(context, inbox.endpoint)
    assert "keys" in until_refused(outbox, inbox)
    eventually(lambda: any(event.kind == "refused" for event in inbox.events()))
    outbox.close()


def test_without_an_authenticator_no_peer_is_admitted(
    context: zmq.SyncContext, keys: tuple[LearnerKeys, ActorKeys]
) -> None:
    inbox = ZmqInbox(context, ANYWHERE, max_message_bytes=1000, keys=keys[0])
    outbox = ZmqOutbox(context, inbox.endpoint, keys=keys[1])
    for _ in range(10):  # admission takes milliseconds
        assert not outbox.send(b"x", SHORT_S)
        assert inbox.receive(SHORT_S) is None
    outbox.close()
    inbox.close()
