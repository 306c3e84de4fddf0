"""Weights to play with: of a running learner at most every two seconds, else of a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import zmq

from asyncade_proto.codec import encode
from asyncade_proto.errors import DecodeError
from asyncade_rl.games import num_actions
from asyncade_rl.network import make_network
from asyncade_rl.params import fingerprint, to_safetensors
from asyncade_rl.saved_models import saved_models
from asyncade_rl.session import Session
from asyncade_runtime.transport.zmq_role import wait_for_any
from asyncade_runtime.transport.zmq_sockets import ZmqPublisher
from asyncade_watch.of_run import NewestSource
from asyncade_watch.run_state import RunState
from asyncade_watch.sources import (
    SECONDS_BETWEEN_WEIGHTS,
    CheckpointSource,
    LearnerSource,
    Model,
    Source,
)
from builders import Clock, weights
from rigs.page import add_checkpoint, run_folder


@pytest.fixture
def context() -> Iterator[zmq.SyncContext]:
    with zmq.Context() as context:
        yield context


@pytest.fixture
def publisher(context: zmq.SyncContext) -> Iterator[ZmqPublisher]:
    publisher = ZmqPublisher(context, "tcp://127.0.0.1:*")
    yield publisher
    publisher.close()


@cache
def network_of(seed: int) -> tuple[str, bytes]:
    """Returns the fingerprint and the weights of a network that fits the game."""
    network = make_network(num_actions("catch"), "small", seed=seed)
    return fingerprint(network), to_safetensors(network)


def frame(version: int, seed: int = 1, **fields: Any) -> bytes:
    """Returns the frame of weights that fit the game."""
    model, blob = network_of(seed)
    return encode(weights(policy_version=version, model=model, safetensors=blob, **fields))


def received(source: Source, clock: Clock, publisher: ZmqPublisher) -> Model:
    """Looks again and again until weights have arrived."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        publisher.welcome_joiners()
        clock.now += SECONDS_BETWEEN_WEIGHTS
        if (model := source.newer()) is not None:
            return model
        wait_for_any([publisher], [], 0.01)  # an empty Poller would not wait at all
    raise AssertionError("no weights")


def test_weights_are_taken_at_most_every_two_seconds(
    context: zmq.SyncContext, publisher: ZmqPublisher
) -> None:
    clock = Clock()
    source = LearnerSource(context, lambda: publisher.endpoint, clock=clock)
    publisher.publish(frame(version=1))
    model = received(source, clock, publisher)
    assert (model.game, model.about["version"]) == ("catch", 1)
    publisher.publish(frame(version=2))
    for _ in range(20):
        clock.now += SECONDS_BETWEEN_WEIGHTS / 25
        assert source.newer() is None
    assert received(source, clock, publisher).about["version"] == 2
    source.close()


def test_old_weights_of_a_fast_learner_do_not_queue(
    context: zmq.SyncContext, publisher: ZmqPublisher
) -> None:
    clock = Clock()
    source = LearnerSource(context, lambda: publisher.endpoint, clock=clock)
    publisher.publish(frame(1))
    received(source, clock, publisher)
    last = 200
    for version in range(2, last + 1):  # 280 MB, which nobody reads
        publisher.publish(frame(version) if version == last else frame(version, seed=2))
    seen = received(source, clock, publisher).about["version"]
    assert 1 < seen <= 100  # what was published first fills the queues; the rest was dropped
    publisher.publish(frame(last + 1))
    while seen <= last:  # after a few looks it is up to date again
        publisher.publish(frame(last + 1))
        seen = received(source, clock, publisher).about["version"]
    source.close()


def test_a_restarted_learner_is_found_at_its_new_address(context: zmq.SyncContext) -> None:
    clock = Clock()
    one, other = (ZmqPublisher(context, "tcp://127.0.0.1:*") for _ in range(2))
    addresses = [one.endpoint]
    source = LearnerSource(context, lambda: addresses[-1], clock=clock)
    one.publish(frame(8, run=1))
    assert received(source, clock, one).about["version"] == 8
    one.close()
    addresses.append(other.endpoint)
    other.publish(frame(3, run=2))
    assert received(source, clock, other).about["version"] == 3
    source.close()
    other.close()


def test_what_is_no_weights_is_refused_once(
    context: zmq.SyncContext, publisher: ZmqPublisher
) -> None:
    clock = Clock()
    source = LearnerSource(context, lambda: publisher.endpoint, clock=clock)
    publisher.publish(frame(1))
    received(source, clock, publisher)
    publisher.publish(b"junk")
    with pytest.raises(DecodeError, match="not_ours"):
        received(source, clock, publisher)
    publisher.publish(frame(2))
    assert received(source, clock, publisher).about["version"] == 2
    source.close()


def test_a_checkpoint_is_given_once(tmp_path: Path) -> None:
    (saved, *_) = saved_models(run_folder(tmp_path).checkpoint_files())
    source = CheckpointSource(saved, 0.25)
    model = source.newer()
    assert model is not None
    assert (model.sticky, model.about["env_steps"]) == (0.25, 1000)
    session = Session(model.game, model.network, envs=1)
    model.load(session)
    assert torch.equal(session.network.policy.weight, saved.tensors()["policy.weight"])
    assert source.newer() is None
    source.close()
    assert source.newer() is not None


def test_without_a_learner_the_newest_checkpoint_plays(
    tmp_path: Path, context: zmq.SyncContext, publisher: ZmqPublisher
) -> None:
    folder = run_folder(tmp_path)
    state, clock = RunState(folder), Clock()
    source = NewestSource(LearnerSource(context, state.weights_address, clock=clock), state, clock)
    model = source.newer()
    assert model is not None
    assert model.about["env_steps"] == 3000
    clock.now += 1
    assert source.newer() is None
    add_checkpoint(folder, 4)
    clock.now += 1
    newest = source.newer()
    assert newest is not None
    assert newest.about["env_steps"] == 4000
    folder.write_endpoints({"weights": publisher.endpoint})
    publisher.publish(frame(77))
    assert received(source, clock, publisher).about["version"] == 77
    source.close()
