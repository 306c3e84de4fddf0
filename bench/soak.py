"""Whether a training grows over time: memory, descriptors and threads of each of its processes.

Two actors behind a relay, and one that sends to the learner itself. After a warm-up every process
is sampled once a second; slopes are per hour, with 90% intervals. A process that ends is an error.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from asyncade_cli.markdown import table as markdown
from bench.local_run import LocalRun
from bench.result_files import options, record
from bench.vitals import NAMES, Vitals, slopes, vitals

_WARM_UP_SHARE: Final = 0.2
"""Of the time: caches fill, and freed memory finds its level."""

Samples = dict[str, list[tuple[float, Vitals]]]


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    parser = options("soak", __doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    asked = parser.parse_args()
    environ = {"ASYNCADE_LEARNER_GAME": asked.game, "ASYNCADE_LEARNER_SEED": str(asked.seed)}
    with (
        tempfile.TemporaryDirectory() as home,
        LocalRun(Path(home), relay=True, environ=environ) as run,
    ):
        begin(run)
        samples = sampled(run, asked.minutes * 60)
        updates = run.metric("updates_total")
    processes = {name: _summary(of) for name, of in samples.items()}
    content = {"minutes": asked.minutes, "updates": updates, "processes": processes}
    record("soak", "soak", asked, content, table)
    return 0


def begin(run: LocalRun) -> None:
    """Starts the services, and waits until they train."""
    run.start_learner()
    run.start_relay()
    for number in range(2):
        run.start_actor(number)
    run.start("actor-2", "--actor-id=actor-2", *run.learner_addresses)
    run.wait_for(lambda: run.metric("active_actors") == 3, "three actors are heard")
    run.wait_for_updates()


def sampled(run: LocalRun, seconds: float, every_s: float = 1.0) -> Samples:
    """Samples all services for a time, without the warm-up.

    Raises:
        RuntimeError: one has ended.
    """
    found: Samples = {name: [] for name in run.services}
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        for name, service in run.services.items():
            if service.exit_code() is not None or service.pid is None:
                raise RuntimeError(f"{name} {service.how_it_ended()}\n{service.last_lines(20)}")
            if now > _WARM_UP_SHARE * seconds:
                found[name].append((now, vitals(service.pid)))
        time.sleep(every_s)
    return found


def _summary(samples: list[tuple[float, Vitals]]) -> dict[str, Any]:
    grown = slopes(samples)
    return {
        name: {
            "first": round(getattr(samples[0][1], name), 1),
            "last": round(getattr(samples[-1][1], name), 1),
            "per_hour": [round(value, 2) for value in grown[name]],
        }
        for name in NAMES
    }


def table(result: Mapping[str, Any]) -> str:
    """Returns the result as a Markdown table."""
    header = ["process", *(f"{name}: first, last, per hour" for name in ("MiB", *NAMES[1:]))]
    rows = []
    for process, of in result["processes"].items():
        cells = []
        for name in NAMES:
            slope, half = of[name]["per_hour"]
            cells.append(f"{of[name]['first']:g}, {of[name]['last']:g}, {slope:g} ± {half:g}")
        rows.append([process, *cells])
    return markdown(header, rows)


if __name__ == "__main__":
    sys.exit(main())
