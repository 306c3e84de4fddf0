"""Replays what the fuzzer has kept and what once broke something; a short search without it."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from fuzz.targets import NAMES, Target, corpus, find, plain

MUTATIONS = {"decode": 2000, "intake": 40, "relay": 200, "checkpoint": 150, "settings": 80}
"""As many as take one or two seconds."""


def run(target: Target, data: bytes, note: str) -> None:
    """Runs an input; an error names it."""
    try:
        target.run(data)
    except BaseException as error:
        error.add_note(note)
        raise


@pytest.mark.parametrize("name", NAMES)
def test_the_corpus_is_survived(name: str) -> None:
    target = find(name)
    paths = list(corpus(name))
    assert paths
    for path in paths:
        run(target, path.read_bytes(), f"input {path}")


def test_frames_of_the_corpus_take_bounded_memory() -> None:
    target = find("decode")
    tracemalloc.start()
    try:
        for path in corpus("decode"):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            target.run(path.read_bytes())
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before <= target.memory, path
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", NAMES)
def test_mutations_are_survived(name: str) -> None:
    """The same ones every time: a search of its own for whoever has no fuzzer."""
    target, rng = find(name), random.Random(name)
    pool = list(target.seeds())
    for seed in pool:
        run(target, seed, "a seed")
    for number in range(MUTATIONS[name]):
        data = rng.choice(pool)
        for _ in range(rng.randint(1, 4)):
            data = target.mutate(data, rng, plain(rng))
        if len(data) <= target.largest:
            run(target, data, f"mutation {number} of {name}")
            pool.append(data)
