"""`asyncade` commands as processes, and what tests read from processes and run folders."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from asyncade_learner import checkpoint
from asyncade_learner.progress import Progress
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.service import EXIT_BAD_INPUT

DEADLINE_S = 300.0  # only a failing test waits this long
ASYNCADE = str(Path(sys.executable).with_name("asyncade"))
QUICK = {
    "OMP_NUM_THREADS": "1",
    "ASYNCADE_LEARNER_CALIBRATION_ENV_STEPS": "256",
    "ASYNCADE_LEARNER_CHECKPOINT_SECONDS": "0.5",
    "ASYNCADE_LEARNER_REPORT_SECONDS": "0.25",
    "ASYNCADE_LEARNER_UNROLL_LENGTH": "16",
    "ASYNCADE_TRAIN_WATCH": "false",  # has tests of its own
}


class Witness(Protocol):
    """A process that has to live while a test waits, and its output."""

    process: subprocess.Popen[bytes]

    def text(self) -> str: ...


class Command:
    """An ``asyncade`` process and its output."""

    def __init__(
        self, output: Path, *arguments: object, environ: Mapping[str, str] | None = None
    ) -> None:
        own = {name: value for name, value in os.environ.items() if "ASYNCADE" not in name}
        self.output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [ASYNCADE, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**own, **QUICK, **(environ or {})},
                cwd=output.parent,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def exit_code(self) -> int:
        return self.process.wait(DEADLINE_S)


@contextmanager
def running(
    output: Path, *arguments: object, environ: Mapping[str, str] | None = None
) -> Iterator[Command]:
    """Runs a command, and kills it at the end; its services do not outlive it."""
    command = Command(output, *arguments, environ=environ)
    try:
        yield command
    finally:
        command.process.kill()
        command.process.wait()


def eventually(condition: Callable[[], object], what: str, *witnesses: Witness) -> None:
    """Waits for a condition; fails if that takes too long or a witness ends."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        texts = "\n".join(witness.text() for witness in witnesses)
        assert time.monotonic() < deadline, f"not in time: {what}\n{texts}"
        assert all(witness.process.poll() is None for witness in witnesses), f"{what}\n{texts}"
        time.sleep(0.05)


def services(parent: int) -> dict[str, int]:
    """Returns name and process id of the living services of ``asyncade train``."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
            words = (folder / "cmdline").read_text().split("\0")
        except OSError:
            continue  # it has ended
        state, ppid = stat.rpartition(")")[2].split()[:2]
        if int(ppid) == parent and state != "Z" and "-m" in words:
            ids = [w.removeprefix("--actor-id=") for w in words if w.startswith("--actor-id=")]
            found[ids[0] if ids else "learner"] = int(folder.name)
    return found


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def metrics(page: str, *names: str) -> list[float]:
    """Returns samples of one scrape of a metrics page, such as ``learner_updates_total``."""
    with urllib.request.urlopen(page, timeout=DEADLINE_S) as answer:
        text = answer.read().decode()
    found = [re.search(rf"^asyncade_{re.escape(n)} (\S+)$", text, re.MULTILINE) for n in names]
    assert all(found), f"not all of {names} in\n{text}"
    return [float(one[1]) for one in found if one]


def env_steps(folder: RunFolder) -> int:
    rows = folder.read_metrics()
    return rows[-1]["env_steps"] if rows else 0


def saved(folder: RunFolder) -> Progress:
    """Returns the counters of the newest checkpoint."""
    return checkpoint.load(folder.checkpoint_files()[0]).progress


def saved_updates(folder: RunFolder) -> int:
    """Returns the updates of the newest checkpoint, 0 without one."""
    return saved(folder).updates if folder.checkpoint_files() else 0


def assert_rows_continue(rows: Sequence[dict[str, Any]]) -> None:
    """Asserts that no counter of a run decreases."""
    for name in ("seconds", "env_steps", "updates", "episodes", "policy_version"):
        values = [row[name] for row in rows]
        assert values == sorted(values), f"{name} decreases: {values}"


def finished(
    output: Path, *arguments: object, environ: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Runs a command to its end; returns exit code and output."""
    with running(output, *arguments, environ=environ) as command:
        return command.exit_code(), command.text()


def refused(output: Path, *arguments: object, code: int = EXIT_BAD_INPUT) -> str:
    """Returns the output of a command, which has to end with this exit code."""
    found, text = finished(output, *arguments)
    assert found == code, text
    assert "Traceback" not in text
    return text
