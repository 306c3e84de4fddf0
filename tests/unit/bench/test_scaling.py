"""Arithmetic of unit costs and of what the model is held against; fan-in and fan-out for real."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from bench import crowding, fanin, fanout, relay, scaling, table, unit_costs
from bench.report import MODES, write_result
from bench.runs import RunFailedError
from bench.turns import CostsInTurn
from bench.unit_costs import costs_of, line, time_broadcast
from bench.work import Workshop

from asyncade_cli.plan_costs import Costs, is_time, read_costs
from asyncade_cli.plan_model import Mode, Round, Setup, round_of
from asyncade_cli.settings import actors_for_this_machine
from asyncade_learner.phases import Trainer, learning_phase
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Weights
from asyncade_runtime.cores import available_cores


def test_a_line_goes_through_both_points_and_below_zero_nowhere() -> None:
    assert line(3.0, 10.0, 1, 8) == (2.0, 1.0)
    assert line(3.0, 2.0, 1, 8) == (3.0, 0.0)  # noise: more cannot cost less
    assert line(1.0, 80.0, 1, 8)[0] == 0.0


def test_costs_come_from_pieces() -> None:
    pieces = {
        "unroll": 100.0,
        "passes": 4.0,
        "play": 1.1e-3,
        "inference": 1e-4,
        "encode": 5.0,
        "update": 2e-3,
        "publish": 2.0,
        "takeover": 1.0,
        "average_few": 5.0,
        "average_many": 19.0,
        "turns_few": 3.0,
        "turns_many": 11.8,
        "calls_few": 2.0,
        "calls_many": 10.0,
        "trajectory_bytes": 5_000.0,
        "gradient_bytes": 7.0,
    }
    alone = {
        "update_one_thread": 3.0,
        "update_threads": 2.0,
        "play_one_thread": 5.0,
        "play_threads": 3.5,
        "play_without_emulators": 1.0,
        "threads": 2.0,
        "gradient_send": 0.5,
        "gradient_intake": 0.6,
        "gradient_transfer": 0.8,
        "broadcast_byte": 1e-10,
        "send_message": 1e-5,
        "send_byte": 2e-10,
        "receive_message": 3e-5,
        "receive_byte": 4e-10,
        "weights_bytes": 20.0,
        "intake": 1e-5,
    }
    found = costs_of(pieces, alone)
    assert set(found) == set(Costs.__dataclass_fields__) - {"actor_crowding", "gradient_crowding"}
    assert found["environment"] == pytest.approx(1e-3)  # play, less inference
    assert (found["publish"], found["takeover"]) == (2.0, 1.0)
    assert found["optimise"] == 3.0
    assert found["average"] == 2.0
    assert found["gradient_call"] == pytest.approx(1.1 - 1.0)  # taking over is a piece itself
    assert found["gradient_work"] == pytest.approx(0.8 / 100 - 1.1e-3)  # and so is play
    assert found["encode"] == 0.05
    assert (found["thread_speedup"], found["environment_speedup"]) == (1.5, 1.6)
    assert found["trajectory_bytes"] == 50.0
    assert {name: found[name] for name in alone if name in found} == {
        name: alone[name] for name in alone if name in found
    }


def test_a_broadcast_costs_so_much_per_message_and_per_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measure(subscribers: int, frames: fanout.Frames, seconds: float) -> dict[str, float]:
        size = len(frames(0))
        return {
            "cpu_seconds": 4.0 * size + subscribers * (5.0 + 2.0 * size),
            "receivers_cpu_seconds": subscribers * (7.0 + 3.0 * size),
        }

    monkeypatch.setattr(fanout, "measure", measure)
    found = time_broadcast((10, 30), 0.1)
    # The small message's broadcast counts as its receivers' work: it is next to nothing.
    assert found.pop("send_message") + 10 * found["send_byte"] == pytest.approx(25 + 40 / 8)
    assert found.pop("send_byte") == pytest.approx(1.75)
    assert found == {
        "broadcast_byte": 4.0,
        "receive_message": 7.0,
        "receive_byte": 3.0,
    }


def test_costs_of_a_turn_are_the_medians_as_slow_as_the_machine_was() -> None:
    measured = iter(
        [
            {"update": 1.0, "encode": 10.0, "passes": 4.0, "weights_bytes": 7.0},
            {"update": 2.0, "encode": 20.0, "passes": 4.0, "weights_bytes": 7.0},
            {"update": 6.0, "encode": 60.0, "passes": 4.0, "weights_bytes": 7.0},
        ]
    )
    turns = CostsInTurn(lambda: next(measured))
    assert turns.around(lambda: "first") == ("first", 0)
    assert turns.around(lambda: "second") == ("second", 1)
    assert turns.median() == {"update": 2.0, "encode": 20.0, "passes": 4.0, "weights_bytes": 7.0}
    assert turns.slowness(0) == pytest.approx(0.75)
    assert turns.slowness(1) == pytest.approx(2.0)
    expected = {"update": 4.0, "encode": 40.0, "passes": 4.0, "weights_bytes": 7.0}
    assert turns.costs(1) == pytest.approx(expected)


def test_one_cost_measured_wrong_moves_the_others_little() -> None:
    usual = {f"cost-{number}": 1.0 for number in range(20)}
    turns = CostsInTurn(iter([usual, usual, usual | {"cost-3": 4.0}]).__next__)
    for _ in range(2):
        turns.around(lambda: None)
    assert 1.0 < turns.costs(1)["cost-5"] < 1.06


def test_a_cost_that_came_out_as_nothing_says_nothing() -> None:
    costs = {"update": 1.0, "gradient_work": 0.0, "average": 1.0}
    late = [costs | {"update": 2.0, "average": 0.0}, costs | {"average": 0.0}]
    turns = CostsInTurn(iter([costs, costs, costs, *late]).__next__)
    for _ in range(4):
        turns.around(lambda: None)
    assert turns.slowness(0) == pytest.approx(1.0)
    assert turns.slowness(3) == pytest.approx(1.5)


@pytest.mark.parametrize("loaded", [False, True])
def test_a_point_is_held_against_the_model_with_its_own_costs(loaded: bool) -> None:
    usual = vars(read_costs().costs)
    crowded = {name: usual[name] for name in usual if name.endswith("crowding")}
    usual = {name: cost for name, cost in usual.items() if name not in crowded}
    slow = {name: cost * (2 if is_time(name) else 1) for name, cost in usual.items()}
    turns = CostsInTurn(iter([usual, usual, usual, slow, slow]).__next__)
    for _ in range(4):
        turns.around(lambda: None)
    point = {"mode": "data", "actors": 2, "updates_per_second": 10.0} | (
        {"envs": 8} if loaded else {}
    )
    quick, late = (
        scaling.against_model(turns, crowded, point | {"turn": turn}, loaded) for turn in (0, 3)
    )
    assert "turn" not in quick
    assert quick["measured"] == late["measured"] == 10.0 / 32 * 2 * 512
    assert late["model"] == pytest.approx(quick["model"] / 2)
    assert late["slowness"] == pytest.approx(2.0)


def test_a_workshop_of_more_actors_cuts_gradients_smaller() -> None:
    few, many = (Workshop("gradients", "catch", 1, actors) for actors in (1, 8))
    assert (few.actors, many.actors) == (1, 8)
    for shop in (few, many):
        setup = Setup(mode="gradients", envs=shop.envs)
        assert shop.gradients_per_unroll == setup.gradients_per_unroll(shop.actors)


class Clock:
    """Time that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


