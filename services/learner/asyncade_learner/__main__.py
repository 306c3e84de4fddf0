"""The learner process: reads settings, builds the learner, runs it until done or SIGTERM."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from asyncade_learner.settings import LearnerSettings
from asyncade_runtime.cores import available_cores
from asyncade_runtime.run_folder import RunFolder, RunFolderError, source_commit
from asyncade_runtime.service import Service, StartError, run_service
from asyncade_runtime.transport.listening import listening


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a learner; returns the exit code."""
    return run_service(
        "learner",
        LearnerSettings,
        serve,
        argv,
        instance=lambda settings: "learner",
        threads=lambda settings: settings.threads(available_cores()),
    )


def serve(settings: LearnerSettings, service: Service) -> None:
    """Builds the learner and steps it until the run is over, SIGTERM or SIGINT."""
    # Imported here: torch reads the thread limits when it is loaded.
    from asyncade_learner.checkpoint import CheckpointError
    from asyncade_learner.metrics import LearnerMetrics
    from asyncade_learner.run_log import summary
    from asyncade_learner.wiring import make_learner
    from asyncade_rl.devices import DeviceError, prepare_processor

    threads = settings.threads(available_cores())
    prepare_processor(threads)
    about = _about(settings, threads)
    folder = RunFolder.create(settings.run_dir)
    service.stack.enter_context(folder.claimed())
    folder.remove_endpoints()
    inbox, publisher = service.stack.enter_context(
        listening(
            service.context, settings.upstream_address, settings.weights_address, settings.keys
        )
    )
    service.stack.callback(folder.remove_endpoints)
    http = service.serve_http()
    try:
        learner = make_learner(
            settings,
            inbox=inbox,
            publisher=publisher,
            folder=folder,
            metrics=LearnerMetrics(service.registry),
            health=service.health,
            log=service.log,
            started=service.started,
        )
    except (CheckpointError, DeviceError) as error:
        raise StartError(str(error)) from error
    folder.remove_summary()
    folder.write_config("learner", settings.model_dump(mode="json") | about)
    page = f"http://{settings.metrics_host}:{http.port}/metrics"
    endpoints = {"upstream": inbox.endpoint, "weights": publisher.endpoint, "metrics": page}
    folder.write_endpoints(endpoints)
    service.log.info("up", mode=settings.mode, upstream=inbox.endpoint, metrics_port=http.port)
    ended = learner.run(service.stop)
    try:
        folder.write_summary(
            summary(learner.progress, target=settings.target, ended_by=ended, about=about)
        )
    except RunFolderError as error:
        service.log.error("summary not written", detail=str(error))
    service.log.info("ended", by=ended, env_steps=learner.progress.env_steps)


def _about(settings: LearnerSettings, threads: int) -> dict[str, Any]:
    """Returns the facts of the run that config.json and summary.json both hold."""
    return {
        "mode": settings.mode,
        "game": settings.game,
        "seed": settings.seed,
        "commit": source_commit(),
        "cores": available_cores(),
        "torch_threads": threads,
    }


if __name__ == "__main__":
    sys.exit(main())
