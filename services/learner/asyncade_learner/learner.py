"""The learner's loop: gather messages, improve the policy, publish the weights.

It waits for no actor by name: actors come and go, and a dead one is not missed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from asyncade_learner.calibration import Calibration
from asyncade_learner.intake import Intake
from asyncade_learner.keeper import Keeper
from asyncade_learner.modes import LearnerMode
from asyncade_learner.progress import Progress
from asyncade_learner.receiving import Receiver
from asyncade_learner.recovery import Recovery
from asyncade_learner.rounds import Rounds
from asyncade_learner.run_log import EndedBy
from asyncade_learner.settings import LearnerSettings
from asyncade_learner.telemetry import Telemetry
from asyncade_learner.trainer import Trainer
from asyncade_learner.versions import Versions
from asyncade_proto.codec import encode
from asyncade_proto.messages import Weights
from asyncade_rl.params import to_safetensors
from asyncade_rl.schedule import annealed, cooldown_left
from asyncade_runtime.lifecycle import WAIT_S, Health
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.transport.connection_log import ConnectionLog
from asyncade_runtime.transport.roles import Publisher


@dataclass(kw_only=True, eq=False, repr=False)
class Learner:
    """Trains a network on what actors send, and publishes its weights to them.

    Attributes:
        trainer: the network and the settings of the run.
        phase: the present one.
        receiver: messages from actors.
        intake: admits them, and keeps the roster of actors.
        rounds: decide when a batch is complete.
        versions: that were published, with their age.
        recovery: decides when to go back to a checkpoint.
        keeper: saves checkpoints, and goes back to them.
        publisher: weights to actors.
        folder: of the run.
        progress: counters of the run.
        telemetry: updated with every event.
        connections: counts and logs connection events.
        health: ticked every step and every update; ready once actors can be served.
        log: structured logger.
        run_id: number of this learner process, in all its weights.
        clock: monotonic time in seconds.
        wall_clock: Unix time in seconds.
        started: `clock` at the start of the process, which counts as run time.
    """

    trainer: Trainer
    phase: Calibration | LearnerMode
    receiver: Receiver
    intake: Intake
    rounds: Rounds
    versions: Versions
    recovery: Recovery
    keeper: Keeper
    publisher: Publisher
    folder: RunFolder
    progress: Progress
    telemetry: Telemetry
    connections: ConnectionLog
    health: Health
    log: Any
    run_id: int
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    started: float

    def __post_init__(self) -> None:
        self.trainer.tick = self._tick
        self._roster = self.intake.roster
        self._seconds_before = self.progress.seconds
        self._resumed_env_steps = self.progress.env_steps
        self._waiting_since = self._last_report = self._last_checkpoint = self.clock()

    @property
    def _settings(self) -> LearnerSettings:
        """The settings, with the step size as it is after roll-backs."""
        return self.trainer.settings

    def run(self, stop: threading.Event) -> EndedBy:
        """Steps until the run is over or `stop` is set, and saves a checkpoint either way."""
        self.trainer.stop = stop
        untouched = self.progress.env_steps == self._resumed_env_steps > 0
        if untouched and (over := self.ended()) is not None:
            self.receiver.close()  # resumed after its end: checkpoints and rows stay as they are
            return over
        self.begin()
        try:
            while (ended := self.ended()) is None and not stop.is_set():
                self.step()
        finally:
            self.finish()
        return ended or "signal"

    def finish(self) -> None:
        """Writes a last row and a checkpoint, and releases the inbox."""
        self._count_seconds()
        self._report()
        self._save()
        self.receiver.close()

    def forget_later_rows(self) -> None:
        """Drops the rows after the checkpoint, all rows if there is none: they will be repeated."""
        resumed = self.progress.policy_version > 0
        env_steps, seconds = self.progress.env_steps, self.progress.seconds
        self.folder.forget_metrics_after(*((env_steps, seconds) if resumed else (-1, -1)))

    def begin(self) -> None:
        """Publishes the first weights: from now on actors can be served.

        A checkpoint's are those of its version, so they keep it.
        """
        self.forget_later_rows()
        self._publish(anew=not self.progress.policy_version)
        self.health.ready = True

    def step(self) -> None:
        """Gathers messages; improves and publishes if that is enough; reports and saves if due."""
        self._tick()
        self.connections.note()
        self._gather()
        if self._enough():
            self._improve()
            self._publish()
        elif self._roster.owes_credit and not self.phase.gathered:
            self._publish()  # all messages were dropped; their senders wait for credit
        elif self.clock() - self._waiting_since > self._settings.patience_seconds:
            self._lose_patience()
        self._count_seconds()
        playing = self.rounds.playing(self.clock())
        if self.progress.note_passed(self._settings.target, playing):
            self.log.info("target passed", env_steps=self.progress.env_steps)
        now = self.clock()
        if now - self._last_report >= self._settings.report_seconds:
            self._report()
        if now - self._last_checkpoint >= self._settings.checkpoint_seconds:
            self._save()

    def ended(self) -> EndedBy | None:
        """Returns why the run is over; None if it is not."""
        settings, env_steps = self._settings, self.progress.env_steps
        if self.recovery.exhausted:
            return "diverged"
        if self._cooldown_left() == 0:
            return "target"
        if settings.max_env_steps is not None and env_steps >= settings.max_env_steps:
            return "max_env_steps"
        return "max_minutes" if self._minutes_over() else None

    def _minutes_over(self) -> bool:
        limit = self._settings.max_minutes
        return limit is not None and (self.clock() - self.started) / 60 >= limit

    def _tick(self) -> None:
        """Shows that the learner is alive, ends a batch in time, and sends joiners weights."""
        self.health.tick()
        if self._minutes_over():
            self.trainer.stop.set()  # a batch can take minutes
        self.telemetry.joined(self.publisher.welcome_joiners())

    def _gather(self) -> None:
        """Receives messages until there are enough, or for `WAIT_S`: junk may come without end.

        The others stay in the sockets, which fill up and hold the actors back.
        """
        deadline = self.clock() + WAIT_S
        while not self._enough() and (left := deadline - self.clock()) > 0:
            received = self.receiver.receive(min(left, self._seconds_until_enough()))
            if received is None:
                return
            message = self.intake.admit(
                received,
                policy_version=self.progress.policy_version,
                lag_of=lambda version: self.versions.lag_of(version, self.trainer.updates),
                request=self.phase.request,
                problem_of=self.phase.problem_of,
                now=self.clock(),
            )
            if message is not None:
                self.phase.add(message)
                self.rounds.arrived(message, self._settings.messages_in_flight, self.clock())
                self._waiting_since = self.clock()

    def _enough(self) -> bool:
        now = self.clock()
        wanted = self.phase.wanted(self.rounds.playing(now))
        return self.rounds.complete(self.phase.gathered, wanted, now)

    def _seconds_until_enough(self) -> float:
        return self.rounds.seconds_left(self.clock()) if self.phase.gathered else WAIT_S

    def _improve(self) -> None:
        """Trains on the gathered messages, and enters the next phase if this one is over."""
        improvement = self.phase.improve(self._remaining())
        self.telemetry.improved(improvement)
        self._roster.next_batch()
        growth = self.keeper.growth()
        if self.recovery.wrecked(improvement.updates, improvement.skipped, growth):
            self.keeper.roll_back()
            return
        following = self.phase.next()
        if following is not self.phase:
            self.log.info("input normalisation calibrated", env_steps=self.progress.env_steps)
            self._save()  # the agent before it has learned anything, to look at later
        self.phase = following

    def _publish(self, *, anew: bool = True) -> None:
        """Publishes the present weights, with credit for all that arrived.

        Args:
            anew: as a new version.
        """
        if self.recovery.lost:
            return  # the run ends, and nobody should play with these
        self.trainer.stages.enter("publish")
        self.progress.policy_version += anew
        self.versions.published(self.progress.policy_version, self.trainer.updates)
        self.rounds.published(self.clock())
        assignment = self._settings.assignment(
            self.phase.request, self._remaining(), self.rounds.playing(self.clock())
        )
        if isinstance(self.phase, Calibration):
            # No game has to be given up once it is known how many actors there are.
            assignment = replace(assignment, games=1)
        weights = Weights(
            run=self.run_id,
            policy_version=self.progress.policy_version,
            model=self.intake.rules.model,
            assignment=assignment,
            unroll_lengths=self.rounds.lengths_below(assignment.unroll_length),
            received=self._roster.credit(),
            safetensors=to_safetensors(self.trainer.network),
            published_at=self.wall_clock(),
        )
        frame = encode(weights)
        self.publisher.publish(frame)
        self.telemetry.published(weights.policy_version, len(frame))
        self._waiting_since = self.clock()

    def _lose_patience(self) -> None:
        """Improves with what was gathered, and publishes that no message is in flight.

        Otherwise actors whose messages were lost would wait for weights, and the learner for their
        messages.
        """
        self._roster.forget_received()
        self._roster.forget_absent()
        if self.phase.gathered:
            self._improve()
        self._publish()

    def _remaining(self) -> float:
        """Returns the fraction of step size and entropy cost that is left."""
        settings = self._settings
        left = annealed(self.progress.env_steps, settings.anneal_env_steps, settings.anneal_to)
        return left * self._cooldown_left()

    def _cooldown_left(self) -> float:
        passed = self.progress.passed(self._settings.target)
        at = None if passed is None else passed.env_steps
        return cooldown_left(self.progress.env_steps, at, self._settings.cooldown)

    def _count_seconds(self) -> None:
        self.progress.seconds = self._seconds_before + self.clock() - self.started

    def _report(self) -> None:
        self.trainer.stages.enter("report")
        self._last_report = self.clock()
        self._roster.forget_silent(self._last_report)
        self.intake.entrance.forgive(self._last_report)
        self.telemetry.report(len(self._roster), self.rounds.late(self._last_report))
        if self.trainer.processor:
            self.trainer.processor.report()

    def _save(self) -> None:
        self.trainer.stages.enter("checkpoint")
        self.keeper.save(self.phase)
        self._last_checkpoint = self.clock()  # a disk slower than the interval must not be all
