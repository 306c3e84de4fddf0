"""The evaluator process: reads settings, builds the evaluator, runs it until SIGTERM."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from asyncade_evaluator.settings import EvaluatorSettings
from asyncade_runtime.service import Service, run_service
from asyncade_runtime.transport.keys import load_actor_keys
from asyncade_runtime.transport.zmq_sockets import ZmqSubscriber


def main(argv: Sequence[str] | None = None) -> int:
    """Runs an evaluator; returns the exit code."""
    return run_service(
        "evaluator",
        EvaluatorSettings,
        serve,
        argv,
        threads=lambda settings: settings.torch_threads,
    )


def serve(settings: EvaluatorSettings, service: Service) -> None:
    """Builds the evaluator and steps it until SIGTERM or SIGINT."""
    # Imported here: torch reads the thread limits when it is loaded.
    from asyncade_evaluator.evaluator import Evaluator
    from asyncade_evaluator.metrics import EvaluatorMetrics
    from asyncade_rl.devices import prepare_processor

    prepare_processor(settings.torch_threads)
    keys = None if settings.keys is None else load_actor_keys(settings.keys)
    subscriber = service.closing(
        ZmqSubscriber(service.context, settings.weights_address, keys=keys)
    )
    http = service.serve_http()
    service.log.info("up", metrics_port=http.port, learner=settings.weights_address)
    evaluator = service.closing(
        Evaluator(
            settings,
            subscriber=subscriber,
            metrics=EvaluatorMetrics(service.registry),
            health=service.health,
            log=service.log,
        )
    )
    evaluator.run(service.stop)


if __name__ == "__main__":
    sys.exit(main())
