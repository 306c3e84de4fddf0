"""Progress of a run on the terminal: a live table, or one line every ten seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

_SECONDS_BETWEEN_LINES: Final = 10.0
_MESSAGES_SHOWN: Final = 6
_TABLE_WIDTH: Final = 60
"""Columns of the terminal, below which a table is unreadable."""


class LineDisplay:
    """One line every ten seconds, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = float("-inf")
        self._shown: str | None = None

    def say(self, message: str) -> None:
        """Prints an event."""
        self._console.print(message, highlight=False, markup=False, soft_wrap=True)

    def show(self, row: Mapping[str, Any], actors: int) -> None:
        """Prints the newest row of metrics.jsonl and the number of live actor processes.

        Does nothing within ten seconds of the last line, or if nothing has changed.
        """
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        facts = "  ".join(f"{name} {value}" for name, value in _facts(row, actors).items())
        if facts != self._shown:
            self._last, self._shown = now, facts
            self._console.print(facts, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Does nothing."""


class LiveDisplay:
    """A table redrawn in place."""

    def __init__(self, console: Console, title: str) -> None:
        self._title = title
        self._messages: list[str] = []
        self._facts: dict[str, str] = {}
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    def say(self, message: str) -> None:
        """Adds an event below the table."""
        self._messages = [*self._messages, message][-_MESSAGES_SHOWN:]
        self._draw()

    def show(self, row: Mapping[str, Any], actors: int) -> None:
        """Updates the table from the newest row of metrics.jsonl and the live actor processes."""
        self._facts = _facts(row, actors)
        self._draw()

    def close(self) -> None:
        """Stops drawing; the last table stays on the screen."""
        self._live.stop()

    def _draw(self) -> None:
        table = Table(title=Text(self._title), show_header=False, min_width=_TABLE_WIDTH)
        table.add_column(style="cyan", no_wrap=True)
        table.add_column()
        for name, value in self._facts.items():
            table.add_row(name, value)
        for message in self._messages:
            table.add_row("", Text(message))  # not markup: a log line may contain [brackets]
        self._live.update(table, refresh=True)


Display: TypeAlias = LineDisplay | LiveDisplay


def make_display(kind: str, console: Console, title: str) -> Display:
    """Returns a live display, or lines where nothing can be redrawn.

    Args:
        kind: ``live``, ``auto`` for a live display where it is readable, or ``lines``.
        console: redraws if it is a terminal with cursor control (not TERM=dumb).
        title: of the table.
    """
    redraws = console.is_terminal and not console.is_dumb_terminal
    if redraws and (kind == "live" or (kind == "auto" and console.width >= _TABLE_WIDTH)):
        return LiveDisplay(console, title)
    return LineDisplay(console)


def _facts(row: Mapping[str, Any], actors: int) -> dict[str, str]:
    minutes, seconds = divmod(int(row.get("seconds", 0)), 60)
    mean = row.get("mean_return_100")
    lag = row.get("policy_lag_mean")
    return {
        "elapsed": f"{minutes}:{seconds:02d}",
        "return": "-" if mean is None else f"{mean:.1f} ({row.get('episodes', 0)} games)",
        "env steps": f"{row.get('env_steps', 0):,}",
        "env steps/s": f"{row.get('env_steps_per_second', 0):.0f}",
        "policy lag": "-" if lag is None else f"{lag:.1f}",
        "dropped": str(row.get("messages_dropped", 0)),
        "actors": str(actors),
    }
