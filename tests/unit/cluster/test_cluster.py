"""The virtual cluster: the clock, the links, and runs with invented costs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from bench.cluster.arms import ratio
from bench.cluster.cluster import Cluster, Faults, Plan
from bench.cluster.costs import Record, cost
from bench.cluster.network import Inbox, Network, Publisher
from bench.cluster.schedule import random_faults
from bench.cluster.simulation import Simulation

from asyncade_learner.learner import Learner
from builders import frame_from
from rigs.cluster import CATCH

COSTS = {
    "actor": {"environment": {"1": 0.001, "2": 0.002}, "inference": {"1": 0.001}},
    "learner": {"forward_backward": {"8": 0.0005}, "publish": {"1": 0.001}},
}
"""Seconds; invented. An actor of two games plays an unroll of 8 steps in 24 ms."""

SETTINGS = {
    **CATCH,
    "calibration_env_steps": 0,
    "checkpoint_seconds": 1e9,
    "patience_seconds": 0.5,
}
UNROLL_S = 8 * 0.003


def run(folder: Path, env_steps: int, actors: int = 4, **changes: Any) -> Cluster:
    """Runs a cluster of actors with two games until so many env steps are played."""
    faults = changes.pop("faults", Faults())
    settings = SETTINGS | {"run_dir": folder} | changes
    plan = Plan(actors=actors, envs=2, settings=settings, costs=COSTS, faults=faults)
    cluster = Cluster(plan, folder)
    cluster.run(lambda learner: learner.progress.env_steps >= env_steps)
    return cluster


# --- the clock -----------------------------------------------------------------------------------


def test_processes_take_turns_in_order_of_time() -> None:
    simulation, log = Simulation(), list[tuple[str, float]]()

    def work(name: str, seconds: float) -> None:
        for _ in range(2):
            simulation.sleep(seconds)
            log.append((name, simulation.now))

    simulation.start("slow", lambda: work("slow", 3.0))
    simulation.start("fast", lambda: work("fast", 2.0))
    simulation.run()
    assert log == [("fast", 2.0), ("slow", 3.0), ("fast", 4.0), ("slow", 6.0)]


def test_a_wait_ends_when_woken_or_when_its_time_is_over() -> None:
    simulation, waiting, log = Simulation(), [], list[float]()  # type: ignore[var-annotated]

    def wait() -> None:
        for _ in range(2):
            simulation.wait(waiting, 5.0)
            log.append(simulation.now)

    simulation.start("waiting", wait)
    simulation.at(1.0, lambda: simulation.wake(waiting))
    simulation.run()
    assert log == [1.0, 6.0]  # the first timeout, at 5, is void


def test_a_paused_process_goes_on_later_and_a_killed_one_never() -> None:
    simulation, log = Simulation(), list[tuple[str, float]]()

    def work(name: str) -> None:
        while True:
            simulation.sleep(1.0)
            log.append((name, simulation.now))

    paused, killed = (simulation.start(name, lambda n=name: work(n)) for name in ("p", "k"))  # type: ignore[misc]
    simulation.at(1.5, lambda: simulation.pause(paused, 5.0))
    simulation.at(2.5, lambda: simulation.kill(killed))
    simulation.at(6.5, simulation.stop)
    simulation.run()
    assert log == [("p", 1.0), ("k", 1.0), ("k", 2.0), ("p", 5.0), ("p", 6.0)]
    assert not killed.alive


# --- links and costs -----------------------------------------------------------------------------


def test_frames_to_many_subscribers_queue_at_the_learners_link() -> None:
    simulation = Simulation()
    network = Network(simulation, rate=100.0, latency=0.5)
    arrivals = list[float]()

    def listen() -> None:
        subscriber = network.subscriber()
        assert subscriber.latest(60.0) is not None
        arrivals.append(simulation.now)

    for _ in range(3):
        simulation.start("actor", listen)
    simulation.start("learner", lambda: Publisher(network).publish(b"x" * 100))
    simulation.run()
    assert arrivals == [1.5, 2.5, 3.5]


def test_a_frame_arrives_after_its_time_on_the_link() -> None:
    simulation = Simulation()
    network = Network(simulation, rate=100.0, latency=0.5)
    found = list[tuple[bytes | None, float]]()

    def learn() -> None:
        for timeout_s in (1.0, 1.0):
            found.append((frame_from(Inbox(network), timeout_s), simulation.now))

    simulation.start("learner", learn)
    simulation.start("actor", lambda: network.outbox().send(b"x" * 100, 0.0) and None)
    simulation.run()
    assert found == [(None, 1.0), (b"x" * 100, 1.5)]


@pytest.mark.parametrize(
    ("amount", "seconds"), [(1, 1.0), (2, 2.0), (3, 2.5), (4, 3.0), (6, 4.0), (0, 0.0)]
)
def test_costs_lie_on_the_lines_between_what_was_measured(amount: int, seconds: float) -> None:
    assert cost({"play": {"1": 1.0, "2": 2.0, "4": 3.0}}, "play", amount) == seconds


def test_a_stage_with_one_figure_always_costs_it_and_an_unknown_one_nothing() -> None:
    assert cost({"publish": {"1": 0.5}}, "publish", 7) == 0.5
    assert cost({}, "publish", 7) == 0.0


def test_a_record_has_the_median_of_each_stage_and_amount() -> None:
    times = iter([0.0, 0.0, 0.0, 1.0, 1.0, 4.0, 4.0, 6.0, 6.0])
    record = Record(lambda: next(times))
    for amount in (8, 8, 8, 2):
        record.enter("actor/inference", amount)
    assert record.table() == {"actor/inference": {"8": 2.0}}  # of 1, 3, 2; the last goes on


# --- clusters ------------------------------------------------------------------------------------


def test_a_seed_gives_one_result_bit_for_bit(tmp_path: Path) -> None:
    def trace(name: str) -> tuple[float, int, list[float]]:
        cluster = run(tmp_path / name, 1_000)
        learner = cluster.learner
        sums = [float(p.detach().double().sum()) for p in learner.trainer.network.parameters()]
        return cluster.simulation.now, learner.progress.env_steps, sums

    assert trace("one") == trace("two")


def test_actors_with_their_own_cores_play_side_by_side(tmp_path: Path) -> None:
    """The learner is fast here, so four actors play nearly four times what one plays."""
    seconds = [run(tmp_path / str(n), 1_000, n).simulation.now for n in (1, 4)]
    assert 3.0 < seconds[0] / seconds[1] <= 4.0


def test_a_slow_actor_costs_no_more_than_its_own_share(tmp_path: Path) -> None:
    """Late in every round, it would hold up the others ten times as long."""
    quiet = run(tmp_path / "quiet", 2_000).simulation.now
    slow = run(tmp_path / "slow", 2_000, faults=Faults(slow={0: 10.0}))
    assert slow.simulation.now < 4 / 3 * 1.15 * quiet
    assert slow.learner.rounds.late(slow.simulation.now) == {"actor-0-1"}


@pytest.mark.parametrize(
    "faults",
    [Faults(stopped=((0, 0.3, 1e9),)), Faults(killed=((0, 0.3, 1e9),))],
    ids=["stopped", "killed"],
)
def test_an_actor_that_falls_silent_costs_no_more_than_its_own_share(
    tmp_path: Path, faults: Faults
) -> None:
    quiet = run(tmp_path / "quiet", 2_000).simulation.now
    assert run(tmp_path / "one-less", 2_000, faults=faults).simulation.now < 4 / 3 * 1.15 * quiet


def test_a_stopped_actor_that_goes_on_plays_its_part_again(tmp_path: Path) -> None:
    cluster = run(tmp_path, 3_000, faults=Faults(stopped=((0, 0.3, 0.9),)))
    assert cluster.learner.rounds.late(cluster.simulation.now) == set()
    assert len(cluster.learner.intake.roster) == 4


def test_a_restarted_learner_goes_on_with_its_actors(tmp_path: Path) -> None:
    versions = list[int]()

    def over(learner: Learner) -> bool:
        versions.append(learner.progress.policy_version)
        return learner.progress.env_steps >= 2_000

    settings = SETTINGS | {"run_dir": tmp_path, "checkpoint_seconds": 0.35}
    faults = Faults(restarts=((0.5, 0.3),))
    cluster = Cluster(
        Plan(actors=2, envs=2, settings=settings, costs=COSTS, faults=faults), tmp_path
    )
    cluster.run(over)
    assert cluster.learner.progress.env_steps >= 2_000
    assert any(later < earlier for earlier, later in pairwise(versions))


def test_lost_frames_stop_nothing(tmp_path: Path) -> None:
    cluster = run(tmp_path, 2_000, faults=Faults(lost=0.3, seed=1))
    assert cluster.learner.progress.env_steps >= 2_000
    assert cluster.learner.telemetry.metrics.lost._value.get() > 0
    assert len(cluster.learner.intake.roster) == 4


def test_random_faults_are_repeated_bit_for_bit(tmp_path: Path) -> None:
    """Deaths, pauses, losses and restarts, so dense that a short run has some of each."""
    faults = random_faults(5, actors=4, every_s=0.2)
    faults = replace(faults, restarts=((0.6, 0.2), (1.4, 0.3)))

    def trace(name: str) -> tuple[float, int, int, list[float]]:
        cluster = run(tmp_path / name, 1_500, checkpoint_seconds=0.3, faults=faults)
        learner = cluster.learner
        sums = [float(p.detach().double().sum()) for p in learner.trainer.network.parameters()]
        repeated = cluster.repeated_env_steps
        return cluster.simulation.now, learner.progress.env_steps, repeated, sums

    one = trace("one")
    assert one[0] > 1.4  # both restarts happened
    assert one == trace("two")


def test_a_seed_draws_its_own_faults() -> None:
    one, other = (random_faults(seed, actors=4, every_s=5.0) for seed in (1, 2))
    assert one == random_faults(1, actors=4, every_s=5.0)
    assert one != other
    assert {actor for actor, _, _ in one.killed} == {0, 1, 2, 3}
    times = [time for time, _ in one.restarts]
    assert all(later - earlier >= 5.0 for earlier, later in pairwise(times))


def test_new_actors_share_the_play(tmp_path: Path) -> None:
    """The batch keeps its samples: with four actors of two games, not with one."""
    late = Faults(joining={1: 0.5, 2: 0.5, 3: 0.5})
    cluster = run(tmp_path, 2_000, faults=late)
    assert len(cluster.learner.intake.roster) == 4


# --- statistics ----------------------------------------------------------------------------------


def test_the_ratio_of_geometric_means_has_welchs_interval() -> None:
    found = ratio([2.0, 4.0, 8.0], [1.0, 2.0, 4.0])
    # ln 2, plus and minus t(0.95; 4) = 2.132 times sqrt(2/3) ln 2
    assert found == pytest.approx((2.0, 0.598, 6.69), rel=0.01)


def test_equal_runs_have_no_interval() -> None:
    assert ratio([3.0, 3.0], [1.5, 1.5]) == (2.0, 2.0, 2.0)
