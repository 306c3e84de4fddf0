"""What one run comes to in figures. No files in here."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

GAMES_OF_THE_TARGET: Final = 100
"""So many games must have ended before their mean return counts as the target's."""

Row = Mapping[str, Any]
Shares = Mapping[str, float]

_IDLE: Final = {"learner": {"wait"}, "actor": {"wait", "send"}}
"""Stages in which a process waits for another. An actor in ``send`` waits for room in a socket."""


@dataclass(frozen=True, kw_only=True)
class RunFigures:
    """One run.

    Rates are those of the time in which updates were made: loading and calibration left out.

    Attributes:
        run: its folder.
        mode: ``data`` or ``gradients``.
        seconds: wall time of the learner from its start, loading included.
        env_steps_to_target: None when the target was not reached.
        seconds_to_target: as `seconds`; None when the target was not reached.
        bytes_up_per_env_step: of trajectories or gradients, as the learner received them.
        bytes_down_per_version: of one weights message; None when not sampled.
        bytes_down_per_second: to each actor; None when not sampled.
        bytes_down_per_env_step: to all actors together; None when not sampled.
        env_steps_per_message: None when not sampled.
        policy_lag_mean: versions.
        learner_shares: stage to its share of the main loop's time.
        actor_shares: the same over all actors; None when not sampled.
        learner_core_seconds: CPU seconds of the learner per env step; None when not sampled.
        actor_core_seconds: CPU seconds of the actor that plays it per env step.
        cores_used: CPU seconds of all processes per second.
    """

    run: str
    mode: str
    game: str
    seed: int | None
    actors: int | None
    target: float | None
    ended_by: str
    commit: str | None
    cores: int | None
    torch_threads: int | None
    env_steps: int
    seconds: float
    updates: int
    episodes: int
    mean_return_100: float | None
    env_steps_to_target: int | None
    seconds_to_target: float | None
    env_steps_per_second: float | None
    updates_per_second: float | None
    bytes_up_per_env_step: float | None
    bytes_up_per_second: float | None
    bytes_down_per_version: float | None
    bytes_down_per_second: float | None
    bytes_down_per_env_step: float | None
    env_steps_per_message: float | None
    policy_lag_mean: float | None
    messages_dropped: int
    messages_lost: int
    learner_shares: Shares
    actor_shares: Shares | None
    learner_core_seconds: float | None
    actor_core_seconds: float | None
    cores_used: float | None


def figures_of(
    run: str,
    summary: Row,
    rows: Sequence[Row],
    processes: Row | None,
    target: float | None,
) -> RunFigures:
    """Returns the figures of a run.

    Args:
        run: its folder.
        summary: of summary.json.
        rows: of metrics.jsonl.
        processes: of processes.json, see `asyncade_cli.compare_probe.Window.report`, if there.
        target: mean return to be passed; None for no target.
    """
    reached = first_above(rows, target)
    env_steps_rate, updates_rate = _rates(rows)
    up = summary.get("bytes_per_env_step")
    return RunFigures(
        run=run,
        mode=str(summary.get("mode")),
        game=str(summary.get("game")),
        seed=summary.get("seed"),
        actors=summary.get("actors"),
        target=target,
        ended_by=str(summary.get("ended_by")),
        commit=summary.get("commit"),
        cores=summary.get("cores"),
        torch_threads=summary.get("torch_threads"),
        env_steps=int(summary.get("env_steps") or 0),
        seconds=float(summary.get("seconds") or 0.0),
        updates=int(summary.get("updates") or 0),
        episodes=int(summary.get("episodes") or 0),
        mean_return_100=summary.get("mean_return_100"),
        env_steps_to_target=None if reached is None else int(reached["env_steps"]),
        seconds_to_target=None if reached is None else float(reached["seconds"]),
        env_steps_per_second=env_steps_rate,
        updates_per_second=updates_rate,
        bytes_up_per_env_step=up,
        bytes_up_per_second=_times(up, env_steps_rate),
        policy_lag_mean=_mean(row.get("policy_lag_mean") for row in rows),
        messages_dropped=int(increase([row.get("messages_dropped", 0) for row in rows])),
        messages_lost=int(increase([row.get("messages_lost", 0) for row in rows])),
        learner_shares=dict(rows[-1].get("stage_shares") or {}) if rows else {},
        **_sampled(processes),
    )


