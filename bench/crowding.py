"""What it costs that learner and actors share one machine's cores and caches.

Pieces of work are timed with a core each, again and again. In a run every core goes from one
process to another, each with megabytes of its own: the same work takes longer. How much longer is
read off a running ``asyncade train``, from its processes' own counters. In data mode that is done
for the actors alone: the learner's threads wait for each other at work, which counts as work.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from asyncade_cli.compare_probe import Probe
from asyncade_cli.plan_costs import Costs
from asyncade_cli.plan_model import Mode, Setup, round_of
from asyncade_cli.settings import actors_for_this_machine
from asyncade_runtime.cores import available_cores
from asyncade_runtime.run_folder import RunFolder
from bench.pipeline import NEVER
from bench.report import MODES
from bench.runs import START_TIMEOUT_S, RunFailedError, settled_training


def processor_seconds(mode: Mode, game: str, seed: int, seconds: float) -> float:
    """Returns the processor time of a round of a training with the defaults.

    Args:
        mode: of the run.
        game: to train on.
        seed: of the run.
        seconds: to watch it.

    Returns:
        Of all processes, for an update, in gradient mode; of one actor, for an unroll, in data
        mode.

    Raises:
        RunFailedError: there was no round in that time.
    """
    arguments = {"mode": mode, "game": game, "seed": seed, "target": NEVER}
    with settled_training(arguments) as (run, first):
        with Probe(RunFolder.existing(run.root)) as probe:
            run.wait_for_row(first["seconds"] + seconds, START_TIMEOUT_S + seconds, trained=True)
        return per_round(mode, probe.report() or {})


def in_runs(game: str, seed: int, seconds: float) -> dict[Mode, float]:
    """Returns `processor_seconds` of both modes, one after the other."""
    return {mode: processor_seconds(mode, game, seed, seconds) for mode in MODES}


def per_round(mode: Mode, report: Mapping[str, Any]) -> float:
    """Returns what `processor_seconds` does, from a window of `asyncade_cli.compare_probe`.

    Raises:
        RunFailedError: no round is in it.
    """
    actors = list(report.get("actors", {}).values())
    if mode == "gradients":
        processes = [report.get("learner", {}), *actors]
        rounds = report.get("learner", {}).get("updates", 0.0)
    else:
        processes = actors
        rounds = sum(one.get("messages_sent", 0.0) for one in actors)
    if not rounds:
        raise RunFailedError("nothing was learned while the processes were watched")
    return float(sum(one.get("cpu_seconds", 0.0) for one in processes) / rounds)


def crowding(costs: Mapping[str, float], measured: Mapping[Mode, float]) -> dict[str, float]:
    """Returns how many times as much processor time runs take as their pieces, by cost's name.

    Args:
        costs: of the pieces, all but these.
        measured: mode to `processor_seconds`.
    """
    alone = Costs(**costs, actor_crowding=1.0, gradient_crowding=1.0)
    actors = actors_for_this_machine()
    # An actor's time is its processor's where each has a core and one thread.
    data = round_of(alone, Setup(mode="data", shared_cores=actors), actors)
    gradients = round_of(alone, Setup(mode="gradients", shared_cores=available_cores()), actors)
    return {
        "actor_crowding": measured["data"] / data.actor,
        "gradient_crowding": measured["gradients"] / gradients.core_seconds,
    }


def typical(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns what stands for several measurements of `crowding`: their medians, at least 1.

    One measurement is off by as much as the machine's speed is between a run and its pieces: 0.87,
    1.01 and 1.40 came out for the same thing on one day. Company saves nobody time: below 1 is
    noise.
    """
    names = several[0]
    return {name: max(1.0, statistics.median(one[name] for one in several)) for name in names}
