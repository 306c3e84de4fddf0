"""Core-seconds of every piece of work that an env step needs, and the ceiling that follows.

python -m bench.unit_costs [--seconds 2] [--seed 1] [--game pong]

Each piece runs alone on one pinned core, then on all cores at once: where two cores are threads of
one physical core, or share caches, the second figure is higher. The ceiling is cores over the sum
of all pieces, the best rate that any division of labour could reach.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from asyncade_cli.markdown import table as markdown
from asyncade_rl.choices import MODES, Mode
from asyncade_runtime.cores import available_cores
from bench.harness import timings
from bench.pieces import Pieces
from bench.result_files import options, record

ALONE: Final = "core_seconds_per_env_step"
ALL_BUSY: Final = "core_seconds_per_env_step_all_cores_busy"

_BOTH: Final = ("environment", "inference", "encode", "decode", "update", "publish", "take_over")
PIECES: Final[dict[Mode, tuple[str, ...]]] = {"data": _BOTH, "gradients": (*_BOTH, "gradient")}

Work: TypeAlias = Callable[[Mode], Pieces]

Costs: TypeAlias = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Mode, then `ALONE` or `ALL_BUSY`, then piece, to core-seconds per env step."""


@pytest.mark.parametrize(("mode", "name"), [(m, name) for m in MODES for name in PIECES[m]])
def bench_piece(benchmark: BenchmarkFixture, work: Work, mode: Mode, name: str) -> None:
    piece = getattr(work(mode), name)()
    benchmark.extra_info |= {"mode": mode, "piece": name, "env_steps": piece.env_steps}
    benchmark(piece.run)


def measure(seconds: float, game: str, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Times every piece once, `seconds` each; returns the costs, see `Costs`."""
    (alone,) = timings("unit_costs", seconds, game=game, seed=seed)
    all_cores = sorted(os.sched_getaffinity(0))[: available_cores()]
    busy = timings("unit_costs", seconds, game=game, seed=seed, cores=all_cores)
    return {
        mode: {ALONE: _mean_costs([alone], mode), ALL_BUSY: _mean_costs(busy, mode)}
        for mode in MODES
    }


def _mean_costs(by_core: Iterable[Sequence[Mapping[str, Any]]], mode: Mode) -> dict[str, float]:
    costs: dict[str, list[float]] = {name: [] for name in PIECES[mode]}
    for found in by_core:
        for one in found:
            if one["mode"] == mode:
                costs[one["piece"]].append(one["seconds"] / one["env_steps"])
    return {name: statistics.fmean(each) for name, each in costs.items()}


def with_ceilings(turns: Sequence[Costs]) -> dict[str, dict[str, Any]]:
    """Returns for each mode the median costs over the turns, and the ceilings in env steps/s."""
    cores, found = available_cores(), dict[str, dict[str, Any]]()
    for mode in MODES:
        medians = {
            kind: {
                name: statistics.median(turn[mode][kind][name] for turn in turns)
                for name in PIECES[mode]
            }
            for kind in (ALONE, ALL_BUSY)
        }
        found[mode] = medians | {
            "ceiling": cores / sum(medians[ALONE].values()),
            "ceiling_all_cores_busy": cores / sum(medians[ALL_BUSY].values()),
            "ceilings_of_turns": [cores / sum(turn[mode][ALONE].values()) for turn in turns],
        }
    return found


def table(result: Mapping[str, Any]) -> str:
    """Returns the costs of both modes, and their ceilings, as a Markdown table."""
    header = ["mode", "piece", "µs per env step", "with all cores busy"]
    rows: list[list[object]] = []
    for mode, found in result["modes"].items():
        for name, seconds in found[ALONE].items():
            busy = found[ALL_BUSY][name]
            rows.append([mode, name.replace("_", " "), seconds * 1e6, busy * 1e6])
        ceilings = round(found["ceiling"]), round(found["ceiling_all_cores_busy"])
        rows.append([mode, "**ceiling, env steps/s**", *ceilings])
    return markdown(header, rows)


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    asked = options("unit_costs", __doc__, seconds=2.0).parse_args()
    modes = with_ceilings([measure(asked.seconds, asked.game, asked.seed)])
    record("unit_costs", "unit-costs", asked, {"modes": modes}, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