def _sampled(processes: Row | None) -> dict[str, Any]:
    """Returns what only the processes' own /metrics tell; all None when they were not sampled."""
    processes = processes or {}
    seconds = processes.get("seconds")
    learner: Row = processes.get("learner") or {}
    actors: list[Row] = list((processes.get("actors") or {}).values())
    down, versions = learner.get("published_bytes"), learner.get("published")
    played = _sum(actors, "env_steps")
    actor_cpu, learner_cpu = _sum(actors, "cpu_seconds"), learner.get("cpu_seconds")
    cpu = None if actor_cpu is None or learner_cpu is None else actor_cpu + learner_cpu
    to_all = _times(down, len(actors)) if actors else None
    return {
        "bytes_down_per_version": _ratio(down, versions),
        "bytes_down_per_second": _ratio(down, seconds),
        "bytes_down_per_env_step": _ratio(to_all, learner.get("env_steps")),
        "env_steps_per_message": _ratio(played, _sum(actors, "messages_sent")),
        "actor_shares": _shares([actor.get("stage_seconds") or {} for actor in actors]),
        "learner_core_seconds": _ratio(learner_cpu, learner.get("env_steps")),
        "actor_core_seconds": _ratio(actor_cpu, played),
        "cores_used": _ratio(cpu, seconds),
    }


def first_above(rows: Sequence[Row], target: float | None) -> Row | None:
    """Returns the first row whose last hundred games are above the target on average."""
    if target is None:
        return None
    for row in rows:
        mean = row.get("mean_return_100")
        full = row.get("episodes", 0) >= GAMES_OF_THE_TARGET
        if full and mean is not None and mean > target:
            return row
    return None


def increase(values: Sequence[float]) -> float:
    """Returns how much a counter grew, which begins again at zero when its process restarts.

    The first value counts whole: a run's counters begin at zero.
    """
    grown, last = 0.0, 0.0
    for value in values:
        grown += value - last if value >= last else value
        last = value
    return grown


def idle_share(shares: Shares | None, process: str) -> float | None:
    """Returns the part of its time that a ``learner`` or ``actor`` waits; None if not known."""
    if not shares or not _IDLE[process] & shares.keys():
        return None
    return sum(share for stage, share in shares.items() if stage in _IDLE[process])


def busiest_stage(shares: Shares, process: str) -> str:
    """Returns the stage of work that takes a ``learner`` or ``actor`` longest."""
    work = {stage: share for stage, share in shares.items() if stage not in _IDLE[process]}
    return max(work, key=lambda stage: work[stage])


def _rates(rows: Sequence[Row]) -> tuple[float | None, float | None]:
    """Returns env steps and updates per second, from the first update to the last row."""
    learning = [row for row in rows if row.get("updates", 0) > 0]
    if len(learning) < 2 or learning[-1]["seconds"] <= learning[0]["seconds"]:
        return None, None
    first, last = learning[0], learning[-1]
    seconds = last["seconds"] - first["seconds"]
    return (
        (last["env_steps"] - first["env_steps"]) / seconds,
        (last["updates"] - first["updates"]) / seconds,
    )


def _shares(of_each: Sequence[Mapping[str, float]]) -> dict[str, float] | None:
    total = sum(sum(seconds.values()) for seconds in of_each)
    if not total:
        return None
    stages = dict.fromkeys(stage for seconds in of_each for stage in seconds)
    return {stage: sum(s.get(stage, 0.0) for s in of_each) / total for stage in stages}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _sum(rows: Sequence[Row], name: str) -> float | None:
    known = [row[name] for row in rows if row.get(name) is not None]
    return sum(known) if known and len(known) == len(rows) else None


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below


def _times(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one * other
