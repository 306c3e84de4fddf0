"""The actor's metrics. The table in services/actor/README.md is generated from this module."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from asyncade_runtime.stages import Stages

STAGES: Final = ("wait", "weights", "environment", "inference", "gradient", "encode", "send")
LATENCY_BUCKETS_S: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1),
    *(0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)


class ActorMetrics:
    """The metrics, registered in a given registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"asyncade_actor_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"asyncade_actor_{name}", text, registry=registry)

        ProcessCollector(registry=registry)  # process_resident_memory_bytes, process_cpu_seconds
        self.env_steps = counter("env_steps_total", "Env steps played.")
        self.episodes = counter("episodes_total", "Games finished.")
        self.last_return = gauge("episode_return_last", "Return of the last finished game.")
        self.messages = counter("messages_sent_total", "Messages handed to ZeroMQ.", ("kind",))
        self.bytes_sent = counter("sent_bytes_total", "Bytes of those messages.")
        self.send_timeouts = counter(
            "send_timeouts_total", "Sends that timed out; each is retried."
        )
        self.weights_received = counter("weights_received_total", "Weights received and used.")
        self.weights_refused = counter(
            "weights_refused_total", "Weights refused, by reason.", ("reason",)
        )
        self.weights_timestamp = gauge(
            "weights_last_received_timestamp_seconds", "Unix time of the last weights used."
        )
        self.weights_latency = Histogram(
            "asyncade_actor_weights_latency_seconds",
            "From publication of weights to their use; compares the clocks of both machines.",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.policy_version = gauge("policy_version", "Version of the weights in use.")
        self.connection_events = counter(
            "connection_events_total",
            "Connects, disconnects and retries, by socket.",
            ("socket", "event"),
        )
        self.stages = Stages(
            counter("stage_seconds_total", "Time in the main loop, by stage.", ("stage",)), STAGES
        )
