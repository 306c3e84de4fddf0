"""How long training stands still after SIGKILL of an actor, a learner, a relay.

Catch; each is started again at once, as an orchestrator would, after a random while. With one actor
behind one relay nothing covers for what was killed: the time until the learner's next update is
the recovery. It includes the start of a Python process with torch.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from asyncade_cli.markdown import table as markdown
from bench.local_run import LocalRun
from bench.result_files import options, record

SERVICES: Final = ("actor-0", "learner", "relay")


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    parser = options("recovery", __doc__)
    parser.add_argument("--kills", type=int, default=10, help="of each service")
    asked = parser.parse_args()
    asked.game = "catch"
    seconds = measured(asked)
    record("recovery", "recovery", asked, {"kills": asked.kills, "seconds": seconds}, table)
    return 0


def measured(asked: argparse.Namespace) -> dict[str, list[float]]:
    """Returns the seconds of every recovery, by service."""
    moments = random.Random(asked.seed)
    order = [name for name in SERVICES for _ in range(asked.kills)]
    moments.shuffle(order)
    found: dict[str, list[float]] = {name: [] for name in SERVICES}
    with tempfile.TemporaryDirectory() as home, LocalRun(Path(home), relay=True) as run:
        run.start_learner()
        run.start_relay()
        run.start_actor(0)
        run.wait_for(run.folder.checkpoint_files, "a checkpoint")
        for name in order:
            run.wait_for_updates()
            time.sleep(moments.uniform(0, 2))  # the random moment
            began = time.monotonic()
            run.kill(name)
            before = 0.0 if name == "learner" else run.metric("updates_total")
            run.again(name)
            run.wait_for(lambda b=before: run.metric("updates_total") > b, "an update")  # type: ignore[misc]
            found[name].append(round(time.monotonic() - began, 2))
            print(name, found[name][-1], file=sys.stderr, flush=True)
    return found


def table(result: Mapping[str, Any]) -> str:
    """Returns the result as a Markdown table."""
    rows = [
        [name.partition("-")[0], len(of), round(statistics.median(of), 1), round(max(of), 1)]
        for name, of in result["seconds"].items()
    ]
    return markdown(["killed", "kills", "median s", "largest s"], rows)


if __name__ == "__main__":
    sys.exit(main())
