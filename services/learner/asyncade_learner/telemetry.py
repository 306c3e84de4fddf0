"""Counts each event of the learner once: run counters, Prometheus metrics and report rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from asyncade_learner.metrics import LOSSES, LearnerMetrics
from asyncade_learner.progress import Progress, RecentPoints
from asyncade_learner.receiving import Received
from asyncade_learner.run_log import RunLog, counters, rounded
from asyncade_learner.senders import Senders
from asyncade_learner.trainer import Improvement
from asyncade_proto.errors import DecodeError
from asyncade_runtime.admission import Accepted, Dropped
from asyncade_runtime.progress_page import ProgressPage


@dataclass(eq=False, repr=False)
class Telemetry:
    """The counts of this process and their reports.

    Attributes:
        points: rewards of the last env steps.
        page: gets every report, if there is one.
        metrics: of this process.
        progress: counters of the run.
        run_log: gets a row at every report.
        target: mean return to reach, if any.
        log: structured logger.
        wall_clock: Unix time in seconds.
    """

    metrics: LearnerMetrics
    progress: Progress
    run_log: RunLog
    target: float | None
    log: Any
    wall_clock: Callable[[], float] = time.time
    page: ProgressPage | None = None

    def __post_init__(self) -> None:
        self._reported = (self.progress.seconds, self.progress.env_steps)
        self._lags: list[int] = []
        self._losses: dict[str, float] = {}
        self._noise_scale: float | None = None
        self._dropped = self._lost = self._skipped = self._roll_backs = 0
        self.points = RecentPoints()
        self._senders = Senders()

    def received(
        self, received: Received, outcome: Accepted | Dropped, lost: int, active: int = 1
    ) -> None:
        """A frame arrived; before it, messages of its sender were lost; so many are active.

        Env steps and episodes of most dropped messages count: they were played. A refused one may
        be anybody's, and a frame of a peer that is shut out anything.
        """
        metrics, progress, message = self.metrics, self.progress, received.content
        metrics.received_bytes.inc(received.size)
        metrics.lost.inc(lost)
        self._lost += lost
        if isinstance(outcome, Dropped):
            metrics.dropped.labels(reason=outcome.reason).inc()
            self._dropped += 1
            self._senders.dropped(outcome.reason)
            self.log.debug("message dropped", reason=outcome.reason, detail=outcome.detail)
        else:
            metrics.messages.labels(kind=type(message).__name__.lower()).inc()
            metrics.policy_lag.observe(outcome.policy_lag)
            self._lags.append(outcome.policy_lag)
        if isinstance(message, DecodeError | Dropped) or outcome.refused:
            return
        progress.received_bytes += received.size
        lag = outcome.policy_lag if isinstance(outcome, Accepted) else None
        play_counts = outcome.believed and not outcome.foreign
        env_steps = message.env_steps if play_counts else 0
        self._senders.received(message.actor_id, env_steps, lag, self.wall_clock())
        if play_counts:
            returns = message.episodes.returns
            progress.env_steps += message.env_steps
            progress.count_episodes(returns, message.actor_id, active)
            self.points.count(message.env_steps, message.points_won, message.points_lost)
            metrics.env_steps.inc(message.env_steps)
            metrics.episodes.inc(len(returns))

    def joined(self, count: int) -> None:
        """Subscribers to the weights joined, or none."""
        if count:
            self.metrics.joins.inc(count)
            self.log.info("actors joined", count=count)

    def improved(self, improvement: Improvement) -> None:
        """The policy was improved, or calibration went on."""
        metrics = self.metrics
        self.progress.updates += improvement.updates
        metrics.updates.inc(improvement.updates)
        losses = improvement.mean_losses
        metrics.samples.inc(losses.samples)
        metrics.skipped.inc(improvement.skipped)
        self._skipped += improvement.skipped
        if improvement.skipped:
            self.log.warning(
                "gradient not finite, or absurdly large: updates skipped", count=improvement.skipped
            )
        if improvement.updates:
            metrics.gradient_norm.set(improvement.gradient_norm)
            metrics.learning_rate.set(improvement.learning_rate)
            metrics.last_update.set(self.wall_clock())
            scale = self._noise_scale = improvement.noise_scale
            metrics.noise_scale.set(math.nan if scale is None else scale)
            # Actors could send any name, and numbers whose mean is not finite.
            self._losses = {n: v for n, v in losses.means.items() if math.isfinite(v)}
            for name in LOSSES & self._losses.keys():
                metrics.loss.labels(part=name).set(self._losses[name])

    def rolled_back(self, checkpoint: str, learning_rate: float) -> None:
        """The model is that of a checkpoint again."""
        self.metrics.roll_backs.inc()
        self._roll_backs += 1
        self.log.error(
            "the model has diverged: back to the last good checkpoint, with half the step size",
            checkpoint=checkpoint,
            learning_rate=learning_rate,
        )

    def published(self, policy_version: int, size: int) -> None:
        """Weights were published in a frame of `size` bytes."""
        self.metrics.policy_version.set(policy_version)
        self.metrics.published.inc()
        self.metrics.published_bytes.inc(size)

    def checkpointed(self, error: Exception | None) -> None:
        """A checkpoint was written, or could not be; training goes on."""
        if error is None:
            self.metrics.last_checkpoint.set(self.wall_clock())
        else:
            self.metrics.checkpoint_failures.inc()
            self.log.error("checkpoint not written", detail=str(error))

    def report(self, active_actors: int, late: Collection[str]) -> None:
        """Writes a row and who sends. What cannot be written is logged and left out."""
        late_actors = len(late)
        self.metrics.active_actors.set(active_actors)
        self.metrics.late_actors.set(late_actors)
        mean = self.progress.mean_return()
        if mean is not None:
            self.metrics.episode_return.set(mean)
        if (share := self.points.share()) is not None:
            self.metrics.point_share.set(share)
        if (reward := self.points.reward_per_env_step()) is not None:
            self.metrics.reward_per_env_step.set(reward)
        row = self._row(active_actors, late_actors)
        senders = self._senders.report(self.wall_clock(), late)
        if self.page is not None:
            self.page.report(row, senders)
        try:
            self.run_log.append(row)
            self.run_log.replace_senders(senders)
        except OSError as error:
            self.log.error("report not written", detail=str(error))
        else:
            self.log.debug("progress", **row)

    def _row(self, active_actors: int, late_actors: int) -> dict[str, Any]:
        """Returns the row of what happened since the last one."""
        progress, lags = self.progress, self._lags
        seconds, env_steps = self._reported
        elapsed, played = progress.seconds - seconds, progress.env_steps - env_steps
        stages = self.metrics.stages.seconds()
        total = sum(stages.values())
        self._reported, self._lags = (progress.seconds, progress.env_steps), []
        return {
            **counters(progress, self.target),
            "point_share": rounded(self.points.share(), 4),
            "reward_per_env_step": rounded(self.points.reward_per_env_step(), 6),
            "policy_version": progress.policy_version,
            "env_steps_per_second": round(played / elapsed, 1) if elapsed > 0 else 0.0,
            "policy_lag_mean": rounded(sum(lags) / len(lags), 3) if lags else None,
            "active_actors": active_actors,
            "late_actors": late_actors,
            "messages_dropped": self._dropped,
            "messages_lost": self._lost,
            "updates_skipped": self._skipped,
            "roll_backs": self._roll_backs,
            "gradient_noise_scale": rounded(self._noise_scale, 1),
            **{f"loss_{name}": rounded(value, 6) for name, value in self._losses.items()},
            "stage_shares": {n: round(spent / total, 4) for n, spent in stages.items()}
            if total
            else {},
        }
