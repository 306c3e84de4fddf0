"""The relay process: reads settings, builds the relay, runs it until SIGTERM."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from asyncade_relay.settings import RelaySettings
from asyncade_runtime.service import Service, run_service, unique_name
from asyncade_runtime.transport.keys import load_actor_keys
from asyncade_runtime.transport.listening import listening
from asyncade_runtime.transport.zmq_role import wait_for_any
from asyncade_runtime.transport.zmq_sockets import EVERY_VERSION_HWM, ZmqOutbox, ZmqSubscriber


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a relay; returns the exit code."""
    return run_service(
        "relay",
        RelaySettings,
        serve,
        argv,
        instance=lambda settings: settings.relay_id or f"relay-{unique_name()}",
    )


def serve(settings: RelaySettings, service: Service) -> None:
    """Builds the relay and steps it until SIGTERM or SIGINT."""
    # Imported here: NumPy reads the thread limits when it is loaded.
    from asyncade_relay.metrics import RelayMetrics
    from asyncade_relay.relay import Relay

    to_learner = None if settings.learner_keys is None else load_actor_keys(settings.learner_keys)
    inbox, publisher = service.stack.enter_context(
        listening(
            service.context, settings.upstream_address, settings.weights_address, settings.keys
        )
    )
    outbox = service.closing(
        ZmqOutbox(service.context, settings.learner_upstream_address, keys=to_learner)
    )
    subscriber = service.closing(
        ZmqSubscriber(
            service.context,
            settings.learner_weights_address,
            hwm=EVERY_VERSION_HWM,  # a version that the relay misses, all its actors miss
            keys=to_learner,
        )
    )

    def wait(messages: bool, room: bool, timeout_s: float) -> None:
        readable = [subscriber, publisher, *([inbox] if messages else [])]
        wait_for_any(readable, [outbox] if room else [], timeout_s)

    http = service.serve_http()
    service.log.info(
        "up",
        upstream=inbox.endpoint,
        weights=publisher.endpoint,
        metrics_port=http.port,
        learner=settings.learner_upstream_address,
    )
    Relay(
        service.instance,
        settings,
        subscriber=subscriber,
        publisher=publisher,
        inbox=inbox,
        outbox=outbox,
        wait=wait,
        metrics=RelayMetrics(service.registry),
        health=service.health,
        log=service.log,
    ).run(service.stop)


if __name__ == "__main__":
    sys.exit(main())
