"""What it costs in gradient mode that learner and actors share one machine's cores and caches.

Pieces of work are timed with a core each. In a run every core goes from one process to another
every few milliseconds, each with megabytes of weights and gradients: the same work takes longer.
How much longer is read off a running ``asyncade train``, from its processes' own counters.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asyncade_cli.compare_probe import Probe
from asyncade_cli.plan_costs import Costs
from asyncade_cli.plan_model import Setup, round_of
from asyncade_cli.settings import actors_for_this_machine
from asyncade_runtime.cores import available_cores
from asyncade_runtime.run_folder import RunFolder
from bench.pipeline import NEVER
from bench.runs import RunFailedError, training

_START_TIMEOUT_S = 120.0
_SETTLE_S = 4.0


def processor_seconds(game: str, seed: int, seconds: float) -> float:
    """Returns the processor time of all processes per update, in gradient mode with the defaults.

    Args:
        game: to train on.
        seed: of the run.
        seconds: to watch it.

    Raises:
        RunFailedError: it made no update in that time.
    """
    folder = Path(tempfile.mkdtemp(prefix="asyncade-bench-"))
    arguments = {"mode": "gradients", "game": game, "seed": seed, "target": NEVER}
    try:
        with training(folder / "run", arguments) as run:
            row = run.wait_for_row(0.0, _START_TIMEOUT_S, trained=True)
            row = run.wait_for_row(row["seconds"] + _SETTLE_S, _START_TIMEOUT_S, trained=True)
            with Probe(RunFolder.existing(run.root)) as probe:
                run.wait_for_row(row["seconds"] + seconds, _START_TIMEOUT_S + seconds, trained=True)
            return per_update(probe.report() or {})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def per_update(report: Mapping[str, Any]) -> float:
    """Returns processor seconds per update of a window of `asyncade_cli.compare_probe`.

    Raises:
        RunFailedError: there were none.
    """
    learner = report.get("learner", {})
    updates: float = learner.get("updates", 0.0)
    if not updates:
        raise RunFailedError("no update while the processes were watched")
    processes = [learner, *report["actors"].values()]
    total: float = sum(one.get("cpu_seconds", 0.0) for one in processes)
    return total / updates


def crowding(costs: Mapping[str, float], measured: float) -> float:
    """Returns how many times as much processor time a run takes as its pieces.

    Args:
        costs: of the pieces, all but ``gradient_crowding``.
        measured: of `processor_seconds`.
    """
    setup = Setup(mode="gradients", shared_cores=available_cores())
    alone = Costs(**costs, gradient_crowding=1.0)
    return measured / round_of(alone, setup, actors_for_this_machine()).core_seconds
