"""Both autoscalers ask one question, and its answer settles: checks, promtool, a simulation."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from bench import autoscaling
from bench.report import RESULTS, read_result

from asyncade_learner.settings import LearnerSettings
from asyncade_runtime.settings import load

ROOT = Path(__file__).parents[2]
COMPONENTS = ROOT / "k8s/components"
RULES = ROOT / "docker/prometheus/rules/autoscaling.yml"

Manifest = dict[str, Any]
Renders = Mapping[tuple[str, ...], list[Manifest]]


def content(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


KEDA = content(COMPONENTS / "autoscaling-keda/scaled-object.yaml")["spec"]
HPA = content(COMPONENTS / "autoscaling-hpa/autoscaler.yaml")["spec"]
ADAPTER = content(COMPONENTS / "autoscaling-hpa/adapter-values.yaml")
(TRIGGER,) = KEDA["triggers"]
(METRIC,) = HPA["metrics"]
((RULE,),) = [group["rules"] for group in content(RULES)["groups"]]

COSTS = read_result("ceiling")
assert COSTS
PIPELINES = autoscaling.pipelines(COSTS["modes"])
DATA = PIPELINES["data, 1 in flight, learner 8 times a core"]
LIMITS = autoscaling.bounds()


# --- the manifests ---------------------------------------------------------------------------


def test_both_ask_prometheus_for_the_recorded_series() -> None:
    (rule,) = ADAPTER["rules"]["external"]
    assert TRIGGER["metadata"]["query"] == RULE["record"]
    assert rule["seriesQuery"] == RULE["record"]
    assert rule["metricsQuery"] == "<<.Series>>"
    assert METRIC["external"]["metric"] == {"name": rule["name"]["as"]}
    keda, adapter = TRIGGER["metadata"]["serverAddress"], ADAPTER["prometheus"]
    assert keda == f"{adapter['url']}:{adapter['port']}"


def test_the_value_is_the_number_of_actors() -> None:
    """HPA divides an AverageValue by the replicas, so the target of one gives the value itself."""
    assert METRIC["type"] == "External"
    assert METRIC["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}
    assert TRIGGER["metricType"] == "AverageValue"
    assert TRIGGER["metadata"]["threshold"] == "1"


def test_both_scale_the_same_and_down_more_slowly_than_up() -> None:
    assert KEDA["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == HPA["behavior"]
    assert (KEDA["minReplicaCount"], KEDA["maxReplicaCount"]) == (
        HPA["minReplicas"],
        HPA["maxReplicas"],
    )
    assert HPA["minReplicas"] >= 1
    up, down = HPA["behavior"]["scaleUp"], HPA["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] >= autoscaling.WINDOW_S
    assert down["stabilizationWindowSeconds"] > up["stabilizationWindowSeconds"]
    fastest = {
        name: {policy["type"]: policy["value"] for policy in rule["policies"]}
        for name, rule in (("up", up), ("down", down))
    }
    assert all(fastest["down"][kind] < fastest["up"][kind] for kind in ("Percent", "Pods"))


def test_without_an_answer_the_number_stays() -> None:
    """An HPA does that by itself; KEDA has to be told, and to take an empty answer as an error."""
    assert KEDA["fallback"]["behavior"] == "currentReplicas"
    assert TRIGGER["metadata"]["ignoreNullValues"] == "false"


def test_an_autoscaler_has_a_target_that_has_no_number_of_its_own(renders: Renders) -> None:
    kinds = {"autoscaling-keda": "ScaledObject", "autoscaling-hpa": "HorizontalPodAutoscaler"}
    for name, manifests in renders.items():
        (actor,) = [m for m in manifests if m["kind"] == "Deployment"]
        expected = [kinds[word] for word in name if word in kinds][-1:]
        scalers = [m for m in manifests if m["kind"] in kinds.values()]
        assert [m["kind"] for m in scalers] == expected, name
        assert ("replicas" in actor["spec"]) == (not scalers), name
        for scaler in scalers:
            assert scaler["spec"]["scaleTargetRef"] == {
                "apiVersion": actor["apiVersion"],
                "kind": actor["kind"],
                "name": actor["metadata"]["name"],
            }


def test_the_largest_batch_is_no_stall() -> None:
    """A learner's loop turns once per batch, which is an unroll of every actor."""
    slowest = PIPELINES["data, 1 in flight, learner 1 times a core"]
    share = slowest.at(HPA["maxReplicas"])
    cycle_seconds = HPA["maxReplicas"] * 512 / share.env_steps_per_second
    assert 3 * cycle_seconds < load(LearnerSettings, [], {}).stall_seconds


# --- the rule --------------------------------------------------------------------------------


