"""The folder of a training run.

config.json          settings: one section per program
metrics.jsonl        one object every few seconds
summary.json         outcome of the run
checkpoints/         twelve digits and .safetensors, the newest has the highest number; files of
                     other names are the user's
tensorboard/         event files
logs/                one file per service
endpoints.json       addresses of the running learner
senders.json         who sends to it, replaced every few seconds
curve.png            return against env steps
evaluations.jsonl    one object for each finished `asyncade eval`
.lock                held by the learner that writes here
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from asyncade_runtime.files import (
    RunFolderError,
    made_if_missing,
    read_json,
    write_atomically,
    write_json,
)
from asyncade_runtime.json_lines import JsonLines

_CHECKPOINT: Final = re.compile(r"\d{12}\.safetensors", re.ASCII)
_UNFINISHED: Final = re.compile(r"\.\d{12}\.safetensors\.tmp", re.ASCII)


CLAIMED: Final = "claimed by actors"
"""Where returns and target of a summary come from. What confirms them is in evaluations.jsonl,
which the learner neither writes nor reads: it opens no game."""


class FolderBusyError(RunFolderError):
    """Another process holds the folder's lock."""


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
        self.metrics = JsonLines(root / "metrics.jsonl")
        self.evaluations = JsonLines(root / "evaluations.jsonl")
        self._summary = root / "summary.json"
        self._endpoints = root / "endpoints.json"
        self._senders = root / "senders.json"
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
        folder = RunFolder(root)
        if not (root / "config.json").is_file() and not folder.checkpoint_files():
            raise RunFolderError(
                f"{root} holds no run (no config.json, no checkpoints); is the path right?"
            )
        return folder

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Locks the folder for the duration of a ``with`` block, and creates it if it is missing.

        Two learners in one folder would resume from each other's checkpoints. The kernel releases
        the lock (flock(2)) when the process ends, so a killed process does not hold it. A block
        that writes nothing leaves the folder as it was, or missing.

        Raises:
            FolderBusyError: another process holds the lock.
            RunFolderError: the folder cannot be created, or its file system has no locks.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(made_if_missing(self.root))
            created = not self._lock.exists()
            try:
                lock = stack.enter_context(self._lock.open("ab"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever had the lock may have removed the file since it was opened.
                held = self._lock.exists() and os.path.samestat(
                    os.fstat(lock.fileno()), self._lock.stat()
                )
            except BlockingIOError:
                held = False
            except OSError as error:
                raise RunFolderError(
                    f"{self._lock} cannot be locked ({error}); choose a folder on another disk"
                ) from error
            if not held:
                raise FolderBusyError(
                    f"another learner is writing to {self.root}; stop it, or choose another folder"
                )
            if created:
                stack.callback(self._lock.unlink, missing_ok=True)
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

    def remove_unfinished_checkpoints(self) -> None:
        """Removes what learners that were killed while they wrote have left."""
        for path in self.checkpoints.iterdir():
            if _UNFINISHED.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def read_config(self) -> dict[str, Any]:
        """Returns all sections of config.json; empty before the first `write_config`.

        Raises:
            RunFolderError: the file cannot be read, or a section is no object.
        """
        config = read_json(self._config) or {}
        for section, values in config.items():
            if not isinstance(values, dict):
                raise RunFolderError(
                    f"{section!r} in {self._config} is not an object; repair or remove it"
                )
        return config

    def sticky(self) -> float:
        """Returns the probability with which the run's game repeats an action.

        Raises:
            RunFolderError: config.json cannot be read, or says something else.
        """
        sticky = self.read_config().get("learner", {}).get("repeat_action_probability", 0.0)
        if not isinstance(sticky, int | float) or not 0 <= sticky < 1:
            raise RunFolderError(
                f"repeat_action_probability in {self._config} is not from 0 to 1; repair it"
            )
        return float(sticky)

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
        self.metrics.append(row)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Returns all rows of metrics.jsonl. Iterate over `metrics` if there may be many."""
        return list(self.metrics)

    def last_metrics(self) -> dict[str, Any] | None:
        """Returns the newest row of metrics.jsonl, or None."""
        return self.metrics.last()

    def forget_metrics_after(self, env_steps: int, seconds: float) -> None:
        """Drops the rows after the checkpoint that a run resumes from: they will be repeated.

        Raises:
            RunFolderError: the file cannot be written.
        """

        def before_the_checkpoint(row: Mapping[str, Any]) -> bool:
            fits = row.get("seconds", 0) <= seconds + 0.01
            return bool(fits and row.get("env_steps", 0) <= env_steps)

        try:
            self.metrics.truncate_after(before_the_checkpoint)
        except OSError as error:
            raise RunFolderError(f"metrics.jsonl cannot be written ({error})") from error

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

    def read_senders(self) -> dict[str, Any] | None:
        """Returns who sends to the learner, or None."""
        return read_json(self._senders)

    def write_senders(self, senders: Mapping[str, Any]) -> None:
        """Writes who sends to the learner. A power cut may lose it: the next report replaces it.

        Raises:
            OSError: the file cannot be written.
        """
        data = (json.dumps(dict(senders)) + "\n").encode()
        write_atomically(self._senders, data, durable=False)

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
