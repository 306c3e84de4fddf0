"""What a target is, what all of them may use up, and their names."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

CORPUS: Final = Path(__file__).parent / "corpus"

NAMES: Final = ("decode", "intake", "relay", "checkpoint", "settings")

Mutation: TypeAlias = Callable[[bytes], bytes]
"""Changes some bytes without knowing what they mean."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One reader of untrusted bytes.

    Attributes:
        run: reads one input. Raises whatever the code under test raises beyond its documented
            errors, and AssertionError if what was accepted breaks a promise.
        seeds: returns inputs that are read completely.
        mutate: called with (input, source of randomness, mutation of plain bytes). Returns an input
            that is mostly well-formed: plain mutations never pass the header.
        memory: bytes that one input may allocate at most.
        largest: bytes of an input at most.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    mutate: Callable[[bytes, random.Random, Mutation], bytes]
    memory: int
    largest: int = 64 * 2**10


def find(name: str) -> Target:
    """Returns the target of this name."""
    found: Target = importlib.import_module(f"fuzz.of_{name}").TARGET
    return found


def corpus(name: str) -> Iterator[Path]:
    """Returns the inputs that the search has kept, and those that once broke something.

    Those that take long are below ``slow``: a search that started from them would be slow as well.
    """
    yield from sorted((CORPUS / name).glob("*"))
    yield from sorted((CORPUS / "slow" / name).glob("*"))


def plain(rng: random.Random) -> Mutation:
    """Returns a mutation that needs no fuzzer: flips, inserts, repeats or removes a few bytes."""

    def mutate(data: bytes) -> bytes:
        edited = bytearray(data or b"\0")
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(edited) + 1)
            many = rng.choice((1, 1, 1, 2, 4, 8, 64))
            match rng.randrange(4):
                case 0:
                    edited[at : at + 1] = bytes([rng.randrange(256)])
                case 1:
                    edited[at:at] = rng.choice((b"\0", b"\xff", b"\x7f")) * many
                case 2:
                    edited[at:at] = edited[at : at + many]
                case _:
                    del edited[at : at + many]
        return bytes(edited)

    return mutate
