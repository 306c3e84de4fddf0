"""The learner's loop: gather messages, improve the policy, publish it, keep it safe.

It waits for no actor by name. Whoever is there is served; whoever dies is not missed.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from asyncade_learner import checkpoint
from asyncade_learner.checkpoint import Checkpoint, CheckpointError
from asyncade_learner.intake import FOREIGN, Intake
from asyncade_learner.metrics import LOSSES, LearnerMetrics
from asyncade_learner.phases import Calibration, Improvement, Phase, Trainer, learning_phase
from asyncade_learner.progress import Progress
from asyncade_learner.receiving import InlineReceiver, Received, Receiver, ThreadedReceiver
from asyncade_learner.reporting import EndedBy, Reporter
from asyncade_learner.settings import LearnerSettings
from asyncade_proto.codec import encode
from asyncade_proto.errors import DecodeError
from asyncade_proto.limits import MAX_SENDERS
from asyncade_proto.messages import Upstream, Weights
from asyncade_rl.devices import fastest_precision, find_device
from asyncade_rl.games import FRAME_SIDE, num_actions
from asyncade_rl.network import make_network
from asyncade_rl.params import ModelMismatchError, copy_into, fingerprint, to_safetensors
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.transport.connection_log import ConnectionLog
from asyncade_runtime.transport.roles import Inbox, Publisher
from asyncade_runtime.verdicts import Accepted, Dropped

WAIT_S: Final = 0.25
"""How long one step may block on a socket: what a SIGTERM waits for at most."""

ACTIVE_WINDOW_S: Final = 30.0


class Learner:
    """Trains and publishes.

    Args:
        settings: the run's.
        inbox: messages from actors.
        publisher: weights to actors.
        folder: where the run is kept.
        metrics: told what happens.
        health: ticked every step, and every update in it; ready when actors can be served.
        log: told what a person should know.
        started: `clock` when the process began, so that start-up counts as run time.
        clock: monotonic time in seconds.

    Raises:
        CheckpointError: the folder's checkpoint does not fit the settings, or resuming was
            demanded and there is nothing to resume, or forbidden and there is.
        DeviceError: a GPU is asked for and there is none.
    """

    def __init__(
        self,
        settings: LearnerSettings,
        *,
        inbox: Inbox,
        publisher: Publisher,
        folder: RunFolder,
        metrics: LearnerMetrics,
        health: Health,
        log: Any = None,
        started: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._publisher = publisher
        self._folder = folder
        self._metrics = metrics
        self._health = health
        self._log = log or structlog.get_logger()
        self._clock = clock
        self._run = secrets.randbits(63)
        device = find_device(settings.device)
        network = make_network(num_actions(settings.game), settings.network, settings.seed)
        network = network.to(device)
        network.precision = (
            fastest_precision(device) if settings.precision == "auto" else settings.precision
        )
        self._trainer = Trainer(network, settings, metrics.stages, health.tick)
        make_receiver = ThreadedReceiver if settings.decodes_ahead(device.type) else InlineReceiver
        self._receiver: Receiver = make_receiver(inbox, metrics.stages)
        self._model = fingerprint(network)
        self._progress = self._resumed() or Progress()
        self._intake = Intake(
            model=self._model,
            parameter_shapes={n: tuple(p.shape) for n, p in network.named_parameters()},
            num_actions=num_actions(settings.game),
            frame_shape=(FRAME_SIDE, FRAME_SIDE),
            unroll_length=settings.unroll_length,
            max_policy_lag=settings.max_policy_lag,
        )
        calibrated = self._progress.updates > 0 or settings.calibration_env_steps == 0
        self._phase: Phase = (
            learning_phase(self._trainer) if calibrated else Calibration(self._trainer)
        )
        self._reporter = Reporter(folder, self._progress, settings.target)
        self._connections = ConnectionLog(
            metrics.connection_events,
            self._log,
            serving={"upstream": self._receiver, "weights": publisher},
        )
        self._seen: dict[str, float] = {}
        self._contributors: set[str] = set()
        self._received: dict[str, int] = {}
        self._owes_credit = False
        self._started = clock() if started is None else started
        self._seconds_before = self._progress.seconds
        self._last_progress = self._last_report = self._last_checkpoint = clock()

    @property
    def progress(self) -> Progress:
        """Counters so far."""
        return self._progress

    def run(self, stop: threading.Event) -> EndedBy:
        """Steps until the run is over or told to stop, and leaves a checkpoint either way."""
        self.begin()
        try:
            while (ended := self.ended()) is None and not stop.is_set():
                self.step()
        finally:
            self._count_seconds()
            self._report()
            self._save_checkpoint()
            self._receiver.close()
        return ended or "signal"

    def begin(self) -> None:
        """Publishes the first weights: from now on actors can be served."""
        self._publish()
        self._health.ready = True

    def step(self) -> None:
        """Takes in what arrived; improves and publishes when there is enough of it."""
        self._health.tick()
        self._connections.note()
        self._welcome()
        self._gather()
        if self._enough():
            self._improve()
        elif self._owes_credit and not self._phase.gathered:
            self._publish()
        elif self._clock() - self._last_progress > self._settings.patience_seconds:
            self._lose_patience()
        self._count_seconds()
        if self._progress.note_passed(self._settings.target):
            self._log.info("target passed", env_steps=self._progress.env_steps)
        now = self._clock()
        if now - self._last_report >= self._settings.report_seconds:
            self._report()
        if now - self._last_checkpoint >= self._settings.checkpoint_seconds:
            self._save_checkpoint()

    def ended(self) -> EndedBy | None:
        """Returns why the run is over, if it is."""
        settings, progress = self._settings, self._progress
        if settings.complete(progress):
            return "target"
        if settings.max_env_steps is not None and progress.env_steps >= settings.max_env_steps:
            return "max_env_steps"
        minutes = (self._clock() - self._started) / 60
        if settings.max_minutes is not None and minutes >= settings.max_minutes:
            return "max_minutes"
        return None

    # --- taking in ---------------------------------------------------------------------------

    def _gather(self) -> None:
        """Takes messages until there are enough, or a moment is over: junk may come without end.

        More are left in the sockets, which fill up and hold the actors back.
        """
        deadline = self._clock() + WAIT_S
        while not self._enough() and (left := deadline - self._clock()) > 0:
            received = self._receiver.receive(left)
            if received is None:
                return
            self._take(received)

    def _enough(self) -> bool:
        return self._phase.enough(len(self._seen))

    def _take(self, received: Received) -> None:
        """Counts what a message tells, and keeps it if it is wanted."""
        self._metrics.received_bytes.inc(received.size)
        message = received.content
        if isinstance(message, DecodeError):
            self._drop(message.reason, str(message))
            return
        if isinstance(message, Weights):
            self._drop("malformed", "weights on the upstream socket")
            return
        self._progress.received_bytes += received.size
        verdict = self._intake.offer(
            message,
            policy_version=self._progress.policy_version,
            request=self._phase.request,
        )
        self._metrics.lost.inc(verdict.lost)
        self._reporter.note_lost(verdict.lost)
        if isinstance(verdict, Dropped) and verdict.reason in FOREIGN:
            self._drop(verdict.reason, verdict.detail)
            return
        self._seen[message.actor_id] = self._clock()
        self._received[message.actor_id] = message.sequence + 1
        self._count_play(message)
        match verdict:
            case Dropped(reason=reason, detail=detail):
                self._drop(reason, detail)
                self._owes_credit = True  # its actor waits to hear that it came in
            case Accepted(policy_lag=lag):
                self._metrics.messages.labels(kind=type(message).__name__.lower()).inc()
                self._metrics.policy_lag.observe(lag)
                self._reporter.note_lag(lag)
                self._phase.add(message)
                self._contributors.add(message.actor_id)
                self._last_progress = self._clock()

    def _count_play(self, message: Upstream) -> None:
        """Counts env steps and games, used or not: they were played."""
        self._progress.env_steps += message.env_steps
        self._progress.count_episodes(message.episodes.returns)
        self._metrics.env_steps.inc(message.env_steps)
        self._metrics.episodes.inc(len(message.episodes.returns))

    def _drop(self, reason: str, detail: str) -> None:
        self._metrics.dropped.labels(reason=reason).inc()
        self._reporter.note_dropped()
        self._log.debug("message dropped", reason=reason, detail=detail)

    def _welcome(self) -> None:
        joined = self._publisher.welcome_joiners()
        if joined:
            self._metrics.joins.inc(joined)
            self._log.info("actors joined", count=joined)

    # --- learning ----------------------------------------------------------------------------

    def _improve(self) -> None:
        improvement = self._phase.improve(self._settings.remaining(self._progress))
        self._contributors.clear()
        self._progress.updates += improvement.updates
        self._watch(improvement)
        if isinstance(self._phase, Calibration) and self._phase.done:
            self._phase = learning_phase(self._trainer)
            self._log.info("input normalisation calibrated", env_steps=self._progress.env_steps)
        self._publish()

    def _lose_patience(self) -> None:
        """Makes do with what there is; publishes that nothing is on its way any more.

        Otherwise messages lost on the way would leave actors waiting for weights that wait for
        their messages. Who had no part in the batch no longer counts until it is heard of again:
        an actor that died must not hold up the next batch too.
        """
        self._received = {}
        self._seen = {actor: self._seen[actor] for actor in self._contributors & self._seen.keys()}
        if self._phase.gathered:
            self._improve()
        else:
            self._publish()

    def _watch(self, improvement: Improvement) -> None:
        metrics = self._metrics
        metrics.updates.inc(improvement.updates)
        metrics.samples.inc(improvement.samples)
        metrics.non_finite.inc(improvement.non_finite)
        if improvement.non_finite:
            self._log.warning("gradient not finite: update skipped", count=improvement.non_finite)
        if improvement.updates:
            metrics.gradient_norm.set(improvement.gradient_norm)
            metrics.learning_rate.set(improvement.learning_rate)
            metrics.last_update.set(time.time())
            self._reporter.note_losses(improvement.losses)
            for name in LOSSES & improvement.losses.keys():  # actors could send any name
                metrics.loss.labels(part=name).set(improvement.losses[name])

    def _publish(self) -> None:
        self._metrics.stages.enter("publish")
        self._progress.policy_version += 1
        weights = Weights(
            run=self._run,
            policy_version=self._progress.policy_version,
            model=self._model,
            assignment=self._settings.assignment(
                self._phase.request, self._settings.remaining(self._progress), len(self._seen)
            ),
            received=dict(itertools.islice(self._received.items(), MAX_SENDERS)),
            safetensors=to_safetensors(self._trainer.network),
            published_at=time.time(),
        )
        frame = encode(weights)
        self._publisher.publish(frame)
        self._owes_credit = False
        self._last_progress = self._clock()
        self._metrics.policy_version.set(self._progress.policy_version)
        self._metrics.published.inc()
        self._metrics.published_bytes.inc(len(frame))

    # --- keeping -----------------------------------------------------------------------------

    def _about(self) -> dict[str, Any]:
        return {
            "game": self._settings.game,
            "network": self._settings.network,
            "model": self._model,
        }

    def _resumed(self) -> Progress | None:
        """Takes up the newest readable checkpoint, as the settings ask."""
        paths = checkpoint.found(self._folder.checkpoints)
        if self._settings.resume == "never" and paths:
            raise CheckpointError(
                f"{self._folder.root} holds a run already; resume it, or choose another folder"
            )
        if self._settings.resume == "must" and not paths:
            raise CheckpointError(f"{self._folder.root} holds no checkpoint to resume from")
        for path in paths:
            try:
                found = checkpoint.load(path)
            except CheckpointError as error:
                self._log.error("checkpoint damaged; trying the one before", detail=str(error))
                continue
            self._restore(found)
            self._log.info("resumed", checkpoint=path.name, env_steps=found.progress.env_steps)
            return found.progress
        if paths:
            raise CheckpointError(
                f"no checkpoint in {self._folder.checkpoints} can be read; choose another folder"
            )
        self._folder.forget_metrics_after(-1, -1)  # of a run that died before its first checkpoint
        return None

    def _restore(self, found: Checkpoint) -> None:
        if dict(found.about) != self._about():
            raise CheckpointError(
                f"the checkpoint is of {dict(found.about)}, the settings say {self._about()}: "
                "resume with the same game and network, or choose another folder"
            )
        try:
            copy_into(self._trainer.network.state_dict(), found.model)
        except ModelMismatchError as error:
            raise CheckpointError(str(error)) from error
        self._trainer.optimiser.load_state(found.optimiser)
        self._trainer.generator.set_state(found.generator)
        self._folder.forget_metrics_after(found.progress.env_steps, found.progress.seconds)

    def _save_checkpoint(self) -> None:
        """Writes a checkpoint. A full disk is counted and logged; training goes on."""
        self._metrics.stages.enter("checkpoint")
        self._last_checkpoint = self._clock()
        state = Checkpoint(
            progress=self._progress,
            model=self._trainer.network.state_dict(),
            optimiser=self._trainer.optimiser.state(),
            generator=self._trainer.generator.get_state(),
            about=self._about(),
        )
        try:
            checkpoint.save(self._folder.checkpoints, state, self._settings.checkpoints_kept)
        except OSError as error:
            self._metrics.checkpoint_failures.inc()
            self._log.error("checkpoint not written", detail=str(error))
        else:
            self._metrics.last_checkpoint.set(time.time())

    def _count_seconds(self) -> None:
        self._progress.seconds = self._seconds_before + self._clock() - self._started

    def _report(self) -> None:
        self._metrics.stages.enter("report")
        now = self._last_report = self._clock()
        self._seen = {a: t for a, t in self._seen.items() if now - t < ACTIVE_WINDOW_S}
        self._received = {a: n for a, n in self._received.items() if a in self._seen}
        self._metrics.active_actors.set(len(self._seen))
        mean = self._progress.mean_return()
        if mean is not None:
            self._metrics.episode_return.set(mean)
        seconds = self._metrics.stages.seconds()
        try:
            row = self._reporter.report(active_actors=len(self._seen), stage_seconds=seconds)
        except OSError as error:
            self._log.error("report not written", detail=str(error))
        else:
            self._log.debug("progress", **row)
