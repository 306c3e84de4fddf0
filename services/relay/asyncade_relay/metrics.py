"""All metrics of a relay, listed in services/relay/README.md."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry

from asyncade_proto.errors import DECODE_REASONS
from asyncade_relay.gathering import DROP_REASONS
from asyncade_runtime.metrics import LAG_BUCKETS, WeightsMetrics

STAGES: Final = ("wait", "blocked", "weights", "decode", "average", "send")
KINDS: Final = ("trajectory", "gradients")


class RelayMetrics(WeightsMetrics):
    """The relay's metrics, in a registry. A relay uses weights by forwarding them to its actors."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry, "relay", STAGES)
        counter, gauge = self.counter, self.gauge
        # Up, from the actors to the learner
        self.received = counter("messages_received_total", "Messages from actors.", "kind")
        self.received_bytes = counter("received_bytes_total", "Bytes of all frames from actors.")
        self.dropped = counter(
            "messages_dropped_total", "Messages neither averaged nor forwarded.", "reason"
        )
        for reason in (*DECODE_REASONS, *DROP_REASONS):
            self.dropped.labels(reason=reason)
        self.shut_out = gauge(
            "shut_out", "Actor ids and peers whose messages are refused for their conduct.", "who"
        )
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
        self.policy_lag = self.histogram(
            "policy_lag_versions",
            "Policy lag of averaged gradients: the relay's version minus the gradient's.",
            LAG_BUCKETS,
        )
        self.active_actors = gauge(
            "active_actors", "Actors heard of in the last 30 seconds and not late for an average."
        )
        # Down, from the learner to the actors
        self.weights_published_bytes = counter(
            "weights_published_bytes_total", "Bytes of published weights, not per actor."
        )
        self.joins = counter("actor_joins_total", "Subscriptions to the weights.")
