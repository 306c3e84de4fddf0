"""The actor process: reads settings, builds the actor, runs it until SIGTERM."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from asyncade_actor.settings import ActorSettings
from asyncade_runtime.service import Service, run_service, unique_name
from asyncade_runtime.transport.keys import load_actor_keys
from asyncade_runtime.transport.zmq_sockets import ZmqOutbox, ZmqSubscriber


def main(argv: Sequence[str] | None = None) -> int:
    """Runs an actor; returns the exit code."""
    return run_service(
        "actor",
        ActorSettings,
        serve,
        argv,
        instance=lambda settings: settings.actor_id or unique_name(),
        threads=lambda settings: settings.torch_threads,
    )


def serve(settings: ActorSettings, service: Service) -> None:
    """Builds the actor and steps it until SIGTERM or SIGINT."""
    # Imported here: torch reads the thread limits when it is loaded.
    from asyncade_actor.actor import Actor
    from asyncade_actor.metrics import ActorMetrics
    from asyncade_rl.devices import fastest_precision, find_device, prepare_processor

    prepare_processor(settings.torch_threads)
    fastest = fastest_precision(find_device("cpu"))
    keys = None if settings.keys is None else load_actor_keys(settings.keys)
    outbox = service.closing(ZmqOutbox(service.context, settings.upstream_address, keys=keys))
    subscriber = service.closing(
        ZmqSubscriber(service.context, settings.weights_address, keys=keys)
    )
    http = service.serve_http()
    service.log.info("up", metrics_port=http.port, learner=settings.upstream_address)
    actor = service.closing(
        Actor(
            actor_id=service.instance,
            envs=settings.envs,
            env_threads=settings.env_threads,
            precision=fastest if settings.precision == "auto" else settings.precision,
            outbox=outbox,
            subscriber=subscriber,
            metrics=ActorMetrics(service.registry),
            health=service.health,
            log=service.log,
        )
    )
    service.end_when_stuck()
    actor.run(service.stop)


if __name__ == "__main__":
    sys.exit(main())
