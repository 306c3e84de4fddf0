"""The relay as a process: settings in, objects together, run until SIGTERM."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from asyncade_relay.settings import RelaySettings
from asyncade_runtime.allocator import keep_freed_memory
from asyncade_runtime.cores import set_thread_environment
from asyncade_runtime.lifecycle import Health, HttpAddressError, serve_http, stop_on_signals
from asyncade_runtime.logs import configure, get_logger
from asyncade_runtime.settings import SettingsError, load
from asyncade_runtime.transport.addresses import SocketAddressError
from asyncade_runtime.transport.keys import KeysError, load_actor_keys
from asyncade_runtime.transport.roles import AccessRefusedError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a relay; returns the exit code."""
    try:
        settings = load(RelaySettings, sys.argv[1:] if argv is None else argv, os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    set_thread_environment(1, os.environ)  # sums of arrays: threads would only wait for memory
    relay_id = settings.relay_id or f"relay-{socket.gethostname()}-{os.getpid()}"
    configure("relay", relay_id, settings.log_format, settings.log_level, sys.stderr)
    try:
        run(settings, relay_id)
    except (SocketAddressError, HttpAddressError, KeysError) as error:
        get_logger().error("cannot start", detail=str(error))
        return 2
    except AccessRefusedError as error:
        get_logger().error("refused by the learner", detail=str(error))
        return 3
    return 0


def run(settings: RelaySettings, relay_id: str) -> None:
    """Puts the relay together and steps it until SIGTERM or SIGINT."""
    import zmq  # only now, and NumPy with what follows: the number of threads is read at loading
    from prometheus_client import CollectorRegistry

    from asyncade_proto.limits import MAX_MESSAGE_BYTES
    from asyncade_relay.metrics import RelayMetrics
    from asyncade_relay.relay import Relay
    from asyncade_runtime.transport.listening import listening
    from asyncade_runtime.transport.zmq_sockets import (
        EVERY_VERSION_HWM,
        ZmqOutbox,
        ZmqSubscriber,
        wait_for_any,
    )

    keep_freed_memory()
    stop = stop_on_signals()
    log = get_logger()
    registry = CollectorRegistry()
    health = Health(settings.stall_seconds)
    to_learner = None if settings.learner_keys is None else load_actor_keys(settings.learner_keys)
    context = zmq.Context()
    with ExitStack() as closing:
        closing.callback(context.term)
        inbox, publisher = closing.enter_context(
            listening(context, settings, max_message_bytes=MAX_MESSAGE_BYTES)
        )
        outbox = ZmqOutbox(context, settings.learner_upstream_address, keys=to_learner)
        closing.callback(outbox.close)
        subscriber = ZmqSubscriber(
            context,
            settings.learner_weights_address,
            max_message_bytes=MAX_MESSAGE_BYTES,
            hwm=EVERY_VERSION_HWM,  # one that the relay missed, all its actors would miss
            keys=to_learner,
        )
        closing.callback(subscriber.close)

        def wait(*, messages: bool, room: bool, timeout_s: float) -> None:
            readable = [subscriber, publisher, *([inbox] if messages else [])]
            wait_for_any(readable, [outbox] if room else [], timeout_s)

        with serve_http(settings.metrics_host, settings.metrics_port, registry, health) as http:
            log.info(
                "up",
                upstream=inbox.endpoint,
                weights=publisher.endpoint,
                metrics_port=http.port,
                learner=settings.learner_upstream_address,
            )
            Relay(
                relay_id,
                settings,
                subscriber=subscriber,
                publisher=publisher,
                inbox=inbox,
                outbox=outbox,
                wait=wait,
                metrics=RelayMetrics(registry),
                health=health,
                log=log,
            ).run(stop)
    log.info("down")


if __name__ == "__main__":
    sys.exit(main())
