"""The evaluator as a process: settings in, objects together, run until SIGTERM."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence

from asyncade_evaluator.settings import EvaluatorSettings
from asyncade_runtime.allocator import keep_freed_memory
from asyncade_runtime.cores import set_thread_environment
from asyncade_runtime.lifecycle import Health, HttpAddressError, serve_http, stop_on_signals
from asyncade_runtime.logs import configure, get_logger
from asyncade_runtime.settings import SettingsError, load
from asyncade_runtime.transport.addresses import SocketAddressError
from asyncade_runtime.transport.keys import KeysError, load_actor_keys
from asyncade_runtime.transport.roles import AccessRefusedError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs an evaluator; returns the exit code."""
    try:
        settings = load(EvaluatorSettings, sys.argv[1:] if argv is None else argv, os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    set_thread_environment(settings.torch_threads, os.environ)
    name = f"{socket.gethostname()}-{os.getpid()}"
    configure("evaluator", name, settings.log_format, settings.log_level, sys.stderr)
    try:
        run(settings)
    except (SocketAddressError, HttpAddressError, KeysError) as error:
        get_logger().error("cannot start", detail=str(error))
        return 2
    except AccessRefusedError as error:
        get_logger().error("refused by the learner", detail=str(error))
        return 3
    return 0


def run(settings: EvaluatorSettings) -> None:
    """Puts the evaluator together and steps it until SIGTERM or SIGINT."""
    import zmq  # only now, and torch with what follows: threads are counted at loading
    from prometheus_client import CollectorRegistry

    from asyncade_evaluator.evaluator import Evaluator
    from asyncade_evaluator.metrics import EvaluatorMetrics
    from asyncade_proto.limits import MAX_MESSAGE_BYTES
    from asyncade_rl.devices import prepare_processor
    from asyncade_runtime.transport.zmq_sockets import ZmqSubscriber

    prepare_processor(settings.torch_threads)
    keep_freed_memory()
    stop = stop_on_signals()
    log = get_logger()
    registry = CollectorRegistry()
    health = Health(settings.stall_seconds)
    keys = None if settings.keys is None else load_actor_keys(settings.keys)
    context = zmq.Context()
    subscriber = ZmqSubscriber(
        context, settings.weights_address, max_message_bytes=MAX_MESSAGE_BYTES, keys=keys
    )
    with serve_http(settings.metrics_host, settings.metrics_port, registry, health) as http:
        log.info("up", metrics_port=http.port, learner=settings.weights_address)
        evaluator = Evaluator(
            episodes=settings.episodes,
            envs=settings.envs,
            env_threads=settings.env_threads,
            policy=settings.policy,
            seed=settings.seed,
            subscriber=subscriber,
            metrics=EvaluatorMetrics(registry),
            health=health,
            log=log,
        )
        try:
            evaluator.run(stop)
        finally:
            evaluator.close()
            subscriber.close()
            context.term()
    log.info("down")


if __name__ == "__main__":
    sys.exit(main())
