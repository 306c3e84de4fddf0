"""Services as child processes."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # Linux: prctl(2)


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

    def start(self) -> None:
        """Starts the process in its own session, so that Ctrl-C reaches only the parent."""
        with self.log.open("ab") as output:
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
        """Returns the last lines of the log."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-count:])

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