def promtool_test(actors: int, share: autoscaling.Share) -> Manifest:
    """What promtool is told of a moment of the simulation, and what it must find."""

    def series(name: str, instance: str, per_scrape: float) -> dict[str, str]:
        job = name.split("_")[0]
        metric, _, stage = name.partition(":")
        label = f', stage="{stage}"' if stage else ""
        full = "up" if metric.endswith("_up") else f"asyncade_{metric}"
        start = "1x40" if full == "up" else f"0+{per_scrape}x40"
        return {"series": f'{full}{{job="{job}", instance="{instance}"{label}}}', "values": start}

    found = [
        series("learner_up", "l", 1),
        series("learner_updates_total", "l", 300),
        series("learner_stage_seconds_total:wait", "l", 15 * (1 - share.learner_busy)),
        series("learner_stage_seconds_total:optimise", "l", 15 * share.learner_busy),
    ]
    for n in range(actors):
        found += [
            series("actor_up", f"a{n}", 1),
            series("actor_stage_seconds_total:wait", f"a{n}", 15 * (1 - share.actors_busy) / 2),
            series("actor_stage_seconds_total:send", f"a{n}", 15 * (1 - share.actors_busy) / 2),
            series("actor_stage_seconds_total:environment", f"a{n}", 15 * share.actors_busy),
        ]
    value = autoscaling.wanted(actors * share.actors_busy, share.learner_busy)
    return {
        "interval": "15s",
        "input_series": found,
        "promql_expr_test": [
            {
                "expr": f"abs({RULE['record']} - {value}) < bool 1e-6",
                "eval_time": "9m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
        ],
    }


def test_the_rule_computes_what_the_simulation_does(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    tests = [
        promtool_test(actors, pipeline.at(actors))
        for pipeline in PIPELINES.values()
        for actors in (1, 5, 20)
    ]
    file = tmp_path / "test.yml"
    told = {"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": tests}
    file.write_text(yaml.safe_dump(told))
    command = [promtool, "test", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# --- the simulation --------------------------------------------------------------------------


def turns(numbers: list[int]) -> int:
    """How often a series changes its direction."""
    steps = [b - a for a, b in itertools.pairwise(numbers) if b != a]
    return sum((a > 0) != (b > 0) for a, b in itertools.pairwise(steps))


def ideal(pipeline: autoscaling.Pipeline) -> int:
    """The number at which the answer is the number itself, within what is allowed."""
    return next(
        n
        for n in range(1, LIMITS.maximum + 1)
        if n == LIMITS.maximum or wanted_at(pipeline, n) <= n
    )


def wanted_at(pipeline: autoscaling.Pipeline, actors: int) -> float:
    share = pipeline.at(actors)
    return autoscaling.wanted(actors * share.actors_busy, share.learner_busy)


@pytest.mark.parametrize("start", [1, 200])
@pytest.mark.parametrize("name", PIPELINES)
def test_it_settles_without_swinging(name: str, start: int) -> None:
    pipeline = PIPELINES[name]
    numbers = autoscaling.simulate(pipeline, start, LIMITS)
    right = ideal(pipeline)
    assert abs(numbers[-1] - right) <= max(1, autoscaling.TOLERANCE * right + 1), numbers[-1]
    assert turns(numbers) == 0
    last_half_hour = numbers[-30 * 4 :]
    assert set(last_half_hour) == {numbers[-1]}


@pytest.mark.parametrize("start", [1, 200])
def test_noise_of_a_fifth_moves_it_by_one_at_most(start: int) -> None:
    for seed in range(5):
        numbers = autoscaling.simulate(DATA, start, LIMITS, noise=0.2, seed=seed)
        assert max(numbers[-30 * 4 :]) - min(numbers[-30 * 4 :]) <= 1, seed


def test_what_is_wanted_does_not_depend_on_what_is_there() -> None:
    """In data mode it is a ratio of two costs, but for the weights, published once per batch."""
    one = read_result("ceiling", RESULTS / "amd-epyc")  # how much they weigh is a machine's matter
    assert one
    pipeline = autoscaling.pipelines(one["modes"])["data, 1 in flight, learner 8 times a core"]
    found = [wanted_at(pipeline, actors) for actors in range(1, 100)]
    assert max(found) - min(found) < 0.1 * max(found)
    assert found == sorted(found)


def test_without_the_weights_it_is_the_same_for_any_number() -> None:
    free = replace(DATA, costs={**DATA.costs, "weights": 0.0})
    found = [wanted_at(free, actors) for actors in range(1, 100)]
    assert found == pytest.approx([found[0]] * len(found))
    with_them = [wanted_at(DATA, actors) for actors in range(1, 100)]
    assert with_them == sorted(with_them)
    assert with_them[-1] < found[0]


def test_with_one_message_in_flight_both_sides_then_work_half_of_the_time() -> None:
    """They take turns. k8s/README.md says so, and what to do about it."""
    one = DATA.at(ideal(DATA))
    two = replace(DATA, in_flight=2).at(ideal(DATA))
    assert one.learner_busy == pytest.approx(0.5, abs=0.05)
    assert two.learner_busy > 0.95
    assert two.env_steps_per_second == pytest.approx(2 * one.env_steps_per_second, rel=0.1)


def test_the_readme_has_the_table_of_the_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["autoscaling", "--check"])
    assert autoscaling.main() == 0


def test_a_threshold_of_a_quarter_makes_the_learner_busy_four_fifths_of_the_time() -> None:
    assert DATA.at(round(4 * wanted_at(DATA, 20))).learner_busy == pytest.approx(0.8, abs=0.02)


def test_a_prometheus_that_is_gone_changes_nothing() -> None:
    def gone(now: float) -> bool:
        return now < 600

    numbers = autoscaling.simulate(DATA, 1, LIMITS, answers=gone, minutes=40)
    assert len(set(numbers[10 * 4 :])) == 1


def test_actors_without_cores_of_their_own_are_asked_for_without_end() -> None:
    """The known limit: on shared cores each looks busier the more there are. The maximum holds."""
    shared = replace(DATA, actor_cores=2)
    assert wanted_at(shared, 40) > 3 * wanted_at(shared, 10)
    numbers = autoscaling.simulate(shared, 8, LIMITS)
    assert numbers[-1] == LIMITS.maximum
