"""The learner as a process: settings in, objects together, run until done or SIGTERM."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from asyncade_learner.settings import LearnerSettings
from asyncade_runtime.allocator import keep_freed_memory
from asyncade_runtime.cores import available_cores, set_thread_environment
from asyncade_runtime.lifecycle import Health, HttpAddressError, serve_http, stop_on_signals
from asyncade_runtime.logs import configure, get_logger
from asyncade_runtime.run_folder import RunFolder, RunFolderError, source_commit
from asyncade_runtime.settings import SettingsError, load
from asyncade_runtime.transport.addresses import SocketAddressError
from asyncade_runtime.transport.keys import KeysError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a learner; returns the exit code."""
    started = time.monotonic()
    try:
        settings = load(LearnerSettings, sys.argv[1:] if argv is None else argv, os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    configure("learner", "learner", settings.log_format, settings.log_level, sys.stderr)
    threads = settings.threads(available_cores())
    set_thread_environment(threads, os.environ)
    from asyncade_learner.checkpoint import CheckpointError  # loads torch
    from asyncade_rl.devices import DeviceError

    try:
        run(settings, threads, started)
    except (
        SocketAddressError,
        HttpAddressError,
        RunFolderError,
        CheckpointError,
        DeviceError,
        KeysError,
    ) as error:
        get_logger().error("cannot start", detail=str(error))
        return 2
    return 0


def run(settings: LearnerSettings, threads: int, started: float) -> None:
    """Puts the learner together and steps it until it is done, SIGTERM or SIGINT."""
    import zmq
    from prometheus_client import CollectorRegistry

    from asyncade_learner.learner import Learner
    from asyncade_learner.metrics import LearnerMetrics
    from asyncade_learner.reporting import summary
    from asyncade_proto.limits import MAX_MESSAGE_BYTES
    from asyncade_rl.devices import prepare_processor
    from asyncade_runtime.transport.listening import listening

    prepare_processor(threads)
    keep_freed_memory()
    stop = stop_on_signals()
    log = get_logger()
    folder = RunFolder(settings.run_dir)
    registry = CollectorRegistry()
    health = Health(settings.stall_seconds)
    about = _about(settings, threads)
    with ExitStack() as closing:
        closing.enter_context(folder.claimed())
        folder.remove_endpoints()
        context = zmq.Context()
        closing.callback(context.term)
        inbox, publisher = closing.enter_context(
            listening(context, settings, max_message_bytes=MAX_MESSAGE_BYTES)
        )
        closing.callback(folder.remove_endpoints)
        http = closing.enter_context(
            serve_http(settings.metrics_host, settings.metrics_port, registry, health)
        )
        learner = Learner(
            settings,
            inbox=inbox,
            publisher=publisher,
            folder=folder,
            metrics=LearnerMetrics(registry),
            health=health,
            log=log,
            started=started,
        )
        folder.remove_summary()
        folder.write_config("learner", settings.model_dump(mode="json") | about)
        page = f"http://{settings.metrics_host}:{http.port}/metrics"
        endpoints = {"upstream": inbox.endpoint, "weights": publisher.endpoint, "metrics": page}
        folder.write_endpoints(endpoints)
        log.info("up", mode=settings.mode, upstream=inbox.endpoint, metrics_port=http.port)
        ended = learner.run(stop)
        try:
            folder.write_summary(
                summary(learner.progress, target=settings.target, ended_by=ended, about=about)
            )
        except RunFolderError as error:
            log.error("summary not written", detail=str(error))
        log.info("ended", by=ended, env_steps=learner.progress.env_steps)


def _about(settings: LearnerSettings, threads: int) -> dict[str, Any]:
    """Returns what config.json and summary.json say of the run."""
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
