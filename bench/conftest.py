"""Options and the fixture of the pytest processes that `bench.harness` starts."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

import pytest

from asyncade_rl.choices import Mode
from asyncade_runtime.allocator import keep_freed_memory
from bench.pieces import Pieces


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--game", default="pong")
    parser.addoption("--seed", type=int, default=1)
    parser.addoption("--core", type=int, default=None, help="pin the process to this core")


def pytest_configure(config: pytest.Config) -> None:
    if (core := config.getoption("--core")) is not None:
        os.sched_setaffinity(0, {core})
    keep_freed_memory()  # as the services do


@pytest.fixture(scope="session")
def work(request: pytest.FixtureRequest) -> Callable[[Mode], Pieces]:
    """A function from a mode to its pieces, which all benchmarks of the process share."""
    game, seed = (request.config.getoption(name) for name in ("--game", "--seed"))
    return functools.cache(lambda mode: Pieces(mode, game, seed))
