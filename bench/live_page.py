"""What the live page costs: env steps/s of a training with and without a viewer, and its own CPU.

python -m bench.live_page [--seconds 15] [--rounds 4] [--mode data] [--seed 1] [--game pong]

One training, during which a viewer comes and goes: rates of two trainings differ by more than a
page costs. The viewer only receives what a browser tab would get: drawing it costs far more, but
is done by a GPU, or on another machine.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from websockets.sync.client import connect

from asyncade_cli.markdown import table as markdown
from asyncade_rl.choices import MODES
from asyncade_runtime.run_folder import RunFolder
from bench.result_files import options, record
from bench.runs import NEVER, Training, rate_between, training, wait_until

_SETTLE_S: Final = 4.0
_TIMEOUT_S: Final = 60.0
_ADDRESS: Final = re.compile(r"http://(\S+)/")


class Viewer:
    """Counts what a tab receives.

    Attributes:
        screens: of the film so far.
        received_bytes: so far.
    """

    def __init__(self) -> None:
        self.screens = self.received_bytes = 0
        self._gone = threading.Event()

    @contextmanager
    def looking(self, address: str) -> Iterator[None]:
        """Looks for the duration of a ``with`` block."""
        self._gone.clear()
        thread = threading.Thread(target=self._look, args=(f"ws://{address}/live",))
        thread.start()
        try:
            yield
        finally:
            self._gone.set()
            thread.join()

    def _look(self, address: str) -> None:
        with connect(address, max_size=None) as socket:
            while not self._gone.is_set():
                message = socket.recv(_TIMEOUT_S)
                self.received_bytes += len(message)
                if isinstance(message, bytes):
                    end = 4 + int.from_bytes(message[:4], "little")
                    self.screens += json.loads(message[4:end])["pictures"]


def page_of(run: Training) -> tuple[str, int]:
    """Returns host and port of a training's page, and the number of its process."""

    def found() -> tuple[str, int] | None:
        log = run.root / "logs" / "watch.log"
        address = _ADDRESS.search(log.read_text()) if log.exists() else None
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_text().split("\0")
            except OSError:
                continue  # it has ended
            if address and "asyncade_watch" in words and str(run.root) in words:
                return address[1], int(process.name)
        return None

    return wait_until(found, run.service)


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time that a process has used."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def measured(run: Training, pid: int, seconds: float) -> dict[str, float]:
    """Returns the training's rate and the page's share of a core over some seconds."""
    time.sleep(_SETTLE_S)
    first = RunFolder(run.root).last_metrics() or {}
    cpu, began = cpu_seconds(pid), time.monotonic()
    last = run.wait_for_row(first["seconds"] + seconds)
    share = (cpu_seconds(pid) - cpu) / (time.monotonic() - began)
    return {"env_steps_per_second": rate_between(first, last, "env_steps"), "cpu_share": share}


def table(result: Mapping[str, Any]) -> str:
    """Returns the medians with and without a viewer as a Markdown table."""
    rows: list[list[object]] = []
    for name, found in result["phases"].items():
        rates, shares = (
            [one[key] for one in found] for key in ("env_steps_per_second", "cpu_share")
        )
        screens = result["screens_per_second"] if name == "one viewer" else 0
        rows.append([name, statistics.median(rates), 100 * statistics.median(shares), screens])
    return markdown(["looking", "env steps/s", "page's CPU, % of a core", "screens/s"], rows)


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    parser = options("live_page", __doc__, seconds=15.0)
    parser.add_argument("--mode", choices=MODES, default="data")
    parser.add_argument("--rounds", type=int, default=4, help="of nobody, then one viewer")
    asked = parser.parse_args()
    phases: dict[str, list[dict[str, float]]] = {"nobody": [], "one viewer": []}
    viewer, looked, shown = Viewer(), 0.0, 0
    flags = {"game": asked.game, "seed": asked.seed, "mode": asked.mode, "target": NEVER}
    with training(flags, {"ASYNCADE_TRAIN_WATCH": "true"}) as run:
        run.wait_for_row()
        address, pid = page_of(run)
        for _ in range(asked.rounds):
            phases["nobody"].append(measured(run, pid, asked.seconds))
            with viewer.looking(address):
                time.sleep(_SETTLE_S)  # the first viewer has torch loaded
                before, began = viewer.screens, time.monotonic()
                phases["one viewer"].append(measured(run, pid, asked.seconds))
                looked += time.monotonic() - began
                shown += viewer.screens - before
            print({name: found[-1] for name, found in phases.items()}, file=sys.stderr, flush=True)
    content = {
        "mode": asked.mode,
        "phases": phases,
        "screens_per_second": shown / looked,
        "bytes_per_screen": viewer.received_bytes / viewer.screens,
    }
    record("live_page", "live-page", asked, content, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
