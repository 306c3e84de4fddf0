"""Base classes of the services' metrics. Each service's README lists what it exports."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from asyncade_proto.messages import Weights
from asyncade_runtime.stages import Stages

LAG_BUCKETS: Final = (0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512)
LATENCY_BUCKETS_S: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1),
    *(0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)


class ServiceMetrics:
    """Metrics that every service exports, and constructors for its own.

    Args:
        registry: holds all metrics of the process.
        service: every name starts with ``asyncade_SERVICE_``.
        stages: of the main loop, which starts in the first one.
        clock: monotonic time in seconds; times the stages.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        service: str,
        stages: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._service = service
        ProcessCollector(registry=registry)  # process_resident_memory_bytes, process_cpu_seconds
        self.connection_events = self.counter(
            "connection_events_total",
            "Connects, disconnects and retries, by socket.",
            "socket",
            "event",
        )
        seconds = self.counter("stage_seconds_total", "Time in the main loop, by stage.", "stage")
        self.stages = Stages(seconds, stages, clock)

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """Registers a counter with the service's prefix."""
        return Counter(f"asyncade_{self._service}_{name}", text, labels, registry=self._registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """Registers a gauge with the service's prefix."""
        return Gauge(f"asyncade_{self._service}_{name}", text, labels, registry=self._registry)

    def histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        """Registers a histogram with the service's prefix."""
        name = f"asyncade_{self._service}_{name}"
        return Histogram(name, text, buckets=buckets, registry=self._registry)


class WeightsMetrics(ServiceMetrics):
    """Adds the metrics of weights that a service receives and uses or forwards."""

    def __init__(
        self,
        registry: CollectorRegistry,
        service: str,
        stages: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(registry, service, stages, clock)
        self.weights_received = self.counter("weights_received_total", "Weights received and used.")
        self.weights_refused = self.counter(
            "weights_refused_total", "Weights refused, by reason.", "reason"
        )
        self.weights_timestamp = self.gauge(
            "weights_last_received_timestamp_seconds", "Unix time of the last weights used."
        )
        self.weights_latency = self.histogram(
            "weights_latency_seconds",
            "From publication of weights to their use; compares the clocks of both machines.",
            LATENCY_BUCKETS_S,
        )
        self.policy_version = self.gauge("policy_version", "Version of the weights in use.")

    def count_weights(self, weights: Weights) -> None:
        """Records weights at the moment of their use."""
        now = time.time()
        self.weights_received.inc()
        self.weights_timestamp.set(now)
        if weights.published_at is not None:
            self.weights_latency.observe(max(0.0, now - weights.published_at))
        self.policy_version.set(weights.policy_version)
