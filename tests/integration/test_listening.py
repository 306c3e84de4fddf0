"""The sockets that actors connect to: encrypted with keys, open with a warning without."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq
from structlog.testing import capture_logs

from asyncade_runtime.transport.addresses import SocketAddressError
from asyncade_runtime.transport.keys import ActorKeys, KeysError, load_actor_keys, make_keys
from asyncade_runtime.transport.listening import listening
from asyncade_runtime.transport.zmq_sockets import ZmqOutbox, ZmqSubscriber
from builders import frame_from
from integration.transports import DEADLINE_S, eventually

ANYWHERE = "tcp://127.0.0.1:*"


@pytest.mark.parametrize("encrypted", [False, True])
def test_messages_pass_both_ways(tmp_path: Path, encrypted: bool) -> None:
    make_keys(tmp_path)
    keys: ActorKeys | None = load_actor_keys(tmp_path / "actor") if encrypted else None
    folder = tmp_path / "learner" if encrypted else None
    with (
        capture_logs() as logged,
        zmq.Context() as context,
        listening(context, ANYWHERE, ANYWHERE, folder) as (inbox, publisher),
    ):
        outbox = ZmqOutbox(context, inbox.endpoint, keys=keys)
        subscriber = ZmqSubscriber(context, publisher.endpoint, hwm=2, keys=keys)
        try:
            assert outbox.send(b"trajectory", DEADLINE_S)
            assert frame_from(inbox, DEADLINE_S) == b"trajectory"
            publisher.publish(b"weights")  # lost if the subscriber has not joined yet
            eventually(publisher.welcome_joiners)  # sends it again
            assert subscriber.latest(DEADLINE_S) == b"weights"
        finally:
            outbox.close()
            subscriber.close()
    warned = [one for one in logged if one["event"].startswith("no encryption")]
    assert bool(warned) != encrypted


def test_a_wrong_setting_raises_and_leaves_no_socket_open(tmp_path: Path) -> None:
    make_keys(tmp_path)
    with zmq.Context() as context:  # terminates only once every socket is closed
        with pytest.raises(KeysError), listening(context, ANYWHERE, ANYWHERE, tmp_path / "none"):
            pass
        malformed = "tcp://nobody:x"
        with pytest.raises(SocketAddressError), listening(context, ANYWHERE, malformed, None):
            pass
