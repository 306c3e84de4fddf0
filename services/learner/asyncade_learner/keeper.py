"""Writes checkpoints of a learner, continues from one, and goes back to one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from asyncade_learner.calibration import Calibration
from asyncade_learner.checkpoint import Checkpoint, NotFiniteError, roll_back, save
from asyncade_learner.kept import Kept
from asyncade_learner.modes import LearnerMode
from asyncade_learner.progress import Progress
from asyncade_learner.recovery import RecentNorms, Recovery
from asyncade_learner.rounds import Rounds
from asyncade_learner.telemetry import Telemetry
from asyncade_learner.trainer import Trainer
from asyncade_learner.versions import Versions
from asyncade_runtime.admission import Roster
from asyncade_runtime.run_folder import RunFolder


@dataclass(kw_only=True, eq=False, repr=False)
class Keeper:
    """The parts of a learner that a checkpoint keeps, and its folder.

    Attributes:
        folder: of the run.
        about: game and network, in every checkpoint.
        progress: counters of the run.
        trainer: model, optimiser, step size, norms.
        mode: the learner's.
        roster: of the actors.
        rounds: of the batches.
        versions: that were published.
        recovery: its roll-backs.
        telemetry: updated with every event.
        clock: monotonic time in seconds.
        wall_clock: Unix time in seconds.
    """

    folder: RunFolder
    about: Mapping[str, Any]
    progress: Progress
    trainer: Trainer
    mode: LearnerMode
    roster: Roster
    rounds: Rounds
    versions: Versions
    recovery: Recovery
    telemetry: Telemetry
    clock: Callable[[], float]
    wall_clock: Callable[[], float]

    def __post_init__(self) -> None:
        self._learning_rate = self.trainer.settings.learning_rate  # before any roll-back
        self._good_norm = self.trainer.weights_norm()

    def growth(self) -> float:
        """Returns the norm of the weights over that of the last checkpoint's."""
        return self.trainer.weights_norm() / self._good_norm

    def save(self, phase: Calibration | LearnerMode) -> None:
        """Saves a checkpoint. A full disk is counted and logged; training goes on."""
        if self.recovery.lost:
            return
        calibrating = isinstance(phase, Calibration)
        state = Checkpoint(
            progress=self.progress,
            model=self.trainer.network.state_dict(),
            optimiser=self.trainer.optimiser.state(),
            generator=self.trainer.generator.get_state(),
            about=self.about,
            kept=self._kept(calibrated=not calibrating),
            calibration=phase.statistics.kept() if isinstance(phase, Calibration) else {},
        )
        try:
            save(self.folder, state, self.trainer.settings.checkpoints_kept)
        except (OSError, NotFiniteError) as error:
            self.telemetry.checkpointed(error)
        else:
            self.telemetry.checkpointed(None)
            self._good_norm = self.trainer.weights_norm()

    def roll_back(self) -> None:
        """Goes back to the last good checkpoint, with half the step size.

        Versions and env steps go on: only the model is that of the checkpoint. What is under way
        was made with weights that are given up, and counts as too old.
        """
        earlier, log = self.recovery.roll_backs, self.telemetry.log
        path = roll_back(self.folder, self.trainer, self.about, earlier, log)
        if path is None:
            self.recovery.lost = True
            log.error("the model has diverged, and there is no checkpoint to go back to")
            return
        self.versions.discard(self.progress.policy_version)
        self.recovery.rolled_back()
        self.trainer.divide_step_size(2.0)
        self._good_norm = self.trainer.weights_norm()
        self.telemetry.rolled_back(path.name, self.trainer.settings.learning_rate)

    def take_up(self, kept: Kept, *, messages_live_on: bool) -> None:
        """Continues with what an earlier process has written.

        Args:
            kept: in its checkpoint.
            messages_live_on: what is under way will arrive. Sockets lose it, so all get full credit
                where they were closed.
        """
        now, trainer = self.clock(), self.trainer
        elapsed = max(0.0, self.wall_clock() - kept.wall_clock)
        later = now - kept.clock - elapsed
        self.roster.restore(kept.roster, later)
        self.roster.forget_silent(now)
        if not messages_live_on:
            self.roster.forget_received()
        self.rounds.restore(kept.rounds, later)
        self.versions.restore(kept.versions, kept.discarded_up_to)
        if kept.mode == trainer.settings.mode:
            trainer.norms = RecentNorms(kept.norms)
            self.mode.batches = kept.batches
            self.mode.noise.restore(kept.noise)
        if kept.learning_rate == self._learning_rate:
            # Another step size is a new attempt.
            self.recovery.halvings, self.recovery.roll_backs = kept.halvings, kept.roll_backs
            trainer.divide_step_size(2.0**kept.halvings)

    def _kept(self, *, calibrated: bool) -> Kept:
        trainer = self.trainer
        return Kept(
            clock=self.clock(),
            wall_clock=self.wall_clock(),
            roster=self.roster.kept(),
            rounds=self.rounds.kept(),
            versions=self.versions.kept(trainer.updates, trainer.settings.max_policy_lag),
            discarded_up_to=self.versions.discarded_up_to,
            norms=trainer.norms.kept(),
            mode=trainer.settings.mode,
            batches=self.mode.batches,
            noise=self.mode.noise.kept(),
            calibrated=calibrated,
            learning_rate=self._learning_rate,
            halvings=self.recovery.halvings,
            roll_backs=self.recovery.roll_backs,
        )
