"""What the benchmarks compute from what they measure."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from bench import scrape
from bench.ceiling import ceiling, core_seconds_of, summed_up
from bench.clock import cost_of
from bench.games import above_random, described, random_play
from bench.intake import consumed
from bench.pipeline import LAG, LATENCY, against, distributions, held_against, shown_counts
from bench.pipeline import table as pipeline_table
from bench.runs import COLUMNS, efficiency, metrics_port, rate_between, thinned
from bench.time_to_target import medians
from bench.wire import parts, per_env_step
from prometheus_client import CollectorRegistry, Histogram, generate_latest

# --- ceiling and efficiency -----------------------------------------------------------------


def test_the_ceiling_is_cores_over_the_sum_of_the_work() -> None:
    assert ceiling({"environment": 0.5e-3, "update": 1.5e-3}, 2) == pytest.approx(1000)
    assert ceiling({"environment": 0.5e-3, "update": 1.5e-3}, 8) == pytest.approx(4000)


@pytest.mark.parametrize("work", [{}, {"environment": 0.0}, {"environment": math.nan}])
def test_no_work_has_no_ceiling(work: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        ceiling(work, 2)


def test_costs_are_per_env_step_and_inference_is_counted_once() -> None:
    costs = {
        "inference": {"seconds": 0.2, "env_steps": 100},
        "gradient": {"seconds": 1.0, "env_steps": 100},  # of it 0.2 are the inference
        "decode": {"seconds": 0.1, "env_steps": 10},
    }
    assert core_seconds_of(costs) == pytest.approx(
        {"inference": 0.002, "gradient": 0.008, "decode": 0.01}
    )


def test_what_a_piece_costs_is_the_median_over_the_turns() -> None:
    def turn(environment: float, update: float) -> dict[str, dict[str, Any]]:
        alone = {"environment": environment, "update": update}
        busy = {name: 2 * seconds for name, seconds in alone.items()}
        shares = dict.fromkeys(alone, 1.0)
        return {"data": {"alone": alone, "all_busy": busy, "cpu_shares": shares, "passes": 4.0}}

    found = summed_up([turn(1e-3, 9e-3), turn(5e-3, 3e-3), turn(2e-3, 2e-3)], cores=2)["data"]
    assert found["core_seconds_per_env_step"] == {"environment": 2e-3, "update": 3e-3}
    assert found["ceiling"] == pytest.approx(400)
    assert found["ceiling_all_cores_busy"] == pytest.approx(200)
    assert found["ceilings_of_turns"] == [200.0, 250.0, 500.0]
    assert found["update_samples_per_second"] == pytest.approx(4 / 3e-3)


def test_efficiency() -> None:
    assert efficiency(900, 1000) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="ceiling"):
        efficiency(900, 0)


def mode(rate: float) -> dict[str, Any]:
    return {"env_steps_per_second": rate}


def test_modes_are_held_against_their_own_ceilings_and_each_other() -> None:
    limits = {
        "data": {"ceiling": 2000.0, "ceiling_all_cores_busy": 1600.0},
        "gradients": {"ceiling": 1000.0, "ceiling_all_cores_busy": 800.0},
    }
    found = against({"data": mode(1200), "gradients": mode(600)}, {"modes": limits})
    assert found["modes"]["data"]["efficiency"] == pytest.approx(0.6)
    assert found["modes"]["data"]["efficiency_all_cores_busy"] == pytest.approx(0.75)
    assert found["modes"]["gradients"]["efficiency"] == pytest.approx(0.6)
    assert found["gradients_over_data"] == pytest.approx(0.5)
    assert against({"data": mode(1)}, {"modes": limits})["gradients_over_data"] is None


def test_playing_ahead_is_a_row_of_its_own_against_the_ceiling_of_data_mode() -> None:
    of_data = {"ceiling": 2000.0, "ceiling_all_cores_busy": 1600.0}
    others = {
        "bytes_per_env_step": 50,
        "policy_lag_counts": {"1": 3.0},
        "weights_latency_seconds": None,
    }
    result = against({"data": mode(1200) | others}, {"modes": {"data": of_data}})
    assert "ahead" not in pipeline_table(result)
    ahead = held_against(mode(1500) | others, of_data)
    text = pipeline_table(result | {"ahead": ahead})
    assert "| data, actors ahead | 1,500 | 2,000 | 0.75 | 0.938 | 50 | 1: 100% | - |" in text


def test_a_cost_is_of_one_call_and_the_first_is_not_counted() -> None:
    calls = itertools.count()
    cost = cost_of(lambda: next(calls), 0.005)
    assert next(calls) == cost.calls + 1
    assert cost.seconds > 0


# --- rows of a run --------------------------------------------------------------------------


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {"seconds": 2.0 * n, "env_steps": 100 * n, "mean_return_100": None, "other": "x"}
        for n in range(count)
    ]


def test_a_rate_is_of_what_lies_between_two_rows() -> None:
    found = rows(5)
    assert rate_between(found[1], found[4]) == pytest.approx(50)
    with pytest.raises(ValueError, match="no time"):
        rate_between(found[1], found[1])


@pytest.mark.parametrize("count", [1, 59, 60, 61, 200, 1000])
def test_thinning_keeps_the_ends_and_the_order(count: int) -> None:
    thin = thinned(rows(count), 60)
    assert len(thin) == min(count, 60)
    assert (thin[0]["seconds"], thin[-1]["seconds"]) == (0, 2.0 * (count - 1))
    times = [row["seconds"] for row in thin]
    assert times == sorted(set(times))
    assert list(thin[0]) == list(COLUMNS)


def test_the_port_is_the_last_that_a_log_tells() -> None:
    line = "2026-01-01 [info     ] up                  learner=tcp://a:1 metrics_port={}\n"
    assert metrics_port("startup metrics_port=1\n" + line.format(4001)) == 4001
    assert metrics_port(line.format(4001) + "down\n" + line.format(4002)) == 4002
    assert metrics_port("nothing") is None


def test_a_learner_under_load() -> None:
    first = {
        "seconds": 10.0,
        "env_steps": 1000,
        "updates": 10,
        "messages_dropped": 1,
        "policy_version": 3,
    }
    last = {
        "seconds": 14.0,
        "env_steps": 9000,
        "updates": 50,
        "messages_dropped": 3,
        "policy_version": 9,
        "policy_lag_mean": 1.0,
        "active_actors": 4,
        "stage_shares": {},
    }
    found = consumed(first, last)
    assert found["env_steps_per_second"] == pytest.approx(2000)
    assert found["updates_per_second"] == pytest.approx(10)
    assert (found["messages_dropped"], found["publications"]) == (2, 6)


# --- histograms from a page -----------------------------------------------------------------


def page(name: str, observations: list[float], buckets: tuple[float, ...]) -> str:
    registry = CollectorRegistry()
    histogram = Histogram(name, "A histogram.", buckets=buckets, registry=registry)
    for value in observations:
        histogram.observe(value)
    return generate_latest(registry).decode()


def test_a_quantile_is_linear_within_its_bucket() -> None:
    text = page("latency_seconds", [0.005] * 5 + [0.015] * 5, (0.01, 0.02, 0.04))
    found = scrape.histogram(text, "latency_seconds")
    assert found == {0.01: 5, 0.02: 10, 0.04: 10, math.inf: 10}
    assert scrape.quantile(found, 0.25) == pytest.approx(0.005)
    assert scrape.quantile(found, 0.5) == pytest.approx(0.01)
    assert scrape.quantile(found, 0.75) == pytest.approx(0.015)
    assert scrape.quantile(found, 1.0) == pytest.approx(0.02)


def test_a_quantile_beyond_the_last_bound_is_at_least_that() -> None:
    found = scrape.histogram(page("x", [9.0], (1.0, 2.0)), "x")
    assert scrape.quantile(found, 0.5) == 2.0


def test_no_observations_have_no_quantile() -> None:
    assert scrape.quantile(scrape.histogram(page("x", [], (1.0,)), "x"), 0.5) is None
    assert scrape.histogram(page("x", [1.0], (1.0,)), "y") is None
    assert scrape.quantile(None, 0.5) is None


def test_counts_are_per_bucket_and_empty_ones_are_left_out() -> None:
    found = scrape.histogram(page("lag", [0, 1, 1, 1, 40], (0, 1, 2, 4)), "lag")
    assert found is not None
    assert scrape.counts(found) == {"0": 1, "1": 3, "inf": 1}
    assert shown_counts(scrape.counts(found)) == "0: 20%, 1: 60%, inf: 20%"


def test_only_what_was_observed_between_two_readings_counts() -> None:
    def read(values: list[float]) -> dict[float, float]:
        found = scrape.histogram(page("x", values, (1.0, 2.0)), "x")
        assert found is not None
        return found

    before = {f"{LATENCY} a": read([0.5] * 10), f"{LAG} l": read([1, 1])}
    after = {
        f"{LATENCY} a": read([0.5] * 10 + [1.5]),
        f"{LATENCY} b": read([1.5]),  # this one joined in between
        f"{LAG} l": read([1, 1, 1, 2]),
    }
    found = distributions(before, after)
    assert found["weights_latency_seconds"]["counts"] == {"2": 2}
    assert found["weights_latency_seconds"]["median"] == pytest.approx(1.5)
    assert found["policy_lag_counts"] == {"1": 1, "2": 1}
    nothing = {"policy_lag_counts": None, "weights_latency_seconds": None}
    assert distributions({}, {}) == nothing


# --- the wire -------------------------------------------------------------------------------


def test_the_parts_of_a_message_are_all_of_it() -> None:
    import numpy as np

    from asyncade_proto.codec import encode
    from asyncade_proto.messages import Episodes, Gradients

    message = Gradients(
        actor_id="a",
        sequence=0,
        policy_version=1,
        model="m",
        samples=4,
        env_steps=4,
        tensors={"one": np.zeros(3, np.float32), "two.x": np.zeros((2, 2), np.float32)},
        losses={},
        episodes=Episodes(returns=np.zeros(1, np.float32), lengths=np.ones(1, np.int32)),
    )
    frame = encode(message)
    found = parts(frame)
    assert found["tensors"] == 4 * 7
    assert found["episode_returns"] == found["episode_lengths"] == 4
    assert sum(found.values()) == len(frame)
    assert per_env_step([frame, frame], 4)["tensors"] == 7


# --- games and seeds ------------------------------------------------------------------------


def test_random_play_takes_the_same_share_of_every_game() -> None:
    from asyncade_rl.envs.catch import Catch

    returns = random_play(Catch(3), 7, seed=1)
    assert len(returns) == 7
    assert set(returns) <= {-1.0, 1.0}
    chance = described([0.0, 2.0])
    assert (chance["mean"], chance["standard_deviation"]) == (1.0, 1.0)
    assert above_random(4.0, chance) == pytest.approx(3.0)
    assert above_random(4.0, described([1.0, 1.0])) is None


def seed(reached: bool, env_steps: int) -> dict[str, Any]:
    return {"reached": reached, "env_steps": env_steps, "seconds": env_steps / 100}


def test_a_seed_that_failed_took_for_ever() -> None:
    found = medians([seed(True, 300), seed(False, 10), seed(True, 200)])
    assert found == {"env_steps": 300, "seconds": 3.0}
    assert medians([seed(True, 300), seed(False, 10)])["env_steps"] is None
    assert medians([]) == {"env_steps": None, "seconds": None}
