"""Opens the two sockets that actors connect to, for a learner or a relay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import zmq

from asyncade_runtime.logs import get_logger
from asyncade_runtime.transport.keys import authenticating, load_learner_keys
from asyncade_runtime.transport.zmq_sockets import ZmqInbox, ZmqPublisher


class Addresses(Protocol):
    """Settings of the two sockets."""

    @property
    def upstream_address(self) -> str:
        """Address to bind for actors' messages."""
        ...

    @property
    def weights_address(self) -> str:
        """Address to bind for weights."""
        ...

    @property
    def keys(self) -> Path | None:
        """Folder of the learner's CURVE keys; None disables encryption."""
        ...


@contextmanager
def listening(
    context: zmq.SyncContext, addresses: Addresses, *, max_message_bytes: int
) -> Iterator[tuple[ZmqInbox, ZmqPublisher]]:
    """Opens both sockets for the duration of a ``with`` block; warns if there are no keys.

    Args:
        context: ZeroMQ context of the process.
        addresses: addresses and folder of keys.
        max_message_bytes: a larger frame ends its connection.

    Raises:
        KeysError: the folder holds no usable keys.
        SocketAddressError: an address cannot be bound.
    """
    keys = None if addresses.keys is None else load_learner_keys(addresses.keys)
    if keys is None:
        get_logger().warning("no encryption, no authentication", cure="--keys")
    with ExitStack() as closing:
        closing.enter_context(authenticating(context, keys))
        upstream = addresses.upstream_address
        inbox = ZmqInbox(context, upstream, max_message_bytes=max_message_bytes, keys=keys)
        closing.callback(inbox.close)
        publisher = ZmqPublisher(context, addresses.weights_address, keys=keys)
        closing.callback(publisher.close)
        yield inbox, publisher
