"""The first phase: sets the input normalisation from trajectories of a nearly random policy."""

from __future__ import annotations

from asyncade_learner.modes import LearnerMode
from asyncade_learner.trainer import Improvement, Trainer
from asyncade_proto.messages import STACK, Request, Trajectory, Upstream
from asyncade_rl.normalisation import FrameStatistics
from asyncade_runtime.admission import Dropped


class Calibration:
    """Measures frames and learns nothing. In gradient mode, too, actors send trajectories.

    Args:
        trainer: its network gets the statistics.
        following: the phase after this one.

    Attributes:
        gathered: samples since the last publication.
        statistics: of the frames so far.
    """

    request: Request = "trajectories"

    def __init__(self, trainer: Trainer, following: LearnerMode) -> None:
        self._trainer = trainer
        self._following = following
        self.statistics = FrameStatistics()
        self.gathered = 0

    def wanted(self, actors: int) -> int | None:
        """Returns None: a round ends when every actor sent a trajectory, and gets credit again."""
        return None

    def problem_of(self, message: Upstream) -> Dropped | None:
        """Returns None: nothing is learned from the messages."""
        return None

    def add(self, message: Upstream) -> None:
        """Adds a trajectory's new frames (its first stack was in the one before, or is padded)."""
        assert isinstance(message, Trajectory)
        self.statistics.add(message.frames[:, STACK:])
        self.gathered += message.env_steps

    def improve(self, remaining: float) -> Improvement:
        """Writes the statistics into the network once they are complete."""
        self.gathered = 0
        if self.complete():
            self.statistics.apply_to(self._trainer.network)
        return Improvement()

    def next(self) -> Calibration | LearnerMode:
        """Returns itself until the statistics are complete."""
        return self._following if self.complete() else self

    def complete(self) -> bool:
        """Returns whether enough frames have been measured."""
        return self.statistics.count >= self._trainer.settings.calibration_env_steps
