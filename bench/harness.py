"""Times small pieces of work with pytest-benchmark.

A module's `bench_*` functions run in a pytest process of their own that is pinned to one core.
pytest-benchmark calibrates, repeats and does the statistics; this module starts it and reads its
JSON. pytest-benchmark was chosen over pyperf because its benchmarks share one process: loading
torch and recording play takes longer than timing does, and pyperf repeats both for every sample.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

Clock: TypeAlias = Literal["perf_counter", "process_time"]


def timings(
    module: str,
    seconds: float,
    *,
    game: str,
    seed: int,
    cores: Sequence[int] | None = None,
    clock: Clock = "perf_counter",
) -> list[list[dict[str, Any]]]:
    """Runs a module's benchmarks once per core, on all given cores at the same time.

    Args:
        module: name of a module of this package.
        seconds: time spent on each benchmark.
        game: ALE game id.
        seed: seed of games and weights.
        cores: cores to use; the first available one by default.
        clock: function of `time`: wall time, or CPU time of all threads of the process.

    Returns:
        For each core, one entry per benchmark: its extra_info, and ``seconds``, the median time of
        one call.
    """
    cores = [min(os.sched_getaffinity(0))] if cores is None else cores
    command = [
        *(sys.executable, "-m", "pytest", str(Path(__file__).with_name(f"{module}.py"))),
        *("--quiet", "--no-header", "-p", "no:cacheprovider"),
        *("-o", "python_functions=bench_*", "-o", "filterwarnings=default"),
        *(f"--game={game}", f"--seed={seed}"),
        *(f"--benchmark-max-time={seconds}", "--benchmark-min-rounds=3"),
        *(f"--benchmark-timer=time.{clock}", "--benchmark-warmup=on"),
        *("--benchmark-warmup-iterations=1", "--benchmark-quiet"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"core-{core}.json" for core in cores]
        running = [
            subprocess.Popen(
                [*command, f"--core={core}", f"--benchmark-json={file}"],
                cwd=Path(__file__).parents[1],
                stdout=sys.stderr if core == cores[0] else subprocess.DEVNULL,
            )
            for core, file in zip(cores, files, strict=True)
        ]
        codes = [process.wait() for process in running]
        if any(codes):
            raise RuntimeError(f"the benchmarks of {module}.py ended with exit codes {codes}")
        return [_medians(json.loads(file.read_text())) for file in files]


def _medians(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [one["extra_info"] | {"seconds": one["stats"]["median"]} for one in report["benchmarks"]]
