"""What came of a run: its folder made complete, and the lines that are said at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from asyncade_cli.plot import draw_curve
from asyncade_cli.settings import TrainSettings
from asyncade_runtime.run_folder import RunFolder, RunFolderError


def complete(settings: TrainSettings, folder: RunFolder, ended_by: str) -> list[str]:
    """Completes summary.json, draws the curve, and returns what there is to say.

    Args:
        settings: of the run.
        folder: the run's.
        ended_by: what the summary is to say of the end if the learner has written none.
    """
    rows = folder.read_metrics()
    summary = folder.read_summary() or last_reported(folder.read_config(), rows, ended_by)
    summary = {**summary, "actors": settings.actors, "envs_per_actor": settings.envs}
    title = f"{settings.game}, {settings.mode} mode, {settings.actors} actors, seed {settings.seed}"
    lines = []
    try:
        folder.write_summary(summary)
        draw_curve(rows, title, folder.curve)
    except (RunFolderError, OSError) as error:  # what came of the run is told all the same
        lines.append(f"the run folder is not complete: {error}")
    target = summary.get("target")
    reached = "not reached"
    if summary.get("reached_target"):
        env_steps, minutes = summary["target_env_steps"], summary["target_seconds"] / 60
        reached = f"reached after {env_steps:,} env steps, {minutes:.1f} minutes"
    return [
        *lines,
        f"ended by {summary.get('ended_by')} after {summary.get('seconds', 0):.0f} s: "
        f"{summary.get('env_steps', 0):,} env steps, {summary.get('episodes', 0)} games, "
        f"{summary.get('updates', 0):,} updates",
        f"mean return of the last 100 games: {summary.get('mean_return_100')}"
        + (f" (target {target:g} {reached})" if target is not None else ""),
        f"bytes on the wire per env step: {summary.get('bytes_per_env_step')}",
        f"run folder: {folder.root} (try: asyncade eval {folder.root})",
    ]


def last_reported(
    config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], ended_by: str
) -> dict[str, Any]:
    """Returns a summary for a learner that could not write one: what its last row said.

    Args:
        config: of config.json.
        rows: of metrics.jsonl.
        ended_by: what is known of the end.
    """
    last = rows[-1] if rows else {}
    learner = config.get("learner", config.get("train", {}))
    named = ("mode", "game", "seed", "commit", "cores", "torch_threads", "target")
    counted = ("env_steps", "seconds", "updates", "episodes")
    told = ("target_env_steps", "target_seconds", "mean_return_100", "bytes_per_env_step")
    return {
        **{name: learner.get(name) for name in named},
        "reached_target": last.get("target_seconds") is not None,
        **{name: last.get(name) for name in told},
        **{name: last.get(name, 0) for name in counted},
        "ended_by": ended_by,
    }