def test_rates_are_from_one_batch_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(scaling, "time", clock)
    # Batches of 8 updates end at 1.5 s, 4.5 s, 7.5 s: between 0 and 5 s that is 16 in 5 s.
    rate = scaling.updates_per_second(lambda: 8.0 * ((clock.now + 1.5) // 3), 2.0)
    assert rate == pytest.approx(8 / 3, rel=0.05)
    with pytest.raises(RunFailedError, match="no two updates"):
        scaling.updates_per_second(lambda: 5.0, 2.0, timeout_s=10.0)


@pytest.mark.parametrize("actors", [1, 3])
def test_updates_of_a_round_are_those_of_the_learner(actors: int) -> None:
    shop = Workshop("data", "catch", 1, actors)
    from prometheus_client import CollectorRegistry

    from asyncade_learner.metrics import LearnerMetrics

    trainer = Trainer(shop._network(), shop.settings, LearnerMetrics(CollectorRegistry()).stages)
    phase = learning_phase(trainer)
    for message in shop.record()[:actors]:
        phase.add(message)
    expected = scaling.updates_per_round(Setup(mode="data", envs=shop.envs), actors)
    assert phase.improve(1.0).updates == expected


def test_synthetic_actors_hide_their_sending_behind_the_learner() -> None:
    costs = read_costs().costs
    one = scaling.loaded_round(costs, Setup(mode="data", shared_cores=2), 16)
    assert one.hidden == min(one.actor, one.learner)
    longest = max(one.actor, one.learner) + one.sending
    assert one.seconds == pytest.approx(max(longest, one.core_seconds / 2))


def test_synthetic_gradients_take_what_they_took_between_two_processes() -> None:
    costs = read_costs().costs
    few, many = (
        scaling.loaded_round(costs, Setup(mode="gradients", shared_cores=2), actors)
        for actors in (16, 48)
    )
    each = (many.seconds - few.seconds) / 32
    sent = max(costs.gradient_transfer - costs.gradient_intake, 0.0)
    crowded = costs.gradient_crowding * (costs.gradient_intake + costs.average)
    assert each == pytest.approx(sent + crowded)


def test_crowding_is_what_runs_take_over_what_their_pieces_take() -> None:
    costs = dict(vars(read_costs().costs))
    for name in ("actor_crowding", "gradient_crowding"):
        del costs[name]
    actors = actors_for_this_machine()

    def rounds(**crowded: float) -> list[Round]:
        cores: dict[Mode, int] = {"data": actors, "gradients": available_cores()}
        setups = (Setup(mode=mode, shared_cores=cores[mode]) for mode in MODES)
        return [round_of(Costs(**costs, **crowded), setup, actors) for setup in setups]

    data, gradients = rounds(actor_crowding=1.0, gradient_crowding=1.0)
    measured: dict[Mode, float] = {
        "data": 1.1 * data.actor,
        "gradients": 1.25 * gradients.core_seconds,
    }
    found = crowding.crowding(costs, measured)
    assert found == pytest.approx({"actor_crowding": 1.1, "gradient_crowding": 1.25})
    data, gradients = rounds(**found)
    assert data.actor == pytest.approx(measured["data"])
    assert gradients.core_seconds == pytest.approx(measured["gradients"])


def test_crowding_is_the_median_of_several_and_saves_nobody_time() -> None:
    measured = [
        {"actor_crowding": actors, "gradient_crowding": all_work}
        for actors, all_work in ((0.87, 1.3), (1.4, 1.2), (0.9, 9.0))
    ]
    assert crowding.typical(measured) == {"actor_crowding": 1.0, "gradient_crowding": 1.3}


def test_processor_time_of_a_round_is_of_the_processes_that_crowd() -> None:
    learner = {"cpu_seconds": 2.0, "updates": 100.0}
    actors = {
        "actor-0": {"cpu_seconds": 5.0, "messages_sent": 6.0},
        "actor-1": {"cpu_seconds": 4.0, "messages_sent": 4.0},
    }
    report = {"seconds": 9.0, "learner": learner, "actors": actors}
    assert crowding.per_round("gradients", report) == pytest.approx(0.11)
    assert crowding.per_round("data", report) == pytest.approx(0.9)
    for mode in MODES:
        with pytest.raises(RunFailedError, match="nothing was learned"):
            crowding.per_round(mode, {})


def test_threads_speed_up_emulators_and_not_the_network() -> None:
    alone = {"play_without_emulators": 1.0, "play_one_thread": 5.0}
    assert unit_costs._emulators_speedup(alone | {"play_threads": 3.0}) == pytest.approx(2.0)
    assert unit_costs._emulators_speedup(alone | {"play_threads": 6.0}) == 1.0  # noise


def test_gradients_reach_the_learner_and_are_timed_at_both_ends() -> None:
    shop = Workshop("gradients", "catch", 1)
    found = fanin.measure(encode(shop.record()[0]), 0.1)
    assert 0 < found["receive_cpu_seconds"] < 1
    assert 0 < found["send_cpu_seconds"] < 1
    assert 0 < found["transfer_seconds"] < 1


@contextlib.contextmanager
def no_relay(address: str, relays: int) -> Iterator[Sequence[str]]:
    yield [address] * relays


@pytest.mark.parametrize("relays", [0, 2])
def test_every_subscriber_gets_every_frame(relays: int) -> None:
    found = fanout.measure(5, fanout.blank(10_000), 0.1, relays, no_relay)
    assert found["subscribers"] == 5
    assert found["relays"] == relays
    assert found["publications"] >= 3
    assert 0 < found["latency_seconds"] < 5


def test_frames_reach_subscribers_through_a_relay() -> None:
    found = fanout.measure(3, scaling.rising_weights("catch", 1), 0.1, 1, relay.relayed)
    assert found["publications"] >= 3


def test_a_lost_first_frame_is_made_up_for_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "_AGAIN_S", 0.3)
    published = fanout.ZmqPublisher.publish
    monkeypatch.setattr(fanout.ZmqPublisher, "welcome_joiners", lambda self: 0)  # loses it

    def lossy(self: fanout.ZmqPublisher, frame: bytes) -> None:
        if frame[0] != 0:
            published(self, frame)

    monkeypatch.setattr(fanout.ZmqPublisher, "publish", lossy)
    found = fanout.measure(2, fanout.blank(100), 0.1)
    assert found["publications"] >= 3
    assert found["latency_seconds"] > 0


def test_a_lost_frame_is_made_up_for_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the same again: a relay passes a version on once."""
    monkeypatch.setattr(fanout, "_AGAIN_S", 0.3)
    published = fanout.ZmqPublisher.publish
    numbers: list[int] = []

    def lossy(self: fanout.ZmqPublisher, frame: bytes) -> None:
        numbers.append(frame[0])
        if frame[0] != 2:
            published(self, frame)

    monkeypatch.setattr(fanout.ZmqPublisher, "publish", lossy)
    found = fanout.measure(2, fanout.blank(100), 0.1)
    later = [number for number in numbers if number > 0]  # whoever joins gets the first one again
    assert later[:4] == [1, 2, 3, 4]
    assert len(later) == len(set(later))
    assert found["publications"] == len(later) - 2  # the lost one, and its successor in its stead


def test_weights_rise_and_differ_in_one_byte() -> None:
    frames = scaling.rising_weights("catch", 1)
    one, other = decode(frames(1)), decode(frames(300))
    assert isinstance(one, Weights)
    assert isinstance(other, Weights)
    assert other.policy_version - one.policy_version == 299
    at = fanout._mark(frames)
    assert [frames(number)[at] for number in (0, 1, 255, 300)] == [0, 1, 255, 44]


def test_fan_out_is_measured_with_relays_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def measure(
        subscribers: int, frames: fanout.Frames, seconds: float, relays: int, start: Any
    ) -> dict[str, Any]:
        asked.append((subscribers, relays))
        return {"publications": 3, "cpu_seconds": 1.0, "latency_seconds": 2.0}

    monkeypatch.setattr(fanout, "measure", measure)
    turns = CostsInTurn(lambda: {"broadcast_byte": 0.0, "send_message": 1e-5, "send_byte": 2e-10})
    points = scaling.fan_outs(turns, fanout.blank(1_000))
    assert asked[: len(scaling.SUBSCRIBERS)] == [(count, 0) for count in scaling.SUBSCRIBERS]
    assert asked[-1] == (512, scaling.RELAYS)
    fewer = (
        points[-1]["cpu_seconds"]["model"]
        / points[len(scaling.SUBSCRIBERS) - 1]["cpu_seconds"]["model"]
    )
    assert fewer == pytest.approx(scaling.RELAYS / 512)


def test_the_tables_show_model_against_measurement(tmp_path: Path) -> None:
    assert scaling.point(200.0, 150.0)["error"] == -0.25
    result = {
        "command": "make bench-scaling",
        "commit": "abc",
        "cores": 2,
        "torch_threads": 1,
        "seed": 1,
        "train": [{"mode": "data", "actors": 2, **scaling.point(1000.0, 1100.0)}],
        "fanout": [
            {
                "subscribers": 4,
                "relays": 0,
                "cpu_seconds": scaling.point(0.004, 0.003),
                "latency_seconds": 0.005,
            }
        ],
    }
    write_result("scaling", result, tmp_path)
    text = scaling.table(result)
    assert "| asyncade train | data | 2 | 1,000 | 1,100 | +10% |" in text
    assert "| 4 | 0 | 4 | 3 | -25% | 5 |" in text
    short = table.tables(tmp_path)
    assert "| env steps/s, `asyncade train`, 1 to 8 actors | 1 of 1 | +10% | +10% |" in short
    assert "| CPU of a publication, 1 to 512 subscribers | 0 of 1 | -25% | -25% |" in short
    assert "`make bench-scaling` at abc, 2 cores" in short
    assert "Measured in parts" not in short
    write_result("scaling", result | {"origins": {"train": "x at y"}}, tmp_path)
    assert "Measured in parts: train: `x at y`." in table.tables(tmp_path)
