"""Both ends that actors connect to, as a learner and a relay open them."""

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
    """Settings of a service that actors connect to."""

    @property
    def upstream_address(self) -> str:
        """To bind for what actors send."""
        ...

    @property
    def weights_address(self) -> str:
        """To bind for weights."""
        ...

    @property
    def keys(self) -> Path | None:
        """Folder of the learner's CURVE keys; None: nothing is encrypted."""
        ...


@contextmanager
def listening(
    context: zmq.SyncContext, addresses: Addresses, *, max_message_bytes: int
) -> Iterator[tuple[ZmqInbox, ZmqPublisher]]:
    """Opens both ends until the block ends, and warns where they are open to everybody.

    Args:
        context: of this process.
        addresses: to bind, and keys.
        max_message_bytes: larger ones end their connection.

    Raises:
        KeysError: the folder does not hold them.
        SocketAddressError: an address cannot be bound.
    """
    keys = None if addresses.keys is None else load_learner_keys(addresses.keys)
    if keys is None:
        what = "nothing is encrypted, and whoever reaches the ports is let in"
        get_logger().warning(what, cure="--keys")
    with ExitStack() as closing:
        closing.enter_context(authenticating(context, keys))
        upstream = addresses.upstream_address
        inbox = ZmqInbox(context, upstream, max_message_bytes=max_message_bytes, keys=keys)
        closing.callback(inbox.close)
        publisher = ZmqPublisher(context, addresses.weights_address, keys=keys)
        closing.callback(publisher.close)
        yield inbox, publisher
