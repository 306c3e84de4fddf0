"""A weights frame as a relay's actors get it in gradient mode: another header, the same arrays."""

from __future__ import annotations

from collections.abc import Mapping

from asyncade_proto.codec import join, split


def for_actors(frame: bytes, *, received: Mapping[str, int], minibatch_size: int) -> bytes:
    """Returns the frame with the relay's own `received` and its actors' share of the samples.

    Args:
        frame: well-formed weights. Fields of a later release that are not known here stay in it.
        received: by actor, how many of its messages have come in at the relay.
        minibatch_size: samples per gradient.

    Raises:
        ValueError: the frame would be larger than the wire allows.
    """
    header, arrays = split(frame)
    assignment = header["assignment"]
    objective = assignment["objective"] | {"minibatch_size": minibatch_size}
    changes = {"received": dict(received), "assignment": assignment | {"objective": objective}}
    return join(header | changes, [arrays])
