"""The live page of a training, a process of its own: whatever becomes of it, training goes on."""

from __future__ import annotations

import re
import webbrowser
from collections.abc import Callable, Mapping
from typing import Final

from asyncade_cli.processes import Service
from asyncade_runtime.run_folder import RunFolder

_NICENESS: Final = 5
_ADDRESS: Final = re.compile(r"http://\S+")
_STOP_TIMEOUT_S: Final = 5.0


class LivePage:
    """Serves the page of a run while it trains.

    Args:
        folder: of the run.
        environ: environment variables of the process.
        say: tells the user where the page is, or that there is none.
        open_it: open the page in a browser.
    """

    def __init__(
        self,
        folder: RunFolder,
        environ: Mapping[str, str],
        say: Callable[[str], None],
        *,
        open_it: bool,
    ) -> None:
        log = folder.logs / "watch.log"
        self._service = Service(
            "live page", "asyncade_watch", [str(folder.root)], log, environ, niceness=_NICENESS
        )
        self._say = say
        self._open = open_it
        self._shown = self._over = False

    def start(self) -> None:
        """Starts the process."""
        try:
            self._service.start()
        except OSError as error:
            self._over = True
            self._say(f"no live page: {error}")

    def note(self) -> None:
        """Says once where the page is, and once if it has ended."""
        if self._over:
            return
        if self._service.exit_code() is not None:
            self._over = True
            last = self._service.last_lines(1)
            self._say(f"the live page {self._service.how_it_ended()}: {last}; training goes on")
        elif not self._shown and (found := _ADDRESS.search(self._service.last_lines(1))):
            self._shown = True
            self._say(f"watch it at {found[0]}")
            if self._open:
                webbrowser.open(found[0])

    def terminate(self) -> None:
        """Sends SIGTERM to the process."""
        self._service.terminate()

    def stop(self) -> None:
        """Ends the process."""
        self.terminate()
        self._service.wait(_STOP_TIMEOUT_S)
