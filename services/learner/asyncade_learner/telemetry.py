"""Counts each event of the learner once: run counters, Prometheus metrics and report rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from asyncade_learner.metrics import LOSSES, LearnerMetrics
from asyncade_learner.progress import Progress, RecentPoints
from asyncade_learner.receiving import Received
from asyncade_learner.run_log import RunLog, counters, rounded
from asyncade_learner.senders import Senders
from asyncade_learner.trainer import Improvement
from asyncade_proto.errors import DecodeError
from asyncade_proto.messages import Upstream
from asyncade_runtime.admission import Accepted, Dropped

_MOST_NAMED: Final = 256
"""Senders that are named in the log, each once."""


@dataclass(eq=False, repr=False)
class Telemetry:
    """The counts of this process and their reports.

    Attributes:
        points: rewards of the last env steps.
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

    def __post_init__(self) -> None:
        self._reported = (self.progress.seconds, self.progress.env_steps)
        self._lags: list[int] = []
        self._losses: dict[str, float] = {}
        self._noise_scale: float | None = None
        self._dropped = self._lost = self._skipped = 0
        self.points = RecentPoints()
        self._senders = Senders()
        self._not_believed: set[str] = set()  # named in the log

    def received(
        self, received: Received, outcome: Accepted | Dropped, lost: int, active: int = 1
    ) -> None:
        """A frame arrived; before it, messages of its sender were lost; so many are active.

        Env steps and episodes of most dropped messages count: they were played.
        """
        metrics, progress, message = self.metrics, self.progress, received.content
        metrics.received_bytes.inc(received.size)
        metrics.lost.inc(lost)
        self._lost += lost
        if isinstance(outcome, Dropped):
            metrics.dropped.labels(reason=outcome.reason).inc()
            self._dropped += 1
            self._senders.dropped(outcome.reason)
            self._log_dropped(outcome, message)
        else:
            metrics.messages.labels(kind=type(message).__name__.lower()).inc()
            metrics.policy_lag.observe(outcome.policy_lag)
            self._lags.append(outcome.policy_lag)
        if isinstance(message, DecodeError):
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

    def _log_dropped(self, outcome: Dropped, message: Upstream | DecodeError) -> None:
        """Warns once of each sender that is not believed: it may be honest, and a setting wrong."""
        self.log.debug("message dropped", reason=outcome.reason, detail=outcome.detail)
        if outcome.believed or isinstance(message, DecodeError):
            return
        if message.actor_id in self._not_believed or len(self._not_believed) >= _MOST_NAMED:
            return
        self._not_believed.add(message.actor_id)
        self.log.warning(
            "actor is not believed: its messages are dropped",
            actor_id=message.actor_id,
            reason=outcome.reason,
            detail=outcome.detail,
        )

    def shared_id(self, actor_id: str) -> None:
        """Two actors have one id: each gets the other's credit, and both wait most of the time."""
        self.log.warning("two actors have one id; give each its own", actor_id=actor_id)

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
        metrics.non_finite.inc(improvement.non_finite)
        self._skipped += improvement.non_finite
        if improvement.non_finite:
            self.log.warning("gradient not finite: update skipped", count=improvement.non_finite)
        if improvement.updates:
            metrics.gradient_norm.set(improvement.gradient_norm)
            metrics.learning_rate.set(improvement.learning_rate)
            metrics.last_update.set(self.wall_clock())
            scale = self._noise_scale = improvement.noise_scale
            metrics.noise_scale.set(math.nan if scale is None else scale)
            self._losses = losses.means
            for name in LOSSES & losses.means.keys():  # actors could send any name
                metrics.loss.labels(part=name).set(losses.means[name])

    def published(self, policy_version: int, size: int) -> None:
        """Weights were published in a frame of `size` bytes."""
        self.metrics.policy_version.set(policy_version)
        self.metrics.published.inc()
        self.metrics.published_bytes.inc(size)

    def checkpointed(self, error: OSError | None) -> None:
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
        try:
            self.run_log.append(row)
            self.run_log.replace_senders(self._senders.report(self.wall_clock(), late))
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
            "gradient_noise_scale": rounded(self._noise_scale, 1),
            **{f"loss_{name}": rounded(value, 6) for name, value in self._losses.items()},
            "stage_shares": {n: round(spent / total, 4) for n, spent in stages.items()}
            if total
            else {},
        }
