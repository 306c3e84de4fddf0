"""What a checkpoint keeps besides model, optimiser and counters.

Kept is what changes the updates to come: who plays and what has arrived (assignment, when a batch
is complete; credit, where messages live on), the versions (which messages are too old), the measure
of the gradients, the step size after roll-backs. Times are those of the monotonic clock when the
checkpoint was written; by the wall clock they are as much older later on, so that actors that have
left meanwhile are not waited for.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Kept(BaseModel):
    """The JSON in a checkpoint; an older file lacks some of it, a newer one has more.

    Attributes:
        clock: monotonic time in seconds; wall_clock: Unix time.
        roster: `Roster.kept`; rounds: `Rounds.kept`.
        versions: `Versions.kept`; discarded_up_to: as there.
        norms: `RecentNorms.kept`.
        batches: of the mode, in this run; noise: its `NoiseScale.kept`; mode: whose they are.
        calibrated: whether calibration is over.
        halvings: of the step size `learning_rate`; roll_backs: as in `Recovery`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    clock: float = 0.0
    wall_clock: float = 0.0
    roster: dict[str, dict[str, float]] = {}
    rounds: dict[str, dict[str, float]] = {}
    versions: list[tuple[int, int]] = []
    discarded_up_to: int = -1
    norms: list[float] = []
    mode: str = ""
    batches: int = 0
    noise: tuple[float, float] = (0.0, 0.0)
    calibrated: bool | None = None
    learning_rate: float | None = None
    halvings: int = 0
    roll_backs: int = 0
