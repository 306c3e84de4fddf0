"""All metrics of the learner, listed in services/learner/README.md."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from asyncade_proto.errors import DECODE_REASONS
from asyncade_runtime.admission import DROP_REASONS
from asyncade_runtime.stages import Stages

STAGES: Final = (
    "wait",
    "decode",
    "prepare",
    "forward_backward",
    "optimise",
    "publish",
    "checkpoint",
    "report",
)
LAG_BUCKETS: Final = (0, 1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128)
LOSSES: Final = frozenset(("total", "policy", "value", "entropy", "kl", "clip_fraction"))


class LearnerMetrics:
    """The learner's metrics, in a registry; `clock` is monotonic and times the stages."""

    def __init__(
        self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"asyncade_learner_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"asyncade_learner_{name}", text, labels, registry=registry)

        ProcessCollector(registry=registry)  # process_resident_memory_bytes, process_cpu_seconds
        # Intake
        self.messages = counter("messages_accepted_total", "Messages used, by kind.", "kind")
        self.dropped = counter("messages_dropped_total", "Messages dropped, by reason.", "reason")
        for reason in (*DECODE_REASONS, *DROP_REASONS):
            self.dropped.labels(reason=reason)
        self.lost = counter("messages_lost_total", "Messages sent by actors that never arrived.")
        self.received_bytes = counter("received_bytes_total", "Bytes of all frames received.")
        self.policy_lag = Histogram(
            "asyncade_learner_policy_lag_versions",
            "Policy lag of used messages: the learner's version minus the message's.",
            buckets=LAG_BUCKETS,
            registry=registry,
        )
        self.active_actors = gauge(
            "active_actors", "Actors heard of in the last 30 seconds and not late for a batch."
        )
        # Games
        self.env_steps = counter("env_steps_total", "Env steps reported by actors.")
        self.episodes = counter("episodes_total", "Episodes finished.")
        self.episode_return = gauge(
            "episode_return_mean", "Mean return of the last 100 training episodes."
        )
        # Learning
        self.updates = counter("updates_total", "Optimiser steps.")
        self.samples = counter("samples_total", "Samples in all gradients; every pass counts.")
        self.non_finite = counter(
            "non_finite_updates_total", "Updates skipped because the gradient was not finite."
        )
        self.loss = gauge("loss", "Parts of the loss, mean over the last improvement.", "part")
        self.gradient_norm = gauge("gradient_norm", "Norm of the last gradient before the clip.")
        self.learning_rate = gauge("learning_rate", "Step size of the last update.")
        self.last_update = gauge("last_update_timestamp_seconds", "Unix time of the last update.")
        # Weights and checkpoints
        self.policy_version = gauge("policy_version", "Version of the last published weights.")
        self.published = counter("weights_published_total", "Weights published.")
        self.published_bytes = counter(
            "weights_published_bytes_total", "Bytes of published weights, not per subscriber."
        )
        self.joins = counter("actor_joins_total", "Subscriptions to the weights.")
        self.last_checkpoint = gauge(
            "checkpoint_last_success_timestamp_seconds", "Unix time of the last checkpoint."
        )
        self.checkpoint_failures = counter(
            "checkpoint_failures_total", "Checkpoints that could not be written."
        )
        self.connection_events = counter(
            "connection_events_total", "Connection events.", "socket", "event"
        )
        seconds = counter("stage_seconds_total", "Time of the main loop, by stage.", "stage")
        self.stages = Stages(seconds, STAGES, clock)
