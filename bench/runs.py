"""``asyncade train`` as a process that a benchmark watches, and what its run folder says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from asyncade_runtime.run_folder import RunFolder

_METRICS_PORT: Final = re.compile(r"\bup\b.*\bmetrics_port=(\d+)")
_POLL_S: Final = 0.2
_STOP_TIMEOUT_S: Final = 60.0
_SETTLE_S: Final = 5.0

START_TIMEOUT_S: Final = 300.0
"""What loading and calibration may take on a busy machine, or a row more than it should."""

COLUMNS: Final = (
    "seconds",
    "env_steps",
    "updates",
    "episodes",
    "mean_return_100",
    "env_steps_per_second",
    "policy_lag_mean",
    "bytes_per_env_step",
)
"""Of metrics.jsonl, what is kept of a run."""


class RunFailedError(RuntimeError):
    """A run that did not do what a benchmark needs of it. The message says where to look."""


class WatchedRun:
    """A training under way.

    Args:
        process: of ``asyncade train``.
        root: its run folder.
    """

    def __init__(self, process: subprocess.Popen[bytes], root: Path) -> None:
        self._process = process
        self.root = root

    def rows(self) -> list[dict[str, Any]]:
        """Returns the rows of metrics.jsonl so far."""
        if not (self.root / "config.json").is_file():
            return []
        return RunFolder.existing(self.root).read_metrics()

    def wait_for_row(self, after: float, timeout_s: float, *, trained: bool) -> dict[str, Any]:
        """Waits for a row and returns the first one that fits.

        Args:
            after: seconds of the run that must have passed.
            timeout_s: give up after so long.
            trained: whether there must have been an update: calibration is over then.

        Raises:
            RunFailedError: the run ended before, or it takes too long.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for row in self.rows():
                if row["seconds"] >= after and (row["updates"] > 0 or not trained):
                    return row
            if self._process.poll() is not None:
                raise RunFailedError(
                    f"asyncade train ended with {self._process.returncode}; see {self.root}/logs"
                )
            time.sleep(_POLL_S)
        raise RunFailedError(f"no such row in {timeout_s:g} s; see {self.root}/logs")

    def learner_page(self) -> str | None:
        """Returns the address of the learner's metrics."""
        endpoints = RunFolder.existing(self.root).read_endpoints() or {}
        page: str | None = endpoints.get("metrics")
        return page

    def actor_pages(self) -> list[str]:
        """Returns the addresses of the actors' metrics, as their logs tell them."""
        ports = (
            metrics_port(log.read_text(encoding="utf-8", errors="replace"))
            for log in sorted((self.root / "logs").glob("actor-*.log"))
        )
        return [f"http://127.0.0.1:{port}/metrics" for port in ports if port is not None]


def metrics_port(log: str) -> int | None:
    """Returns the port that a service's log says last: a restarted one has another."""
    found = _METRICS_PORT.findall(log)
    return int(found[-1]) if found else None


def asyncade(command: str, arguments: Mapping[str, object]) -> list[str]:
    """Returns the command line of one of asyncade's; an argument of None leaves its default."""
    flags = [f"--{name}={value}" for name, value in arguments.items() if value is not None]
    return [sys.executable, "-m", "asyncade_cli", command, *flags]


@contextmanager
def training(
    root: Path, arguments: Mapping[str, object], environment: Mapping[str, str] | None = None
) -> Iterator[WatchedRun]:
    """Runs a training until the block ends.

    Args:
        root: a new run folder.
        arguments: name of a setting to its value.
        environment: variables on top of this process's: settings that are the services' own.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        asyncade("train", {"run-dir": root, "display": "lines"} | dict(arguments)),
        stdout=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
        start_new_session=True,  # Ctrl-C reaches this process alone, and it ends the run
    )
    try:
        yield WatchedRun(process, root)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def settled_training(
    arguments: Mapping[str, object], environment: Mapping[str, str] | None = None
) -> Iterator[tuple[WatchedRun, dict[str, Any]]]:
    """Runs a training in a folder of its own, which is removed; yields it once it has settled.

    Args:
        arguments: as `training` takes them.
        environment: likewise.

    Yields:
        The run, and its first row after start-up, calibration and the first compilations.

    Raises:
        RunFailedError: it does not get there.
    """
    folder = Path(tempfile.mkdtemp(prefix="asyncade-bench-"))
    try:
        with training(folder / "run", arguments, environment) as run:
            first = run.wait_for_row(0.0, START_TIMEOUT_S, trained=True)
            yield run, run.wait_for_row(first["seconds"] + _SETTLE_S, START_TIMEOUT_S, trained=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def rate_between(first: Mapping[str, Any], last: Mapping[str, Any]) -> float:
    """Returns env steps/s between two rows.

    Raises:
        ValueError: no time lies between them.
    """
    seconds = last["seconds"] - first["seconds"]
    if seconds <= 0:
        raise ValueError(f"no time between {first['seconds']} s and {last['seconds']} s")
    return float((last["env_steps"] - first["env_steps"]) / seconds)


def efficiency(rate: float, ceiling: float) -> float:
    """Returns which part of the best possible rate a pipeline reaches.

    Raises:
        ValueError: the best possible rate is none.
    """
    if not ceiling > 0:
        raise ValueError(f"a ceiling of {ceiling} env steps/s")
    return rate / ceiling


def thinned(rows: Sequence[Mapping[str, Any]], at_most: int = 60) -> list[dict[str, Any]]:
    """Returns the main columns of at most so many rows, first and last among them."""
    if at_most < 2:
        raise ValueError("at least the first and the last row are kept")
    if len(rows) > at_most:
        last = len(rows) - 1
        rows = [rows[round(n * last / (at_most - 1))] for n in range(at_most)]
    return [{name: row.get(name) for name in COLUMNS} for row in rows]
