"""The arithmetic of asyncade plan, by hand on round numbers, and where it must not go."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest

from asyncade_cli.plan_costs import Costs
from asyncade_cli.plan_model import (
    MAX_ACTORS,
    SAMPLE_BYTES,
    Setup,
    actors_for,
    batch_bytes,
    highest_rate,
    leads,
    round_of,
    unit_costs,
)
from asyncade_cli.settings import TrainSettings
from asyncade_learner.settings import LearnerSettings
from asyncade_rl.batch import STACK
from asyncade_rl.games import FRAME_SIDE
from asyncade_rl.objective import minibatches_per_pass

ZERO: dict[str, float] = dict.fromkeys(Costs.__dataclass_fields__, 0.0)


def costs(**changed: float) -> Costs:
    """Costs that are all nothing but those that are named."""
    ratios = ("threads", "thread_speedup", "environment_speedup")
    ratios += ("actor_crowding", "gradient_crowding")
    return Costs(**ZERO | dict.fromkeys(ratios, 1.0) | {"passes": 4.0} | changed)


def setup(mode: Any = "data", **changed: Any) -> Setup:
    """Ten env steps an unroll; in gradient mode 4 gradients of it."""
    return Setup(**{"mode": mode, "envs": 2, "unroll_length": 5} | changed)


# An unroll of 10 env steps takes its actor 1 s and the learner 0.5 s.
PLAIN = costs(environment=0.1, update=0.05)


def test_with_one_message_in_flight_a_round_is_play_and_then_training() -> None:
    assert round_of(PLAIN, setup(), 1).seconds == pytest.approx(1 + 0.5)
    four = round_of(PLAIN, setup(), 4)
    assert four.seconds == pytest.approx(1 + 4 * 0.5)
    assert four.rate == pytest.approx(40 / 3)
    assert four.limit == "learner"
    assert four.learner_share == pytest.approx(2 / 3)


def test_with_two_in_flight_playing_and_training_overlap() -> None:
    assert round_of(PLAIN, setup(in_flight=2), 1).seconds == pytest.approx(1)
    assert round_of(PLAIN, setup(in_flight=2), 2).seconds == pytest.approx(1)
    assert round_of(PLAIN, setup(in_flight=2), 4).seconds == pytest.approx(2)
    # It is never slower than one, and endless credit cannot beat the slower side.
    assert round_of(PLAIN, setup(in_flight=100), 4).seconds == pytest.approx(2)


def test_half_of_the_way_bounds_two_in_flight() -> None:
    # Play, training, weights: 1 s each. Two messages on a way of 3 s: one is back every 1.5 s.
    dear = costs(environment=0.1, update=0.1, weights_bytes=100.0)
    seconds = [round_of(dear, setup(in_flight=k, link=100.0), 1).seconds for k in (1, 2, 3, 9)]
    assert seconds == pytest.approx([3, 1.5, 1, 1])


def test_gradient_mode_is_more_work_where_processes_fill_all_cores() -> None:
    dear = costs(environment=0.1, gradient_call=0.2, gradient_intake=0.3, gradient_crowding=1.5)

    def work(**changed: Any) -> float:
        return round_of(dear, setup("gradients", **changed), 2).core_seconds

    assert work(shared_cores=2) == pytest.approx(1.5 * work())
    assert work(shared_cores=3) == pytest.approx(1.5 * work())  # two actors and the learner
    assert work(shared_cores=4) == pytest.approx(work())
    data = round_of(dear, setup(shared_cores=2), 2).core_seconds
    assert data == round_of(replace(dear, gradient_crowding=1.0), setup(), 2).core_seconds


def test_actors_of_data_mode_are_slower_where_processes_fill_all_cores() -> None:
    crowded = replace(PLAIN, actor_crowding=1.5)
    alone, shared = (round_of(crowded, setup(shared_cores=cores), 2) for cores in (None, 2))
    assert (alone.actor, shared.actor) == pytest.approx((1.0, 1.5))
    assert alone.learner == shared.learner


def test_processes_on_one_machine_share_its_cores() -> None:
    # Four actors on two cores play for 2 s; then two threads train for 2 s / 1.6.
    shared = replace(PLAIN, threads=2.0, thread_speedup=1.6)
    one = round_of(shared, setup(shared_cores=2), 4)
    assert one.seconds == pytest.approx(2 + 2 / 1.6)
    # In gradient mode the learner takes a core from an actor, and the others wait for that one.
    work = costs(environment=0.1, gradient_work=0.1, optimise=0.3)
    busy = round_of(work, setup("gradients", shared_cores=2), 4)
    assert busy.seconds == pytest.approx(4 * 2.5 * 0.2 / 2 + 0.3)
    # With a core left over it hides behind play.
    free = round_of(work, setup("gradients", shared_cores=5), 4)
    assert free.seconds == pytest.approx(2.5 * 0.1 + 0.3)


def test_an_actor_with_cores_to_itself_steps_its_games_in_threads() -> None:
    threaded = replace(PLAIN, threads=2.0, environment_speedup=1.6)
    assert round_of(threaded, setup(shared_cores=2), 1).actor == pytest.approx(1 / 1.6)
    assert round_of(threaded, setup(shared_cores=64), 1).actor == pytest.approx(1 / 1.6)  # 2 games
    assert round_of(threaded, setup(shared_cores=2), 2).actor == pytest.approx(1)
    assert round_of(threaded, setup(), 1).actor == pytest.approx(1)
    assert TrainSettings(actors=3).env_threads(8) == 2
    one = round_of(threaded, Setup(mode="data", shared_cores=8), 3)
    assert one.actor == pytest.approx(51.2 / 1.6)


def test_no_round_is_shorter_than_its_work_over_the_cores() -> None:
    # With endless credit playing and training overlap; both have to have been done.
    one = round_of(PLAIN, setup(shared_cores=2, in_flight=100), 4)
    assert one.seconds == pytest.approx((4 * 1 + 4 * 0.5) / 2)
    assert one.limit == "cores"


def test_amdahls_law_goes_through_the_speed_up_that_was_measured() -> None:
    measured = replace(PLAIN, threads=2.0, thread_speedup=1.6)
    assert [measured.speedup(cores) for cores in (1, 2, 4)] == pytest.approx([1, 1.6, 1 / 0.4375])
    assert measured.speedup(10**6) == measured.speedup(16)  # torch gets no more threads
    assert replace(measured, thread_speedup=0.9).speedup(4) == 1


def test_a_device_takes_the_place_of_the_learners_cores_but_not_of_its_intake() -> None:
    dear = replace(PLAIN, intake=0.01)
    assert round_of(dear, setup(device_speedup=10.0), 1).learner == pytest.approx(0.05 + 0.1)
    assert highest_rate(dear, setup(device_speedup=1e9)) <= 1 / 0.01


def test_the_link_carries_weights_to_everybody_and_unrolls_from_them() -> None:
    moving = costs(trajectory_bytes=10.0, weights_bytes=1000.0)
    one = round_of(moving, setup(link=100.0), 3)
    assert (one.up, one.link_down) == pytest.approx((3 * 100 / 100, 3 * 1000 / 100))
    assert (one.bytes_up, one.bytes_down, one.bytes_down_all) == (300, 3000, 3000)
    assert one.limit == "link"
    shared = round_of(replace(moving, environment=1.0), setup(shared_cores=2), 3)
    assert shared.up == shared.link_down == 0  # loopback is no link


def test_weights_go_to_relays_once_and_on_from_there() -> None:
    moving = costs(trajectory_bytes=10.0, weights_bytes=1000.0, send_message=1.0)
    one = round_of(moving, setup(link=100.0, actors_per_relay=4), 10)
    assert one.bytes_down == 3 * 1000
    assert one.bytes_down_all == 10 * 1000
    assert one.bytes_up == 10 * 100  # data mode's intake is none the smaller
    assert one.link_down == pytest.approx((3 + 4) * 10)
    assert one.sending == pytest.approx(3 + 4)


def test_in_gradient_mode_play_hides_the_way_of_the_gradient() -> None:
    # Per message of 2.5 env steps: 0.25 s of play, 0.5 s of gradient; the learner 0.1 s for each.
    work = costs(environment=0.1, gradient_work=0.2, gradient_intake=0.1)
    assert round_of(work, setup("gradients"), 1).seconds == pytest.approx(0.75)
    assert round_of(work, setup("gradients"), 2).seconds == pytest.approx(0.75)
    assert round_of(work, setup("gradients"), 10).seconds == pytest.approx(0.5 + 1.0)
    assert round_of(work, setup("gradients"), 10).limit == "learner"


def test_with_relays_the_learner_takes_one_gradient_of_each() -> None:
    work = costs(gradient_intake=0.1, average=0.1, gradient_bytes=100.0, optimise=0.05)
    one = round_of(work, setup("gradients", link=100.0, actors_per_relay=5), 20)
    assert one.learner == pytest.approx(4 * 0.2 + 0.05)
    assert one.relaying == pytest.approx(5 * 0.2)
    assert one.up == pytest.approx(4 + 5)
    assert one.bytes_up == 400


@pytest.mark.parametrize("actors", [1, 2, 3, 4, 8, 9, 64, 1000])
@pytest.mark.parametrize("minibatch", [None, 20, 4096])
def test_gradients_are_cut_as_the_learner_and_its_actors_cut_them(
    actors: int, minibatch: int | None
) -> None:
    settings = LearnerSettings(mode="gradients", minibatch_size=minibatch)  # type: ignore[call-arg]
    objective = settings.objective_at(1.0, actors)
    usual = Setup(mode="gradients", minibatch_size=minibatch)
    expected = objective.passes * minibatches_per_pass(usual.unroll, objective)
    assert usual.gradients_per_unroll(actors) == expected
    assert usual.env_steps_per_message(actors) == usual.unroll / expected


def test_defaults_are_those_of_the_services() -> None:
    settings = LearnerSettings()  # type: ignore[call-arg]
    assert Setup(mode="data").unroll_length == settings.unroll_length
    assert Setup(mode="data").in_flight == settings.messages_in_flight
    assert SAMPLE_BYTES == FRAME_SIDE**2 * STACK * 2
    assert batch_bytes(setup(), 3) == 30 * SAMPLE_BYTES
    assert batch_bytes(setup("gradients"), 3) is None


REAL = costs(
    environment=3e-4,
    inference=1e-4,
    intake=9e-6,
    update=6e-4,
    gradient_work=5e-4,
    gradient_call=1e-3,
    gradient_intake=2e-4,
    average=5e-4,
    optimise=1e-3,
    publish=5e-4,
    takeover=5e-4,
    broadcast_byte=1e-10,
    send_byte=4e-10,
    receive_byte=4e-10,
    trajectory_bytes=50.0,
    gradient_bytes=2.7e6,
    weights_bytes=2.7e6,
)


@pytest.mark.parametrize("mode", ["data", "gradients"])
@pytest.mark.parametrize(
    "name", ["environment", "takeover", "publish", "send_byte", "broadcast_byte"]
)
def test_what_costs_more_is_no_faster(mode: Any, name: str) -> None:
    dearer = replace(REAL, **{name: 10 * getattr(REAL, name)})
    for actors in (1, 2, 8, 100):
        at = Setup(mode=mode, link=1.25e9)
        limit = round_of(REAL, at, actors).rate * (1 + 1e-9)
        assert round_of(dearer, at, actors).rate <= limit


def test_more_actors_are_no_slower_in_data_mode() -> None:
    for at in (Setup(mode="data"), Setup(mode="data", link=1.25e8, in_flight=2)):
        rates = [round_of(REAL, at, actors).rate for actors in range(1, 300)]
        assert all(one <= other * (1 + 1e-9) for one, other in itertools.pairwise(rates))


def test_the_fewest_actors_reach_a_rate_and_one_fewer_does_not() -> None:
    at = Setup(mode="data", device_speedup=20.0)
    needed = actors_for(REAL, at, 10_000)
    assert needed is not None
    assert round_of(REAL, at, needed).rate >= 10_000 > round_of(REAL, at, needed - 1).rate
    assert actors_for(REAL, at, 1e9) is None
    assert highest_rate(REAL, at) < 1e9
    assert round_of(REAL, at, MAX_ACTORS).rate <= highest_rate(REAL, at)


def test_gradient_mode_leads_where_its_rate_is_higher() -> None:
    # Data mode: 10 N / (1 + 0.5 N); gradient mode: N / 0.16. They meet at N = 1.2.
    work = costs(environment=0.1, update=0.05, gradient_work=0.06)
    assert leads(work, setup(), setup("gradients")) == [(2, MAX_ACTORS)]
    # The link carries one gradient in 0.1 s, for 2.5 env steps: 25 of them a second at most. Data
    # mode comes to that when 10 N / (1 + 0.2 N) does: at N = 5.
    work = costs(environment=0.1, update=0.02, gradient_bytes=10.0)
    ranges = leads(work, setup(link=100.0), setup("gradients", link=100.0))
    assert ranges == [(1, 4)]
    assert leads(costs(environment=0.1, gradient_work=1.0), setup(), setup("gradients")) == []


def test_costs_per_env_step_are_those_of_compare() -> None:
    units = unit_costs(PLAIN, setup(), 4)
    assert (units.actor, units.learner) == pytest.approx((0.1, 0.05))
    assert units.saturating_actors == pytest.approx(2)
    # With endless credit and no link the round comes to compare's formula.
    endless = round_of(PLAIN, setup(in_flight=1000), 4)
    assert endless.rate == pytest.approx(units.rate(4))
    assert math.isinf(setup().link)
