"""Metrics, labels and label values in rules and dashboard exist in the code."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from asyncade_actor.metrics import STAGES as ACTOR_STAGES
from asyncade_actor.metrics import ActorMetrics
from asyncade_evaluator.metrics import STAGES as EVALUATOR_STAGES
from asyncade_evaluator.metrics import EvaluatorMetrics
from asyncade_learner.metrics import LOSSES, LearnerMetrics
from asyncade_learner.metrics import STAGES as LEARNER_STAGES
from asyncade_proto.errors import DECODE_REASONS
from asyncade_relay.metrics import KINDS, RelayMetrics
from asyncade_relay.metrics import STAGES as RELAY_STAGES
from asyncade_runtime.admission import DROP_REASONS

DOCKER = Path(__file__).parents[2] / "docker"
OF_EVERY_TARGET = {"job", "instance"}  # labels that Prometheus adds
OF_PROMETHEUS = {"up": OF_EVERY_TARGET, "ALERTS": {"alertname", "alertstate", "severity"}}
VALUES: dict[str, Collection[str]] = {
    "job": {"learner", "relay", "actor", "evaluator"},
    "stage": {*ACTOR_STAGES, *LEARNER_STAGES, *EVALUATOR_STAGES, *RELAY_STAGES},
    "reason": {*DROP_REASONS, *DECODE_REASONS},
    "kind": KINDS,
    "part": LOSSES,
    "alertstate": {"pending", "firing"},
}


SERVICES: tuple[Callable[[CollectorRegistry], object], ...] = (
    ActorMetrics,
    LearnerMetrics,
    EvaluatorMetrics,
    RelayMetrics,
)


class RecordingRegistry(CollectorRegistry):
    """Remembers its collectors: `collect` omits labels without a value."""

    def __init__(self) -> None:
        super().__init__()
        self.registered: list[Any] = []

    def register(self, collector: Collector) -> None:
        super().register(collector)
        self.registered.append(collector)


def series_of_the_code() -> dict[str, set[str]]:
    """Returns the labels of each time series of the services, by name."""
    registries = [RecordingRegistry() for _ in SERVICES]
    for service, registry in zip(SERVICES, registries, strict=True):
        service(registry)
    found: dict[str, set[str]] = {}
    for collector in itertools.chain(*(registry.registered for registry in registries)):
        labels = {*getattr(collector, "_labelnames", ()), *OF_EVERY_TARGET}
        for metric in collector.describe() if hasattr(collector, "describe") else ():
            if metric.type == "counter":
                found[f"{metric.name}_total"] = labels
            elif metric.type == "histogram":
                found[f"{metric.name}_bucket"] = labels | {"le"}
                found[f"{metric.name}_sum"] = found[f"{metric.name}_count"] = labels
            else:
                found[metric.name] = labels
    for metric in registries[0].collect():
        if metric.name.startswith("process_"):
            found.update({sample.name: OF_EVERY_TARGET for sample in metric.samples})
    return found


def rules() -> list[dict[str, Any]]:
    files = sorted((DOCKER / "prometheus/rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def dashboard_targets() -> list[dict[str, str]]:
    board = json.loads((DOCKER / "grafana/dashboards/asyncade.json").read_text())
    return [target for panel in board["panels"] for target in panel.get("targets", [])]


def parts(query: str) -> list[promql_parser.Expr]:
    """Returns all expressions within a query, itself first."""
    found: list[promql_parser.Expr] = []
    promql_parser.walk(promql_parser.parse(query), found.append)
    return found


def selectors(query: str) -> list[promql_parser.VectorSelector]:
    """Returns all selectors of a metric, with and without a range."""
    every = parts(query)
    ranges = [part for part in every if isinstance(part, promql_parser.MatrixSelector)]
    plain = [part for part in every if isinstance(part, promql_parser.VectorSelector)]
    return plain + [part.vector_selector for part in ranges]


def grouped_by(query: str) -> Iterator[str]:
    """Yields the labels in aggregations and matchings."""
    for part in parts(query):
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier:
            yield from part.modifier.labels
        if isinstance(part, promql_parser.BinaryExpr) and part.modifier and part.modifier.matching:
            yield from part.modifier.matching.labels


CODE = series_of_the_code() | OF_PROMETHEUS


def labels_of(name: str) -> set[str]:
    """Returns a series' labels; for a recorded series, those that its expression keeps."""
    if name in CODE:
        return CODE[name]
    recorded = [rule["expr"] for rule in rules() if rule.get("record") == name]
    assert recorded, f"{name} is neither in the code nor recorded"
    return set(grouped_by(recorded[0])) - {"le"}


QUERIES = [rule["expr"] for rule in rules()] + [target["expr"] for target in dashboard_targets()]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_only_existing_metrics_and_labels(query: str) -> None:
    found = selectors(query)
    assert found or "vector(" in query
    known: set[str] = set()
    for selector in found:
        assert selector.name, "a selector without a metric's name"
        labels = labels_of(selector.name)
        known |= labels
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels, f"{selector.name} has no label {matcher.name}"
            for value in re.split(r"\|", matcher.value):
                assert value in VALUES[matcher.name], f"no {matcher.name} is {value}"
    assert set(grouped_by(query)) <= known


@pytest.mark.parametrize("target", dashboard_targets(), ids=lambda target: target["expr"])
def test_a_legend_names_only_labels_that_its_query_keeps(target: dict[str, str]) -> None:
    shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    kept = set(grouped_by(target["expr"]))
    if not kept:
        kept = set.union(*(labels_of(str(s.name)) for s in selectors(target["expr"])))
    assert shown <= kept


def test_the_dashboard_shows_all_other_metrics() -> None:
    """The list has the metrics left out on purpose."""
    text = " ".join(QUERIES)
    shown = {name for name in CODE if re.search(rf"\b{name}\b", text)}
    ours = {name for name in CODE if name.startswith("asyncade_")}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in ours - shown}
    families -= {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert families == {
        "asyncade_actor_episodes_total",  # counted by the learner
        "asyncade_actor_weights_received_total",  # their age is shown
        "asyncade_evaluator_connection_events_total",  # same as the actors'
        "asyncade_evaluator_env_steps_total",  # its returns are shown
        "asyncade_evaluator_episodes_total",
        "asyncade_evaluator_policy_version",
        "asyncade_evaluator_return_max",
        "asyncade_evaluator_return_min",
        "asyncade_evaluator_rounds_total",
        "asyncade_evaluator_stage_seconds_total",
        "asyncade_evaluator_weights_refused_total",
        "asyncade_learner_checkpoint_failures_total",  # the checkpoint's age is shown
        "asyncade_learner_last_update_timestamp_seconds",  # the rate of updates is shown
        "asyncade_learner_learning_rate",  # a setting and a schedule
        "asyncade_learner_torch_threads",  # an alert is on the share of CPU
        "asyncade_learner_point_share",  # the return is shown
        "asyncade_learner_reward_per_env_step",
        "asyncade_learner_weights_published_bytes_total",  # a constant size each
        "asyncade_relay_actor_joins_total",  # the number of actors is shown
        "asyncade_relay_connection_events_total",  # same as the learner's and the actors'
        "asyncade_relay_weights_last_received_timestamp_seconds",  # versions behind are shown
    }
