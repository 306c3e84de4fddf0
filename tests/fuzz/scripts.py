"""Inputs of several events: what arrives, in which order, and what happens in between.

An event is its kind (one byte), the length of its content (u32, little-endian) and the content.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from fuzz.targets import Mutation

Event: TypeAlias = tuple[int, bytes]

MOST: Final = 48
"""Events of an input at most; the rest is ignored."""

_HEAD: Final = struct.Struct("<BI")


def read(data: bytes) -> list[Event]:
    """Returns the events; the last one may be cut."""
    events: list[Event] = []
    at = 0
    while at + _HEAD.size <= len(data) and len(events) < MOST:
        kind, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        events.append((kind, data[at : at + size]))
        at += size
    return events


def write(events: Iterable[Event]) -> bytes:
    """Returns the input."""
    return b"".join(_HEAD.pack(kind, len(content)) + content for kind, content in events)


def mutate(
    data: bytes,
    rng: random.Random,
    plainly: Mutation,
    *,
    seeds: Sequence[bytes],
    kinds: int,
    content: Callable[[int, bytes, random.Random, Mutation], bytes],
) -> bytes:
    """Returns the input with a change in one event, or in the order of events.

    Args:
        data: the input.
        rng: source of randomness.
        plainly: mutation of bytes.
        seeds: inputs to take events from.
        kinds: number of kinds of event.
        content: called with (kind, content, rng, plainly); returns another content.
    """
    events = read(data) or read(rng.choice(seeds))
    at = rng.randrange(len(events))
    kind, inside = events[at]
    match rng.randrange(12):
        case 0:
            return plainly(data)
        case 1:
            del events[at]
        case 2:
            events[at] = rng.randrange(kinds), inside
        case 3:
            events.insert(rng.randrange(len(events) + 1), events[at])
        case 4:
            events.insert(at, rng.choice(read(rng.choice(seeds))))
        case 5:
            other = rng.randrange(len(events))
            events[at], events[other] = events[other], events[at]
        case _:
            events[at] = kind, content(kind, inside, rng, plainly)
    return write(events)
