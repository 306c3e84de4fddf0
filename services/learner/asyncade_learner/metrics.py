"""All metrics of the learner. Documented in services/learner/README.md, tested against this."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from asyncade_learner.intake import DROP_REASONS
from asyncade_proto.errors import DECODE_REASONS
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
    """The metrics, registered where the caller wants them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"asyncade_learner_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"asyncade_learner_{name}", text, labels, registry=registry)

        ProcessCollector(registry=registry)  # process_resident_memory_bytes, process_cpu_seconds
        # Intake
        self.messages = counter("messages_accepted_total", "Messages used.", ("kind",))
        self.dropped = counter(
            "messages_dropped_total", "Messages not used, by reason.", ("reason",)
        )
        for reason in (*DECODE_REASONS, *DROP_REASONS):
            self.dropped.labels(reason=reason)
        self.lost = counter("messages_lost_total", "Messages that were sent and never arrived.")
        self.received_bytes = counter("received_bytes_total", "Bytes of all messages.")
        self.policy_lag = Histogram(
            "asyncade_learner_policy_lag_versions",
            "Versions between the weights a used message was made with and the learner's.",
            buckets=LAG_BUCKETS,
            registry=registry,
        )
        self.active_actors = gauge(
            "active_actors",
            "Actors that a batch waits for: heard of in the last 30 seconds, and not too late.",
        )
        # Games
        self.env_steps = counter("env_steps_total", "Env steps the learner was told of.")
        self.episodes = counter("episodes_total", "Games finished.")
        self.episode_return = gauge(
            "episode_return_mean", "Mean return of the last 100 training games."
        )
        # Learning
        self.updates = counter("updates_total", "Optimiser steps.")
        self.samples = counter("samples_total", "Samples in all gradients, each pass counted.")
        self.non_finite = counter(
            "non_finite_updates_total", "Updates skipped: the gradient was not finite."
        )
        self.loss = gauge("loss", "Parts of the loss, mean of the last update.", ("part",))
        self.gradient_norm = gauge("gradient_norm", "Before the clip, at the last update.")
        self.learning_rate = gauge("learning_rate", "Step size at the last update.")
        self.last_update = gauge("last_update_timestamp_seconds", "Unix time of the last update.")
        # Publishing and keeping
        self.policy_version = gauge("policy_version", "Version of the weights published last.")
        self.published = counter("weights_published_total", "Weights messages published.")
        self.published_bytes = counter(
            "weights_published_bytes_total", "Their bytes, once each, whatever the subscribers."
        )
        self.joins = counter("actor_joins_total", "Subscriptions to the weights.")
        self.last_checkpoint = gauge(
            "checkpoint_last_success_timestamp_seconds", "Unix time of the last checkpoint."
        )
        self.checkpoint_failures = counter(
            "checkpoint_failures_total", "Checkpoints that could not be written."
        )
        self.connection_events = counter(
            "connection_events_total", "Connects, disconnects.", ("socket", "event")
        )
        self.stages = Stages(
            counter("stage_seconds_total", "Time of the main loop by stage.", ("stage",)), STAGES
        )
