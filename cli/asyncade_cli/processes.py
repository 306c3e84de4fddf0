"""Services as child processes."""

from __future__ import annotations

import ast
import contextlib
import ctypes
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from asyncade_runtime.files import RunFolderError, made_if_missing

_PR_SET_PDEATHSIG: Final = 1  # Linux: prctl(2)
_LAST_BYTES: Final = 2**16
_REFUSAL: Final = re.compile(r"(?:cannot start|gave up)\s+detail=(['\"].*['\"]) instance=")
"""In a log of text, which is the default; a log of JSON is shown as it is."""


class PendingLog:
    """A log that becomes part of the run folder only once its process is accepted.

    A context manager. It makes a hidden copy of the log for the process to append to.

    Args:
        log: path of the log in the folder, which need not exist.

    Attributes:
        path: of the file that the process appends to.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self.path = log.with_name(f".{log.name}.{secrets.token_hex(4)}")
        self._stack = ExitStack()

    def __enter__(self) -> PendingLog:
        self._stack.enter_context(made_if_missing(self._log.parent))
        self._stack.callback(self.path.unlink, missing_ok=True)
        try:
            self.path.touch()
            if self._log.exists():
                shutil.copyfile(self._log, self.path)
        except OSError as error:
            self._stack.close()
            raise RunFolderError(f"{self.path.parent} cannot be written ({error})") from error
        return self

    def accept(self) -> Path:
        """Puts the copy in the log's place, and returns its path."""
        return self.path.replace(self._log)

    def __exit__(self, *exception: object) -> None:
        self._stack.close()


class Service:
    """A service process and its log file.

    Args:
        name: in messages, such as ``actor-1``.
        module: run as ``python -P -m``: nothing is imported from the working folder.
        arguments: command line.
        log: file to which output is appended.
        environ: environment variables.
        niceness: added to that of this process (nice(2)).
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        log: Path,
        environ: Mapping[str, str],
        niceness: int = 0,
    ) -> None:
        self.name = name
        self.log = log
        # Without -P a random.py in the folder of the user would replace Python's own.
        self._command = [sys.executable, "-P", "-m", module, *arguments]
        self._environ = dict(environ)
        self._niceness = niceness
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process number; None before the first start."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Starts the process in its own session, so that Ctrl-C reaches only the parent."""
        with self.log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                self._command,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self._begin_child,
            )

    def _begin_child(self) -> None:
        """Runs in the child, before exec."""
        os.nice(self._niceness)
        if sys.platform == "linux":
            _terminate_with_parent()

    def exit_code(self) -> int | None:
        """Returns the exit code, negative for a signal; None while the process runs."""
        return self._process.poll() if self._process else None

    def how_it_ended(self) -> str:
        """Describes the exit, such as ``was killed by SIGKILL``."""
        code = self.exit_code()
        if code is None:
            return "is running"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def last_lines(self, count: int = 5) -> str:
        """Returns the last lines that the process has written to the log."""
        try:
            with self.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, size - _LAST_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-count:])

    def refusal(self) -> str:
        """Returns why the service could not start, or gave up; else its last lines."""
        said = self.last_lines(50)
        if found := _REFUSAL.search(said):
            with contextlib.suppress(SyntaxError, ValueError):
                return str(ast.literal_eval(found[1]))
        return said

    def terminate(self) -> None:
        """Sends SIGTERM."""
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def wait(self, timeout_s: float) -> None:
        """Waits for the process to exit; kills it after the timeout."""
        if self._process is None:
            return
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _terminate_with_parent() -> None:
    """Has the kernel send SIGTERM to this process when its parent dies, even by SIGKILL."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the call
        os.kill(os.getpid(), signal.SIGTERM)
