"""The evaluator process: reads settings, builds the evaluator, runs it until SIGTERM."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from asyncade_evaluator.rounds import Rounds
from asyncade_evaluator.settings import EvaluatorSettings
from asyncade_runtime.service import Service, StartError, run_service
from asyncade_runtime.transport.keys import ActorKeys, load_actor_keys
from asyncade_runtime.transport.zmq_sockets import ZmqSubscriber

_SEEDS_BEYOND: Final = 500_000_000
"""Of the page's games beyond the first round's: whoever looks sees none that is measured."""


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
    from asyncade_watch.learner_progress import LearnerProgress

    prepare_processor(settings.torch_threads)
    keys = None if settings.keys is None else load_actor_keys(settings.keys)
    subscriber = service.closing(
        ZmqSubscriber(service.context, settings.weights_address, keys=keys)
    )
    http = service.serve_http()
    asked = settings.learner_http
    learner = None if asked is None else LearnerProgress(asked)
    rounds = Rounds(settings.weights_address, learner)
    page = _serve_page(settings, service, rounds, keys)
    service.log.info("up", metrics_port=http.port, learner=settings.weights_address, page=page)
    evaluator = service.closing(
        Evaluator(
            settings,
            subscriber=subscriber,
            metrics=EvaluatorMetrics(service.registry),
            rounds=rounds,
            health=service.health,
            log=service.log,
        )
    )
    service.end_when_stuck()
    evaluator.run(service.stop)


def _serve_page(
    settings: EvaluatorSettings, service: Service, rounds: Rounds, keys: ActorKeys | None
) -> str | None:
    """Serves the live page until the service ends; returns its address, None if there is none."""
    if settings.page_port is None:
        return None
    try:
        from asyncade_watch.of_learner import page_of_learner
        from asyncade_watch.serve import address_of, listen, served_beside
    except ImportError as error:
        raise StartError(f"--page-port needs: pip install 'asyncade[watch]' ({error})") from error
    host, enter = settings.page_host, service.stack.enter_context
    listening = enter(listen(host, settings.page_port, setting="--page-port"))
    address, seed = settings.weights_address, settings.seed + _SEEDS_BEYOND
    enter(served_beside(enter(page_of_learner(address, keys, rounds, host, seed)), listening))
    return address_of(listening)


if __name__ == "__main__":
    sys.exit(main())
