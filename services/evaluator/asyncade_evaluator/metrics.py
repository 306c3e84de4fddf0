"""The evaluator's metrics; services/evaluator/README.md has a table generated from this module."""

from __future__ import annotations

import math
from typing import Final

from prometheus_client import CollectorRegistry

from asyncade_runtime.metrics import ServiceMetrics

STAGES: Final = ("wait", "weights", "play", "report")


class EvaluatorMetrics(ServiceMetrics):
    """The evaluator's metrics, in a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry, "evaluator", STAGES)
        counter, gauge = self.counter, self.gauge
        self.rounds = counter(
            "rounds_total", "Rounds finished, each with one version of the weights."
        )
        self.episodes = counter("episodes_total", "Games finished.")
        self.env_steps = counter("env_steps_total", "Env steps played.")
        self.return_mean = gauge("return_mean", "Mean return of the last round's games.")
        self.return_min = gauge("return_min", "Lowest return of the last round's games.")
        self.return_max = gauge("return_max", "Highest return of the last round's games.")
        self.policy_version = gauge("policy_version", "Version of the weights in the last round.")
        for unknown in (self.return_mean, self.return_min, self.return_max, self.policy_version):
            unknown.set(math.nan)  # until the first round ends; 0 would be a valid return
        self.weights_refused = counter(
            "weights_refused_total", "Weights refused, by reason.", "reason"
        )
