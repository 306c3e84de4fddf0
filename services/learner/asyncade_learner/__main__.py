"""The learner process: reads settings, builds the learner, runs it until done or SIGTERM."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asyncade_learner.settings import LearnerSettings, diverged
from asyncade_learner.stored import changed, with_stored
from asyncade_runtime.cores import available_cores
from asyncade_runtime.files import RunFolderError
from asyncade_runtime.progress_page import PATH, ProgressPage
from asyncade_runtime.run_folder import RunFolder, source_commit
from asyncade_runtime.service import HopelessError, Service, StartError, run_service
from asyncade_runtime.transport.listening import listening

if TYPE_CHECKING:
    from asyncade_learner.learner import Learner


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a learner; returns the exit code."""
    return run_service(
        "learner",
        LearnerSettings,
        serve,
        argv,
        instance=lambda settings: "learner",
        threads=lambda settings: settings.threads(available_cores()),
        completed=with_stored,
    )


def serve(settings: LearnerSettings, service: Service) -> None:
    """Builds the learner and steps it until the run is over, SIGTERM or SIGINT.

    Claims the run folder first, and changes nothing in it before all is known to fit: a start that
    is refused leaves the folder as it was.
    """
    # Imported here: torch reads the thread limits when it is loaded.
    from asyncade_learner.checkpoint import CheckpointError
    from asyncade_learner.metrics import LearnerMetrics
    from asyncade_learner.run_log import summary
    from asyncade_learner.wiring import make_learner
    from asyncade_rl.devices import DeviceError, prepare_processor

    threads = settings.threads(available_cores())
    prepare_processor(threads)
    about = _about(settings, threads)
    folder = RunFolder(settings.run_dir)
    service.stack.enter_context(folder.claimed())
    inbox, publisher = service.stack.enter_context(
        listening(
            service.context, settings.upstream_address, settings.weights_address, settings.keys
        )
    )
    page = ProgressPage({name: about[name] for name in ("mode", "game", "seed")})
    http = service.serve_http({PATH: page.content})
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
            threads=threads,
            page=page,
        )
    except (CheckpointError, DeviceError) as error:
        raise StartError(str(error)) from error
    metrics = f"http://{settings.metrics_host}:{http.port}/metrics"
    endpoints = {"upstream": inbox.endpoint, "weights": publisher.endpoint, "metrics": metrics}
    _take_over(folder, learner, settings, about, endpoints, service)
    page.continues(folder.metrics)
    ended = learner.run(service.stop)
    try:
        folder.write_summary(
            summary(learner.progress, target=settings.target, ended_by=ended, about=about)
        )
    except RunFolderError as error:
        service.log.error("summary not written", detail=str(error))
    service.log.info("ended", by=ended, env_steps=learner.progress.env_steps)
    if ended == "diverged":
        raise HopelessError(diverged(settings.learning_rate))


def _take_over(
    folder: RunFolder,
    learner: Learner,
    settings: LearnerSettings,
    about: Mapping[str, Any],
    endpoints: Mapping[str, str],
    service: Service,
) -> None:
    """Replaces the files of an earlier sitting by this one's, now that all is known to fit.

    There are no endpoints if the run is over before it begins, so that no actor is started.
    """
    for warning in settings.far_beyond_defaults():
        service.log.warning("setting far beyond its default", detail=warning)
    if anew := changed(settings):
        service.log.info("settings changed", **anew)
    RunFolder.create(settings.run_dir)
    learner.forget_later_rows()
    folder.remove_summary()
    folder.write_config("learner", {**settings.model_dump(mode="json"), **about})
    run = f"{learner.run_id:016x}"
    if (by := learner.ended()) is None:
        service.stack.callback(folder.remove_endpoints)
        folder.write_endpoints({**endpoints, "run": run, "pid": os.getpid()})
    else:
        service.log.warning("nothing to do", by=by, env_steps=learner.progress.env_steps)
    service.log.info("up", mode=settings.mode, run=run, **endpoints)


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
