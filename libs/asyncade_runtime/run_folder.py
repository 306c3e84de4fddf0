"""The folder a training run leaves behind, and may be continued from.

config.json          what was asked for: one section per program that had a part in it
metrics.jsonl        one object every few seconds
summary.json         how it ended
checkpoints/         *.safetensors, the newest has the highest number
tensorboard/         event files
logs/                one file per service
endpoints.json       where the learner of this moment listens
curve.png            return against env steps
.lock                held by the learner that writes here
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

_LAST_BYTES: Final = 2**15
"""Of metrics.jsonl: some thirty rows."""


class RunFolderError(ValueError):
    """A run folder that cannot be used as asked. The message names the cure."""


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file that is there whole or not at all, also after a power cut.

    The data goes to a neighbour, is flushed to the disk, and takes the name in one step.
    """
    neighbour = path.with_name(f".{path.name}.tmp")
    with neighbour.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    neighbour.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def append_whole(path: Path, data: bytes) -> None:
    """Appends to a file all of it or nothing, so that what is appended next is not spoilt.

    Raises:
        OSError: it could not be written, and was not.
    """
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            file.truncate(before)
            raise


class RunFolder:
    """One run's files.

    Args:
        root: made with its subfolders if it is not there.

    Raises:
        RunFolderError: it cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.checkpoints = root / "checkpoints"
        self.tensorboard = root / "tensorboard"
        self.logs = root / "logs"
        self.curve = root / "curve.png"
        self._config = root / "config.json"
        self._metrics = root / "metrics.jsonl"
        self._summary = root / "summary.json"
        self._endpoints = root / "endpoints.json"
        self._lock = root / ".lock"
        try:
            for folder in (self.checkpoints, self.tensorboard, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"{root} cannot be made ({error}); choose another one") from error

    @staticmethod
    def existing(root: Path) -> RunFolder:
        """Returns the run in a folder that must be one already.

        Raises:
            RunFolderError: there is no run.
        """
        if not (root / "config.json").is_file():
            raise RunFolderError(f"{root} holds no run (no config.json); is the path right?")
        return RunFolder(root)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Keeps other learners out: two that write here would resume from each other's checkpoints.

        The lock is the kernel's (flock(2)): it goes with the process, however that ends, so one
        that was killed locks nobody out.

        Raises:
            RunFolderError: another process has it, or it cannot be had here.
        """
        with contextlib.ExitStack() as stack:
            try:
                lock = stack.enter_context(self._lock.open("ab"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunFolderError(
                    f"another learner is writing to {self.root}; stop it, or choose another folder"
                ) from error
            except OSError as error:
                raise RunFolderError(
                    f"{self._lock} cannot be locked ({error}); choose a folder on another disk"
                ) from error
            yield

    def read_config(self) -> dict[str, Any]:
        """Returns all sections of config.json; none before the first `write_config`."""
        return _read(self._config) or {}

    def write_config(self, section: str, values: Mapping[str, Any]) -> None:
        """Sets one section of config.json and keeps the others.

        Raises:
            RunFolderError: it cannot be written.
        """
        _write(self._config, self.read_config() | {section: dict(values)})

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Adds a line to metrics.jsonl.

        Raises:
            OSError: it could not be written, and was not.
        """
        append_whole(self._metrics, (json.dumps(dict(row)) + "\n").encode())

    def read_metrics(self) -> list[dict[str, Any]]:
        """Returns the rows of metrics.jsonl.

        A process that was killed may leave half a line, and the one that continues the run writes
        behind it: lines that are no JSON are passed over.
        """
        try:
            return _rows(self._metrics.read_bytes())
        except FileNotFoundError:
            return []

    def last_metrics(self) -> dict[str, Any] | None:
        """Returns the newest row of metrics.jsonl, if there is one, without reading the others."""
        try:
            with self._metrics.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _LAST_BYTES))
                rows = _rows(file.read())
        except FileNotFoundError:
            return None
        return rows[-1] if rows else None

    def forget_metrics_after(self, env_steps: int, seconds: float) -> None:
        """Drops the rows beyond a checkpoint that is being resumed: they will be lived again.

        Raises:
            RunFolderError: it cannot be written.
        """
        kept = [
            row
            for row in self.read_metrics()
            if row.get("env_steps", 0) <= env_steps and row.get("seconds", 0) <= seconds + 0.01
        ]
        _keep(self._metrics, "".join(json.dumps(row) + "\n" for row in kept))

    def read_summary(self) -> dict[str, Any] | None:
        """Returns summary.json, if the run has ended."""
        return _read(self._summary)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json.

        Raises:
            RunFolderError: it cannot be written.
        """
        _write(self._summary, summary)

    def remove_summary(self) -> None:
        """Removes the summary of an earlier ending: the run goes on."""
        self._summary.unlink(missing_ok=True)

    def read_endpoints(self) -> dict[str, Any] | None:
        """Returns where the learner listens, if it does."""
        return _read(self._endpoints)

    def write_endpoints(self, endpoints: Mapping[str, Any]) -> None:
        """Says where the learner listens.

        Raises:
            RunFolderError: it cannot be written.
        """
        _write(self._endpoints, endpoints)

    def remove_endpoints(self) -> None:
        """Forgets where an earlier learner listened."""
        self._endpoints.unlink(missing_ok=True)


def source_commit() -> str:
    """Returns the commit of the checkout this code runs from, with ``+`` if it was changed since.

    ``unknown`` outside a checkout.
    """
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changed else "")


def _rows(lines: bytes) -> list[dict[str, Any]]:
    rows = []
    for line in lines.splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # also where a character is cut
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise RunFolderError(f"{path} is no JSON: {error}; mend or remove it") from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{path} is no JSON object; mend or remove it")
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    _keep(path, json.dumps(dict(content), indent=2) + "\n")


def _keep(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be written ({error}); make room there, or choose another folder"
        ) from error
