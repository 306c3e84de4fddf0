"""Torch as the services set it up."""

from __future__ import annotations

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


def test_numbers_too_small_for_their_usual_form_are_zero() -> None:
    smallest = torch.tensor([torch.finfo(torch.float32).tiny])
    assert (smallest / 2).item() > 0  # or the next line would show nothing
    prepare_processor(1)
    assert (smallest / 2).item() == 0


def test_threads_are_as_many_as_asked_for() -> None:
    prepare_processor(2)
    assert torch.get_num_threads() == 2
