"""The actor's metrics. The table in services/actor/README.md is generated from this module."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry

from asyncade_runtime.metrics import WeightsMetrics

STAGES: Final = (
    *("wait", "weights", "environment", "inference"),
    *("prepare", "gradient", "encode", "send"),
)


class ActorMetrics(WeightsMetrics):
    """The actor's metrics, in a registry; `clock` is monotonic and times the stages."""

    def __init__(
        self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(registry, "actor", STAGES, clock)
        counter, gauge = self.counter, self.gauge
        self.env_steps = counter("env_steps_total", "Env steps played.")
        self.episodes = counter("episodes_total", "Games finished.")
        self.last_return = gauge("episode_return_last", "Return of the last finished game.")
        self.messages = counter("messages_sent_total", "Messages handed to ZeroMQ.", "kind")
        self.bytes_sent = counter("sent_bytes_total", "Bytes of those messages.")
        self.send_timeouts = counter(
            "send_timeouts_total", "Sends that timed out; each is retried."
        )
