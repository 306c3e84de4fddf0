"""All metrics of a relay, listed in services/relay/README.md."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from asyncade_proto.errors import DECODE_REASONS
from asyncade_relay.gathering import DROP_REASONS
from asyncade_runtime.stages import Stages

STAGES: Final = ("wait", "blocked", "weights", "decode", "average", "send")
KINDS: Final = ("trajectory", "gradients")
LATENCY_BUCKETS_S: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1),
    *(0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)
LAG_BUCKETS: Final = (0, 1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128)


class RelayMetrics:
    """The relay's metrics, in a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"asyncade_relay_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"asyncade_relay_{name}", text, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"asyncade_relay_{name}", text, buckets=buckets, registry=registry)

        ProcessCollector(registry=registry)  # process_resident_memory_bytes, process_cpu_seconds
        # Up, from the actors to the learner
        self.received = counter("messages_received_total", "Messages from actors.", "kind")
        self.received_bytes = counter("received_bytes_total", "Bytes of all frames from actors.")
        self.dropped = counter(
            "messages_dropped_total", "Messages neither averaged nor forwarded.", "reason"
        )
        for reason in (*DECODE_REASONS, *DROP_REASONS):
            self.dropped.labels(reason=reason)
        self.lost = counter("messages_lost_total", "Messages sent by actors that never arrived.")
        self.sent = counter("messages_sent_total", "Messages sent to the learner.", "kind")
        for kind in KINDS:
            self.received.labels(kind=kind)
            self.sent.labels(kind=kind)
        self.sent_bytes = counter("sent_bytes_total", "Bytes of messages sent to the learner.")
        self.send_timeouts = counter("send_timeouts_total", "Attempts to send that found no room.")
        self.incomplete = counter(
            "averages_incomplete_total", "Averages sent without a gradient from every active actor."
        )
        self.policy_lag = histogram(
            "policy_lag_versions",
            "Policy lag of averaged gradients: the relay's version minus the gradient's.",
            LAG_BUCKETS,
        )
        self.active_actors = gauge(
            "active_actors", "Actors heard of in the last 30 seconds and not late for an average."
        )
        # Down, from the learner to the actors
        self.weights_received = counter("weights_received_total", "Weights forwarded to actors.")
        self.weights_refused = counter(
            "weights_refused_total", "Weights that could not be used.", "reason"
        )
        self.weights_published_bytes = counter(
            "weights_published_bytes_total", "Bytes of published weights, not per actor."
        )
        self.weights_timestamp = gauge(
            "weights_last_received_timestamp_seconds", "Unix time of the last weights forwarded."
        )
        self.weights_latency = histogram(
            "weights_latency_seconds",
            "From the learner's publication to the relay's; compares the clocks of two machines.",
            LATENCY_BUCKETS_S,
        )
        self.policy_version = gauge("policy_version", "Version of the last weights forwarded.")
        self.joins = counter("actor_joins_total", "Subscriptions to the weights.")
        self.connection_events = counter(
            "connection_events_total", "Connection events.", "socket", "event"
        )
        seconds = counter("stage_seconds_total", "Time of the main loop, by stage.", "stage")
        self.stages = Stages(seconds, STAGES)
