"""The folder of a training run.

config.json          settings: one section per program
metrics.jsonl        one object every few seconds
summary.json         outcome of the run
checkpoints/         twelve digits and .safetensors, the newest has the highest number; files of
                     other names are the user's
tensorboard/         event files
logs/                one file per service
endpoints.json       addresses of the running learner
curve.png            return against env steps
.lock                held by the learner that writes here
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

_LAST_BYTES: Final = 2**15
"""Bytes read from the end of metrics.jsonl for the last row: about thirty rows."""

_CHECKPOINT: Final = re.compile(r"\d{12}\.safetensors", re.ASCII)


class RunFolderError(ValueError):
    """The run folder is unusable. The message names the cure."""


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file completely or not at all, even across a power cut.

    Writes to a temporary file in the same folder, flushes it to disk, and renames it.
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
    """Appends all of `data` or nothing, so that a partial write cannot damage the next one.

    Raises:
        OSError: the write failed; the file is unchanged.
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
    """The files of one run. Constructing it touches no file.

    Args:
        root: the folder.
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

    @staticmethod
    def create(root: Path) -> RunFolder:
        """Creates the folder and its subfolders where they are missing.

        Raises:
            RunFolderError: a folder cannot be created.
        """
        folder = RunFolder(root)
        try:
            for one in (folder.checkpoints, folder.tensorboard, folder.logs):
                one.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"cannot create {root} ({error}); choose another one") from error
        return folder

    @staticmethod
    def existing(root: Path) -> RunFolder:
        """Opens an existing run, without writing to it.

        Raises:
            RunFolderError: the folder holds no run.
        """
        if not (root / "config.json").is_file():
            raise RunFolderError(f"{root} holds no run (no config.json); is the path right?")
        return RunFolder(root)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Locks the folder for the duration of a ``with`` block.

        Two learners in one folder would resume from each other's checkpoints. The kernel releases
        the lock (flock(2)) when the process ends, so a killed process leaves no lock behind.

        Raises:
            RunFolderError: another process holds the lock, or the file system has no locks.
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

    def checkpoint_files(self) -> list[Path]:
        """Returns the learner's checkpoints, newest first.

        A file of any other name, such as ``best.safetensors``, is the user's: it is neither resumed
        from nor removed.
        """
        if not self.checkpoints.is_dir():
            return []
        ours = [path for path in self.checkpoints.iterdir() if _CHECKPOINT.fullmatch(path.name)]
        return sorted(ours, reverse=True)

    def checkpoint_file(self, policy_version: int) -> Path:
        """Returns the path of a version's checkpoint, whether or not it exists."""
        return self.checkpoints / f"{policy_version:012d}.safetensors"

    def read_config(self) -> dict[str, Any]:
        """Returns all sections of config.json; empty before the first `write_config`."""
        return read_json(self._config) or {}

    def write_config(self, section: str, values: Mapping[str, Any]) -> None:
        """Sets one section of config.json and keeps the others.

        Raises:
            RunFolderError: the file cannot be written.
        """
        write_json(self._config, self.read_config() | {section: dict(values)})

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Appends a line to metrics.jsonl.

        Raises:
            OSError: the write failed; the file is unchanged.
        """
        append_whole(self._metrics, (json.dumps(dict(row)) + "\n").encode())

    def read_metrics(self) -> list[dict[str, Any]]:
        """Returns the rows of metrics.jsonl.

        A killed process may leave half a line in the middle of the file: lines that are not valid
        JSON are skipped.
        """
        try:
            return _rows(self._metrics.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def last_metrics(self) -> dict[str, Any] | None:
        """Returns the newest row of metrics.jsonl, or None, reading only the end of the file."""
        try:
            with self._metrics.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _LAST_BYTES))
                rows = _rows(file.read())
        except FileNotFoundError:
            return None
        return rows[-1] if rows else None

    def forget_metrics_after(self, env_steps: int, seconds: float) -> None:
        """Drops the rows after the checkpoint that a run resumes from: they will be repeated.

        Raises:
            RunFolderError: the file cannot be written.
        """
        kept = [
            row
            for row in self.read_metrics()
            if row.get("env_steps", 0) <= env_steps and row.get("seconds", 0) <= seconds + 0.01
        ]
        _keep(self._metrics, "".join(json.dumps(row) + "\n" for row in kept))

    def read_summary(self) -> dict[str, Any] | None:
        """Returns summary.json, or None while the run has not ended."""
        return read_json(self._summary)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json.

        Raises:
            RunFolderError: the file cannot be written.
        """
        write_json(self._summary, summary)

    def remove_summary(self) -> None:
        """Removes the summary of an earlier sitting when the run continues."""
        self._summary.unlink(missing_ok=True)

    def read_endpoints(self) -> dict[str, Any] | None:
        """Returns the running learner's addresses, or None."""
        return read_json(self._endpoints)

    def write_endpoints(self, endpoints: Mapping[str, Any]) -> None:
        """Writes the learner's addresses.

        Raises:
            RunFolderError: the file cannot be written.
        """
        write_json(self._endpoints, endpoints)

    def remove_endpoints(self) -> None:
        """Removes the addresses of an earlier learner."""
        self._endpoints.unlink(missing_ok=True)


def source_commit() -> str:
    """Returns the commit of this code's checkout, with ``+`` if there are uncommitted changes.

    Returns ``unknown`` outside a checkout.
    """
    describe = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    try:
        found = subprocess.run(
            describe, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def _rows(lines: bytes) -> list[dict[str, Any]]:
    rows = []
    for line in lines.splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # invalid JSON, or a character cut in half
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def read_json(path: Path) -> dict[str, Any] | None:
    """Returns the object in a JSON file; None if the file is missing.

    Raises:
        RunFolderError: the file cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} cannot be read ({error}); repair or remove it") from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{path} is not a JSON object; repair or remove it")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes an object to a JSON file, completely or not at all.

    Raises:
        RunFolderError: the file cannot be written.
    """
    _keep(path, json.dumps(dict(content), indent=2) + "\n")


def _keep(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be written ({error}); free disk space, or choose another folder"
        ) from error
