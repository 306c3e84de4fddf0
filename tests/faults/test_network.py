"""Actors behind a bad network: they train, slower, and reconnect by themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.local_run import LocalRun, addresses

from e2e.commands import assert_rows_continue
from faults.lossy_network import LossyNetwork

pytestmark = pytest.mark.processes

SEED = 1


@pytest.fixture(
    params=["data", pytest.param("gradients", marks=pytest.mark.faults_long)],
)
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[LocalRun, LossyNetwork]]:
    """A run whose actors reach the learner through a network that a test makes worse."""
    environ = {"ASYNCADE_LEARNER_MODE": request.param}
    with LossyNetwork(SEED) as network, LocalRun(tmp_path, environ=environ) as run:
        ports = [int(one.rpartition(":")[2]) for one in run.learner_addresses]
        run.actor_addresses = addresses(*map(network.port_to, ports))
        run.start_learner()
        for number in range(2):
            run.start_actor(number)
        run.wait_for_updates()
        yield run, network
        for number in range(2):
            assert run.services[f"actor-{number}"].exit_code() is None, run.log(f"actor-{number}")
        assert run.metric('messages_dropped_total{reason="stale"}') == 0
        assert_rows_continue(run.folder.read_metrics())


def test_delay_loss_and_cuts(far: tuple[LocalRun, LossyNetwork]) -> None:
    run, network = far
    network.delay_s = 0.2
    run.wait_for_updates()
    network.loss = 0.05
    run.wait_for_updates()
    network.delay_s = network.loss = 0.0
    network.stalled = True
    time.sleep(2)  # the length of the partition
    network.stalled = False
    run.wait_for_updates()
    for _ in range(3):
        network.cut()
        run.wait_for_updates()


@pytest.mark.faults_long
def test_a_partition_longer_than_the_heartbeats(far: tuple[LocalRun, LossyNetwork]) -> None:
    """Both sides give the connections up, and connect anew through the healed network."""
    run, network = far
    network.stalled = True
    run.wait_for(lambda: "upstream disconnected" in run.log("actor-0"), "the actor gives up")
    network.stalled = False
    run.wait_for_updates()
    run.wait_for(lambda: run.metric("active_actors") == 2, "both actors are heard")
