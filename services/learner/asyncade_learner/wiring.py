"""Puts a learner together: for its process, for tests, and for runs within one process."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import structlog

from asyncade_learner.calibration import Calibration
from asyncade_learner.checkpoint import Checkpoint, resume
from asyncade_learner.intake import Intake, Rules
from asyncade_learner.keeper import Keeper
from asyncade_learner.learner import Learner
from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.modes import LearnerMode, make_mode
from asyncade_learner.processor import Processor
from asyncade_learner.progress import Progress
from asyncade_learner.receiving import Receiver, ThreadedReceiver
from asyncade_learner.recovery import Recovery
from asyncade_learner.rounds import Rounds
from asyncade_learner.run_log import RunLog
from asyncade_learner.settings import LearnerSettings
from asyncade_learner.telemetry import Telemetry
from asyncade_learner.trainer import Trainer
from asyncade_learner.versions import Versions
from asyncade_rl.devices import fastest_precision, find_device
from asyncade_rl.games import FRAME_SIDE, largest_reward, num_actions
from asyncade_rl.network import make_network
from asyncade_rl.params import fingerprint
from asyncade_runtime.admission import Roster
from asyncade_runtime.claims import Claims
from asyncade_runtime.entrance import Entrance
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.progress_page import ProgressPage
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.transport.connection_log import ConnectionLog
from asyncade_runtime.transport.roles import Inbox, Publisher


def make_learner(
    settings: LearnerSettings,
    *,
    inbox: Inbox,
    publisher: Publisher,
    folder: RunFolder,
    metrics: LearnerMetrics,
    health: Health,
    log: Any = None,
    run_id: int | None = None,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
    started: float | None = None,
    threads: int | None = None,
    messages_live_on: bool = False,
    page: ProgressPage | None = None,
) -> Learner:
    """Builds a learner, and resumes the run in `folder` as the settings ask.

    `metrics` and `page` are as in `Telemetry`; the others are as in `Learner`. By default the run
    id is random and the process starts now. `threads` are those that torch has: unless the settings
    name their number, fewer are used while they wait for CPU. By default torch's threads are left
    alone. `messages_live_on` is as in `Keeper.take_up`.

    Raises:
        CheckpointError: see `checkpoint.resume`.
        DeviceError: the settings ask for a GPU and there is none.
    """
    log = log or structlog.get_logger()
    device = find_device(settings.device)
    network = make_network(num_actions(settings.game), settings.network, settings.seed).to(device)
    network.precision = (
        fastest_precision(device) if settings.precision == "auto" else settings.precision
    )
    model = fingerprint(network)
    about = {"game": settings.game, "network": settings.network, "model": model}
    trainer = Trainer(network, settings, metrics.stages)
    if threads is not None and device.type == "cpu":
        follow = settings.torch_threads is None
        trainer.processor = Processor(metrics, log, threads=threads, follow=follow)
    checkpoint = resume(folder, trainer, about, settings.resume, log)
    progress = checkpoint.progress if checkpoint else Progress()
    mode = make_mode(trainer)
    rules = Rules(
        model=model,
        parameter_shapes={n: tuple(p.shape) for n, p in network.named_parameters()},
        num_actions=num_actions(settings.game),
        frame_shape=(FRAME_SIDE, FRAME_SIDE),
        unroll_length=settings.unroll_length,
        max_policy_lag=settings.max_policy_lag,
    )
    entrance = Entrance(settings.actors_per_peer, metrics.shut_out, log)
    roster, versions, recovery = Roster(), Versions(), Recovery()
    rounds = Rounds(roster, settings.quorum, settings.patience_seconds, log)
    claims = Claims(
        settings.most_asked(),
        largest_reward=largest_reward(settings.game),
        actors_behind_relay=settings.actors_behind_relay,
    )
    run_log = RunLog(folder, progress.env_steps)
    telemetry = Telemetry(metrics, progress, run_log, settings.target, log, wall_clock, page)
    keeper = Keeper(
        folder=folder,
        about=about,
        progress=progress,
        trainer=trainer,
        mode=mode,
        roster=roster,
        rounds=rounds,
        versions=versions,
        recovery=recovery,
        telemetry=telemetry,
        clock=clock,
        wall_clock=wall_clock,
    )
    if checkpoint:
        keeper.take_up(checkpoint.kept, messages_live_on=messages_live_on)
    threaded = settings.decodes_ahead(device.type)
    receiving = ThreadedReceiver if threaded else Receiver
    receiver = receiving(inbox, metrics.stages, entrance.shut_out)
    sockets = {"upstream": receiver, "weights": publisher}
    return Learner(
        trainer=trainer,
        phase=_first_phase(trainer, mode, checkpoint),
        receiver=receiver,
        intake=Intake(entrance, rules, claims, roster, telemetry),
        rounds=rounds,
        versions=versions,
        recovery=recovery,
        keeper=keeper,
        publisher=publisher,
        folder=folder,
        progress=progress,
        telemetry=telemetry,
        connections=ConnectionLog(metrics.connection_events, log, serving=sockets),
        health=health,
        log=log,
        run_id=secrets.randbits(63) if run_id is None else run_id,
        clock=clock,
        wall_clock=wall_clock,
        started=clock() if started is None else started,
    )


def _first_phase(
    trainer: Trainer, mode: LearnerMode, checkpoint: Checkpoint | None
) -> Calibration | LearnerMode:
    """Returns calibration, which goes on where it was stopped, unless it is over."""
    calibration = Calibration(trainer, mode)
    if checkpoint is not None:
        kept = checkpoint.kept.calibrated
        if checkpoint.progress.updates > 0 if kept is None else kept:
            return mode
        calibration.statistics.restore(checkpoint.calibration)
    return mode if calibration.complete() else calibration
