"""What busy neighbours and a CPU quota cost `asyncade train`, as ratios to its quiet rate.

python -m bench.neighbours [--seconds 20] [--rounds 3] [--seed 1] [--game pong]

The default, whose number of torch threads follows the CPU, and one and two fixed threads, each
quiet, beside one and beside two busy processes at nice 10, and within a quota of 1.5 cores. Rounds
take all of these in turn, because the speed of a shared machine drifts. Needs a quiet machine; the
quota, control groups that can be written.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

from asyncade_cli.markdown import table as markdown
from asyncade_runtime.cores import available_cores, learner_threads, own_groups
from bench.result_files import options, record
from bench.runs import NEVER, rate_between, training

ARMS: Final[dict[str, dict[str, str]]] = {
    "default": {},
    "one thread": {"ASYNCADE_LEARNER_TORCH_THREADS": "1"},
    "two threads": {"ASYNCADE_LEARNER_TORCH_THREADS": "2"},
}
"""Settings of the learner."""

QUIET: Final = "quiet"

_QUOTA_US: Final = 150_000  # per 100 ms
_SETTLE_S: Final = 5.0
_BUSY: Final = "import os\nos.nice(10)\nparent = os.getppid()\nwhile os.getppid() == parent: pass"


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keeps this many processes at nice 10 busy until the block ends."""
    started = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


@contextmanager
def quota() -> Iterator[None]:
    """Moves this process, and whatever it starts, into a group with a quota until the block ends.

    Raises:
        OSError: control groups cannot be written.
    """
    above = own_groups()[-1]
    group = above / f"asyncade-bench-{os.getpid()}"
    group.mkdir()
    try:
        if (group / "cpu.cfs_quota_us").exists():  # version 1
            (group / "cpu.cfs_quota_us").write_text(str(_QUOTA_US))
        else:
            _write(group / "cpu.max", f"{_QUOTA_US} 100000")
        _write(group / "cgroup.procs", str(os.getpid()))
        yield
    finally:
        _write(above / "cgroup.procs", str(os.getpid()))
        group.rmdir()


def _write(file: Path, text: str) -> None:
    with file.open("r+") as existing:  # does not make a file where there is none
        existing.write(text)


def companies() -> dict[str, Callable[[], AbstractContextManager[None]]]:
    """Returns the circumstances of a training by name; without the quota if there can be none."""
    found: dict[str, Callable[[], AbstractContextManager[None]]] = {
        QUIET: lambda: busy(0),
        "one busy process": lambda: busy(1),
        "two busy processes": lambda: busy(2),
    }
    try:
        with quota():
            found["quota of 1.5 cores"] = quota
    except OSError as error:
        print(f"without a quota: {error}", file=sys.stderr)
    return found


def rate(environment: Mapping[str, str], seconds: float, game: str, seed: int) -> float:
    """Trains, and returns env steps per second of `seconds` seconds after calibration."""
    flags = {"game": game, "seed": seed, "target": NEVER}
    with training(flags, environment) as run:
        started = run.wait_for_row()
        first = run.wait_for_row(started["seconds"] + _SETTLE_S)
        return rate_between(first, run.wait_for_row(first["seconds"] + seconds), "env_steps")


def table(result: Mapping[str, Any]) -> str:
    """Returns the medians as a Markdown table, one row per arm."""
    medians = {
        arm: {company: statistics.median(rates) for company, rates in found.items()}
        for arm, found in result["rates"].items()
    }
    quiet = medians["default"][QUIET]
    names = list(medians["default"])
    header = ["torch threads", "quiet env steps/s", *names]
    return markdown(
        header,
        [[arm, m[QUIET], *(m[name] / quiet for name in names)] for arm, m in medians.items()],
    )


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    parser = options("neighbours", __doc__, seconds=20.0)
    parser.add_argument("--rounds", type=int, default=3, help="of all arms and companies")
    asked = parser.parse_args()
    around = companies()
    rates: dict[str, dict[str, list[float]]] = {arm: {name: [] for name in around} for arm in ARMS}
    for _ in range(asked.rounds):
        for name, company in around.items():
            for arm, environment in ARMS.items():
                with company():
                    found = rate(environment, asked.seconds, asked.game, asked.seed)
                rates[arm][name].append(found)
                print(f"{arm}, {name}: {found:,.0f} env steps/s", file=sys.stderr, flush=True)
    threads = learner_threads(available_cores())
    record("neighbours", "neighbours", asked, {"rates": rates}, table, threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
