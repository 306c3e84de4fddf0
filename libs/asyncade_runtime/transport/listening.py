"""Opens the two sockets that actors connect to, for a learner or a relay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import zmq

from asyncade_runtime.logs import get_logger
from asyncade_runtime.transport.keys import authenticating, load_learner_keys
from asyncade_runtime.transport.zmq_sockets import ZmqInbox, ZmqPublisher


@contextmanager
def listening(
    context: zmq.SyncContext, upstream_address: str, weights_address: str, keys: Path | None
) -> Iterator[tuple[ZmqInbox, ZmqPublisher]]:
    """Opens both sockets for the duration of a ``with`` block; warns if there are no keys.

    Args:
        context: ZeroMQ context of the process.
        upstream_address: to bind for actors' messages.
        weights_address: to bind for weights.
        keys: folder of the learner's CURVE keys; None disables encryption.

    Raises:
        KeysError: the folder holds no usable keys.
        SocketAddressError: an address cannot be bound.
    """
    loaded = None if keys is None else load_learner_keys(keys)
    if loaded is None:
        get_logger().warning("no encryption, no authentication", cure="--keys")
    with ExitStack() as stack:
        stack.enter_context(authenticating(context, loaded))
        inbox = stack.enter_context(closing(ZmqInbox(context, upstream_address, keys=loaded)))
        publisher = ZmqPublisher(context, weights_address, keys=loaded)
        yield inbox, stack.enter_context(closing(publisher))
