"""Limits of messages, enforced by both ends; `proto/SPEC.md` lists them.

A limit is checked before memory of the size that it bounds is allocated.
"""

from __future__ import annotations

from typing import Final

MAX_MESSAGE_BYTES: Final = 64 * 2**20
"""One frame on a socket. Also set as ZeroMQ's MAXMSGSIZE, which disconnects on a larger frame."""

MAX_HEADER_BYTES: Final = 192 * 2**10
"""The msgpack header. Small, so that nested containers cannot grow into much memory; large enough
for `MAX_SENDERS` of the longest names, so that no actor's name can stop the learner from
publishing."""

MAX_MAP_ENTRIES: Final = 1024
"""Entries of one map in the header, unknown keys included."""

MAX_BUFFERS: Final = 256
"""Arrays in one message, and entries of any list in the header."""

MAX_TEXT_LENGTH: Final = 128
"""UTF-8 bytes of an actor id, a tensor name or a game id."""

MAX_SENDERS: Final = 1024
"""Actors in the `received` map of one weights message."""

MAX_UNROLL_LENGTHS: Final = 256
"""Actors in the `unroll_lengths` map of one weights message: of the longest names, as many as fit
into a header beside a full `received`."""

MAX_LOSSES: Final = 16
"""Losses in one gradients message."""

MAX_DIMENSIONS: Final = 6
"""Axes of one array."""

MAX_ARRAY_BYTES: Final = 256 * 2**20
"""All arrays of one message together, decompressed: 37,000 frames of 84x84."""

MAX_UNROLL_LENGTH: Final = 1024
"""Steps per environment in one trajectory (T)."""

MAX_ENVIRONMENTS: Final = 1024
"""Environments in one trajectory (E)."""

MAX_STEPS: Final = MAX_UNROLL_LENGTH * MAX_ENVIRONMENTS
"""Env steps, samples or finished episodes one message may report."""

MAX_COUNT: Final = 2**53
"""Sequence numbers and versions: the largest integer that a double counts exactly."""
