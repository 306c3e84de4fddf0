"""Torch's threads and denormal numbers, as the services set them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from asyncade_rl.devices import prepare_processor


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(threads)


def test_denormal_numbers_are_flushed_to_zero() -> None:
    smallest = torch.tensor([torch.finfo(torch.float32).tiny])
    assert (smallest / 2).item() > 0  # denormal, not zero
    prepare_processor(1)
    assert (smallest / 2).item() == 0


def test_the_number_of_threads_is_set() -> None:
    prepare_processor(2)
    assert torch.get_num_threads() == 2


LATER_THREADS = """
import torch
from asyncade_rl.devices import prepare_processor
prepare_processor(1)
many = torch.full((1 << 18,), torch.finfo(torch.float32).tiny)
for threads in (2, 1, 2):
    torch.set_num_threads(threads)
    assert not torch.any(many / 2 != 0)
"""


def test_threads_started_later_round_denormal_numbers_to_zero() -> None:
    """In a process of its own: torch keeps threads that other tests started before."""
    subprocess.run([sys.executable, "-c", LATER_THREADS], check=True)
