"""Processes under measurement: how they are started, watched and stopped."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from asyncade_cli.processes import Service
from asyncade_runtime.run_folder import RunFolder

NEVER: Final = 1e9
"""A target that no game reaches: training goes on until it is stopped or out of budget."""

START_TIMEOUT_S: Final = 300.0
"""Time for loading, calibration and the first update on a busy machine."""

_POLL_S: Final = 0.2
_STOP_TIMEOUT_S: Final = 60.0
_METRICS_PORT: Final = re.compile(r"\bup\b.*\bmetrics_port=(\d+)")

T = TypeVar("T")


class RunFailedError(RuntimeError):
    """A process ended, or did not do what the benchmark waits for. The message names its log."""


@contextmanager
def running(
    module: str,
    arguments: Sequence[str],
    flags: Mapping[str, object],
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Service]:
    """Runs ``python -m MODULE ARGUMENTS --FLAG=VALUE ...`` until the block ends.

    Args:
        module: what to run.
        arguments: positional arguments.
        flags: settings; None leaves a setting at its default.
        log: file for the output.
        environment: variables set in addition to this process's. No live page is served unless
            they ask for one: nothing else shall run on the machine.
    """
    command = [*arguments, *(f"--{k}={v}" for k, v in flags.items() if v is not None)]
    name = " ".join([module, *arguments])
    log.parent.mkdir(parents=True, exist_ok=True)
    service = Service(
        name,
        module,
        command,
        log,
        {**os.environ, "ASYNCADE_TRAIN_WATCH": "false", **(environment or {})},
    )
    service.start()
    try:
        yield service
    finally:
        service.terminate()
        service.wait(_STOP_TIMEOUT_S)


def wait_until(
    attempt: Callable[[], T | None], service: Service, timeout_s: float = START_TIMEOUT_S
) -> T:
    """Repeats an attempt until it returns something, and returns that.

    Raises:
        RunFailedError: the service ended, or the time is over.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ended = service.exit_code() is not None
        if (found := attempt()) is not None:
            return found
        if ended:
            break
        time.sleep(_POLL_S)
    raise RunFailedError(f"{service.name} {service.how_it_ended()}: see {service.log}")


def wait_for_end(service: Service) -> None:
    """Waits until a service has ended.

    Raises:
        RunFailedError: its exit code is not 0.
    """
    while (code := service.exit_code()) is None:
        time.sleep(_POLL_S)
    if code != 0:
        raise RunFailedError(f"{service.name} {service.how_it_ended()}: see {service.log}")


def logged(log: Path) -> list[dict[str, Any]]:
    """Returns the lines of a log that are JSON objects."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


class Training:
    """A training in progress.

    Args:
        service: ``asyncade train`` or ``asyncade learner``.
        root: its run folder.
    """

    def __init__(self, service: Service, root: Path) -> None:
        self.service = service
        self.root = root

    def wait_for_row(self, after: float = 0.0, min_updates: int = 1) -> dict[str, Any]:
        """Waits for a row of metrics.jsonl and returns the first one that qualifies.

        Args:
            after: seconds of the run that must have passed.
            min_updates: updates that must have been made; there are none during calibration.

        Raises:
            RunFailedError: the run ended, or the row does not appear in time.
        """

        def row() -> dict[str, Any] | None:
            if not (self.root / "config.json").is_file():
                return None
            rows = RunFolder.existing(self.root).read_metrics()
            fitting = (r for r in rows if r["seconds"] >= after and r["updates"] >= min_updates)
            return next(fitting, None)

        return wait_until(row, self.service, after + START_TIMEOUT_S)

    def endpoints(self) -> dict[str, Any]:
        """Returns the learner's addresses."""
        return RunFolder.existing(self.root).read_endpoints() or {}

    def actor_pages(self) -> list[str]:
        """Returns the addresses of the actors' metrics, which their logs contain."""
        logs = (self.root / "logs").glob("actor-*.log")
        ports = [_METRICS_PORT.findall(log.read_text(errors="replace")) for log in sorted(logs)]
        return [f"http://127.0.0.1:{found[-1]}/metrics" for found in ports if found]


@contextmanager
def training(
    flags: Mapping[str, object],
    environment: Mapping[str, str] | None = None,
    command: str = "train",
) -> Iterator[Training]:
    """Runs ``asyncade train``, or another command with a run folder, until the block ends.

    The run folder is a temporary one.
    """
    with tempfile.TemporaryDirectory(prefix="asyncade-bench-") as folder:
        root = Path(folder) / "run"
        flags = {"run-dir": root, **flags}
        log = Path(folder) / "log"
        with running("asyncade_cli", [command], flags, log, environment) as service:
            yield Training(service, root)


def rate_between(first: Mapping[str, Any], last: Mapping[str, Any], name: str) -> float:
    """Returns the increase per second of a column between two rows."""
    return float((last[name] - first[name]) / (last["seconds"] - first["seconds"]))
