"""All metrics of the learner, listed in services/learner/README.md."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry

from asyncade_proto.errors import DECODE_REASONS
from asyncade_runtime.admission import DROP_REASONS
from asyncade_runtime.metrics import LAG_BUCKETS, ServiceMetrics

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
LOSSES: Final = frozenset(("total", "policy", "value", "entropy", "kl", "clip_fraction"))


class LearnerMetrics(ServiceMetrics):
    """The learner's metrics, in a registry; `clock` is monotonic and times the stages."""

    def __init__(
        self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(registry, "learner", STAGES, clock)
        counter, gauge = self.counter, self.gauge
        # Intake
        self.messages = counter("messages_accepted_total", "Messages used, by kind.", "kind")
        self.dropped = counter("messages_dropped_total", "Messages dropped, by reason.", "reason")
        for reason in (*DECODE_REASONS, *DROP_REASONS):
            self.dropped.labels(reason=reason)
        self.shut_out = gauge(
            "shut_out", "Actor ids and peers whose messages are refused for their conduct.", "who"
        )
        self.lost = counter("messages_lost_total", "Messages sent by actors that never arrived.")
        self.received_bytes = counter("received_bytes_total", "Bytes of all frames received.")
        self.policy_lag = self.histogram(
            "policy_lag_updates",
            "Policy lag of used messages: optimiser steps since the weights they were made with.",
            LAG_BUCKETS,
        )
        self.active_actors = gauge(
            "active_actors", "Actors heard of in the last 30 seconds, late ones included."
        )
        self.late_actors = gauge(
            "late_actors", "Active actors that take over twice the median time for a message."
        )
        # Games
        self.env_steps = counter("env_steps_total", "Env steps reported by actors.")
        self.episodes = counter("episodes_total", "Episodes finished.")
        self.episode_return = gauge(
            "episode_return_mean", "Mean return of the last 100 training episodes."
        )
        self.point_share = gauge(
            "point_share",
            "(Points won - lost) / points played over the last 20,000 env steps; no lag.",
        )
        self.reward_per_env_step = gauge(
            "reward_per_env_step", "Mean reward of the last 20,000 env steps, each clipped to 1."
        )
        # Learning
        self.updates = counter("updates_total", "Optimiser steps.")
        self.samples = counter("samples_total", "Samples in all gradients; every pass counts.")
        self.skipped = counter(
            "updates_skipped_total",
            "Updates skipped because the gradient was not finite, or absurdly large.",
        )
        self.roll_backs = counter(
            "roll_backs_total", "Returns to the last good checkpoint, with half the step size."
        )
        self.loss = gauge("loss", "Parts of the loss, mean over the last improvement.", "part")
        self.gradient_norm = gauge("gradient_norm", "Norm of the last gradient before the clip.")
        self.noise_scale = gauge(
            "gradient_noise_scale_samples",
            "Samples per update beyond which more buy little; NaN while it is not known.",
        )
        self.noise_scale.set(math.nan)
        self.learning_rate = gauge("learning_rate", "Step size of the last update.")
        self.last_update = gauge("last_update_timestamp_seconds", "Unix time of the last update.")
        # Processor
        self.torch_threads = gauge(
            "torch_threads", "Torch threads in use; fewer while they wait for CPU; 0 on a GPU."
        )
        self.cpu_share = gauge(
            "cpu_share",
            "CPU time received in gradients and optimiser steps, over their wall time times the"
            " torch threads asked for; NaN before the first and on a GPU.",
        )
        self.cpu_share.set(math.nan)
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
