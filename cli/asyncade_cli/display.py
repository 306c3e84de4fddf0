"""Progress of a run on the terminal: a live table, lines, JSON, or nothing but what goes wrong."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from asyncade_cli.outlook import ASCII_BARS, BARS, Outlook, clock, sparkline
from asyncade_cli.words import counted

_SECONDS_BETWEEN_LINES: Final = 10.0
_MESSAGES_SHOWN: Final = 6
_TABLE_WIDTH: Final = 60
"""Columns of the terminal, below which a table is unreadable."""
_CURVE_WIDTH: Final = 40


class Display(Protocol):
    """Shows a run to whoever started it."""

    def say(self, message: str) -> None:
        """Shows an event."""
        ...

    def warn(self, message: str) -> None:
        """Shows what went wrong."""
        ...

    def show(self, row: Mapping[str, Any], actors: int) -> None:
        """Shows the newest row of metrics.jsonl and the number of live actor processes."""
        ...

    def close(self) -> None:
        """Ends the display: what follows may be printed."""
        ...


class QuietDisplay:
    """What went wrong, on standard error, and nothing else."""

    def say(self, message: str) -> None:
        """Does nothing."""

    def warn(self, message: str) -> None:
        """Prints it on standard error."""
        print(message, file=sys.stderr, flush=True)

    def show(self, row: Mapping[str, Any], actors: int) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class JsonDisplay(QuietDisplay):
    """Every row that is new, as a line of JSON on standard output."""

    def __init__(self) -> None:
        self._shown: Mapping[str, Any] = {}

    def show(self, row: Mapping[str, Any], actors: int) -> None:
        """Prints the row, unless it was the last one."""
        if row and row != self._shown:
            self._shown = row
            print(json.dumps(row), flush=True)


class LineDisplay:
    """One line every ten seconds, for logs."""

    def __init__(self, console: Console, outlook: Outlook) -> None:
        self._console = console
        self._outlook = outlook
        self._last = float("-inf")
        self._shown: str | None = None
        self._limit: str | None = None

    def say(self, message: str) -> None:
        """Prints an event."""
        self._console.print(message, highlight=False, markup=False, soft_wrap=True)

    warn = say

    def show(self, row: Mapping[str, Any], actors: int) -> None:
        """Prints the figures, and what limits the run when that has changed.

        Does nothing within ten seconds of the last line, or if nothing has changed.
        """
        self._outlook.add(row)
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        facts = _facts(row, actors) | _left(self._outlook)
        line = "  ".join(f"{name} {value}" for name, value in facts.items())
        if line == self._shown:
            return
        self._last, self._shown = now, line
        self.say(line)
        limit = self._outlook.bottleneck()
        if limit is not None and limit.name != self._limit:
            self._limit = limit.name
            self.say(f"{limit.sentence}; {limit.cure}")

    def close(self) -> None:
        """Does nothing."""


class LiveDisplay:
    """A table redrawn in place."""

    def __init__(self, console: Console, title: str, outlook: Outlook) -> None:
        self._title = title
        self._outlook = outlook
        self._bars = ASCII_BARS if console.options.ascii_only else BARS
        self._messages: list[str] = []
        self._facts: dict[str, str] = {}
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    def say(self, message: str) -> None:
        """Adds an event below the table."""
        self._messages = [*self._messages, message][-_MESSAGES_SHOWN:]
        self._draw()

    warn = say

    def show(self, row: Mapping[str, Any], actors: int) -> None:
        """Updates the table."""
        self._outlook.add(row)
        facts, limit = _facts(row, actors), self._outlook.bottleneck()
        self._facts = {
            "elapsed": facts.pop("elapsed"),
            **_left(self._outlook),
            "return": facts.pop("return"),
            "curve": self._curve(),
            **facts,
            **({} if limit is None else {"limit": limit.sentence, "cure": limit.cure}),
        }
        self._draw()

    def close(self) -> None:
        """Stops drawing; the last table stays on the screen."""
        self._live.stop()

    def _curve(self) -> str:
        """Returns the returns of the whole run, as bars."""
        returns = self._outlook.returns
        if not returns:
            return "-"
        line = sparkline(returns, _CURVE_WIDTH, self._bars)
        return f"{line} {min(returns):.1f} to {max(returns):.1f}"

    def _draw(self) -> None:
        table = Table(title=Text(self._title), show_header=False, min_width=_TABLE_WIDTH)
        table.add_column(style="cyan", no_wrap=True)
        table.add_column()
        for name, value in self._facts.items():
            table.add_row(name, Text(value))
        if self._facts and self._messages:
            table.add_section()
        for message in self._messages:
            table.add_row("", Text(message))  # not markup: a log line may contain [brackets]
        self._live.update(table, refresh=True)


def make_display(kind: str, console: Console, title: str, outlook: Outlook) -> Display:
    """Returns a live display, or lines where nothing can be redrawn; or the one asked for.

    Args:
        kind: ``live``, ``auto`` for a live display where it is readable, ``lines``, ``quiet`` or
            ``json``.
        console: redraws if it is a terminal with cursor control (not TERM=dumb).
        title: of the table.
        outlook: of the run.
    """
    if kind in ("quiet", "json"):
        return QuietDisplay() if kind == "quiet" else JsonDisplay()
    redraws = console.is_terminal and not console.is_dumb_terminal
    if redraws and (kind == "live" or (kind == "auto" and console.width >= _TABLE_WIDTH)):
        return LiveDisplay(console, title, outlook)
    return LineDisplay(console, outlook)


def _facts(row: Mapping[str, Any], actors: int) -> dict[str, str]:
    mean = row.get("mean_return_100")
    lag, games = row.get("policy_lag_mean"), counted(row.get("episodes", 0), "game")
    return {
        "elapsed": clock(row.get("seconds", 0)),
        "return": "-" if mean is None else f"{mean:.1f} ({games})",
        "env steps": f"{row.get('env_steps', 0):,}",
        "env steps/s": f"{row.get('env_steps_per_second', 0):.0f}",
        "policy lag": "-" if lag is None else f"{lag:.1f}",
        "dropped": str(row.get("messages_dropped", 0)),
        "actors": str(actors),
    }


def _left(outlook: Outlook) -> dict[str, str]:
    left = outlook.time_left()
    return {} if left is None else {"left": left}
