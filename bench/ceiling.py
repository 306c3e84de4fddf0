"""The best this machine could do: every unavoidable piece of work alone, summed over the cores.

python -m bench.ceiling [--seconds 2] [--seed 1] [--game pong]

Each piece is timed twice: on one core while the others are idle, and on all cores at once. Two
"cores" that are two threads of one core, or that share memory, show in the difference.

`bench.pipeline` does this again and again, between its runs, and takes medians: on a machine that
others share, a piece takes half as long again in one minute as in the next.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeAlias

from asyncade_runtime.allocator import keep_freed_memory
from asyncade_runtime.cores import available_cores
from bench.report import MODES, about, command_line, markdown_table, write_result

Turn: TypeAlias = Mapping[str, Mapping[str, Any]]
"""By mode, what one round of measurements found; see `measure`."""

_BARRIER_TIMEOUT_S = 300.0
_barrier: Any = None  # of a worker process


def ceiling(core_seconds: Mapping[str, float], cores: int) -> float:
    """Returns the best possible env steps/s: cores over the core-seconds that one env step takes.

    Args:
        core_seconds: per env step, by piece of work. They are added: one core does one at a time,
            and no division of labour among cores can do better than to keep all of them busy.
        cores: that are there.

    Raises:
        ValueError: no work, or work that takes no time.
    """
    total = sum(core_seconds.values())
    if not total > 0:
        raise ValueError(f"the work takes {total} s per env step: nothing was measured")
    return cores / total


def core_seconds_of(costs: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Returns core-seconds per env step by piece, each counted once.

    The piece ``gradient`` was timed with the player's inference in it, which is a piece itself.
    """
    found = {name: cost["seconds"] / cost["env_steps"] for name, cost in costs.items()}
    if "gradient" in found:
        found["gradient"] = max(found["gradient"] - found["inference"], 0.0)
    return found


def measure(seconds: float, game: str, seed: int) -> Turn:
    """Times every piece once.

    Returns:
        For each mode ``alone`` and ``all_busy``: core-seconds per env step by piece, on one core
        and with all cores at the same piece; ``cpu_shares`` by piece, and ``passes`` of the update.
    """
    cores = available_cores()
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(cores)
    found: dict[str, Any] = {}
    with ProcessPoolExecutor(
        cores, mp_context=spawn, initializer=_begin_worker, initargs=(barrier,)
    ) as pool:
        for mode in MODES:
            alone = pool.submit(time_pieces, mode, game, seed, seconds, 0, False).result()
            workers = [
                pool.submit(time_pieces, mode, game, seed + n, seconds, n, True)
                for n in range(cores)
            ]
            each = [core_seconds_of(worker.result()) for worker in workers]
            found[mode] = {
                "alone": core_seconds_of(alone),
                "all_busy": _by_name(statistics.fmean, each),
                "cpu_shares": {name: cost["cpu_share"] for name, cost in alone.items()},
                "passes": alone["update"].get("passes", 0.0),
            }
    return found


def _by_name(
    average: Callable[[Iterable[float]], float], each: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    return {name: average(one[name] for one in each) for name in each[0]}


def summed_up(turns: Sequence[Turn], cores: int) -> dict[str, dict[str, Any]]:
    """Returns for each mode the costs, alone and with all cores busy, and the ceilings.

    Args:
        turns: one or more of `measure`. What a piece costs is the median over them.
        cores: that are there.
    """
    return {mode: _summed_up([turn[mode] for turn in turns], cores) for mode in turns[0]}


def _summed_up(turns: Sequence[Mapping[str, Any]], cores: int) -> dict[str, Any]:
    one = _by_name(statistics.median, [turn["alone"] for turn in turns])
    all_busy = _by_name(statistics.median, [turn["all_busy"] for turn in turns])
    shares = _by_name(statistics.median, [turn["cpu_shares"] for turn in turns])
    passes = turns[0]["passes"]  # 0 where actors compute the gradients
    return {
        "core_seconds_per_env_step": one,
        "core_seconds_per_env_step_all_cores_busy": all_busy,
        "cpu_shares": {name: round(share, 3) for name, share in shares.items()},
        "env_steps_per_second_per_core": {name: 1 / s for name, s in one.items() if s > 0},
        "env_steps_per_second_all_cores": {n: cores / s for n, s in all_busy.items() if s > 0},
        "update_samples_per_second": passes / one["update"] if passes else None,
        "ceiling": ceiling(one, cores),
        "ceiling_all_cores_busy": ceiling(all_busy, cores),
        "ceilings_of_turns": [round(ceiling(turn["alone"], cores), 1) for turn in turns],
    }


def _begin_worker(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def time_pieces(
    mode: str, game: str, seed: int, seconds: float, core: int, together: bool
) -> dict[str, dict[str, float]]:
    """In a worker process: times every piece of a mode on one core.

    Args:
        mode: data or gradients.
        game: to play.
        seed: of play and weights.
        seconds: for each piece.
        core: which of those that this process may use.
        together: start every piece at the same moment as the other workers.
    """
    everywhere = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {everywhere[core % len(everywhere)]})
    try:
        from bench.clock import cost_of
        from bench.work import Workshop  # loads torch: on its own core, not in the parent

        keep_freed_memory()  # as the services do

        workshop = Workshop("gradients" if mode == "gradients" else "data", game, seed)
        costs: dict[str, dict[str, float]] = {}
        for name, piece in workshop.pieces().items():
            if together:
                _barrier.wait(_BARRIER_TIMEOUT_S)
            cost = cost_of(piece.run, seconds)
            costs[name] = {
                "seconds": cost.seconds,
                "cpu_share": cost.cpu_share,
                "env_steps": piece.env_steps,
            }
        if mode == "data":
            costs["update"]["passes"] = float(workshop.settings.passes)
        return costs
    finally:
        os.sched_setaffinity(0, set(everywhere))


def table(result: Mapping[str, Any]) -> str:
    """Returns the Markdown table."""
    head = ["mode", "work", "µs per env step", "all cores busy", "env steps/s per core", "CPU/wall"]
    rows: list[list[object]] = []
    for mode in MODES:
        found = result["modes"][mode]
        for name, seconds in found["core_seconds_per_env_step"].items():
            busy = found["core_seconds_per_env_step_all_cores_busy"][name]
            rate = found["env_steps_per_second_per_core"].get(name)
            cells = [mode, name, seconds * 1e6, busy * 1e6, rate, found["cpu_shares"][name]]
            rows.append(cells)
        best = found["ceiling"], found["ceiling_all_cores_busy"]
        turns = found["ceilings_of_turns"]
        text = f"**{best[0]:,.0f} env steps/s** ({best[1]:,.0f} with all cores busy; "
        text += f"single turns: {min(turns):,.0f} to {max(turns):,.0f})"
        rows.append([mode, f"best possible on {result['cores']} cores", text, None, None, None])
    return markdown_table(head, rows)


def report(turns: Sequence[Turn], game: str, seed: int, command: str) -> dict[str, Any]:
    """Writes ceiling.json, prints the table; returns what is in the file."""
    result = about(command, seed=seed, torch_threads=1) | {"game": game}
    result["modes"] = summed_up(turns, result["cores"])
    write_result("ceiling", result)
    print(table(result), flush=True)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.ceiling", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each piece of work")
    parser.add_argument("--game", default="pong")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(argv)
    turn = measure(asked.seconds, asked.game, asked.seed)
    report([turn], asked.game, asked.seed, command_line("ceiling", argv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
