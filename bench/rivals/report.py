"""Reads what drivers print; derives times to the target; renders the table."""

from __future__ import annotations

import json
from typing import Any

Row = dict[str, Any]

MEASURED = ("env_steps", "seconds", "games", "mean_return", "torch_threads", "versions")
HEAD = (
    "rival",
    "env steps/s",
    "trained for",
    "mean of its last games",
    "published env steps to target",
    "time to target on this machine",
)


class ReportError(Exception):
    """A driver's output is not what it should be."""


def parse_last_line(output: str) -> Row:
    """Returns the measurement in a driver's output.

    Args:
        output: its standard output. The measurement is the last line that is a JSON object; what
            libraries print after it while shutting down is skipped.

    Raises:
        ReportError: there is none, or it lacks something.
    """
    for line in reversed(output.splitlines()):
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(found, dict):
            break
    else:
        raise ReportError("the driver printed no measurement: it ended before its last line")
    if missing := [key for key in MEASURED if key not in found]:
        raise ReportError(f"the driver's last line lacks {', '.join(missing)}")
    if found["env_steps"] <= 0 or found["seconds"] <= 0:
        raise ReportError("no iteration was complete: give it more --minutes")
    return found


def seconds_to_target(row: Row) -> float | None:
    """Returns how long this rival needs to its target on this machine.

    Measured if it got there within the cap, else its published env steps over its measured rate.
    None for a rival that was not run.
    """
    if reached := row.get("reached_target"):
        return float(reached["seconds"])
    rate = row.get("env_steps_per_second")
    if not rate:
        return None
    return float(row["published_env_steps_to_target"]["env_steps"] / rate)


def _time(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def _time_cell(row: Row) -> str:
    published = row["published_env_steps_to_target"]
    seconds = seconds_to_target(row)
    if seconds is None:
        if published.get("minutes") is None:
            return "-"
        return f"not run; published: {_time(published['minutes'] * 60)} {published['machine']}"
    if row.get("reached_target"):
        return f"{_time(seconds)} (measured)"
    return f"{'over ' if published['at_least'] else ''}{_time(seconds)} (projected)"


def _published_cell(row: Row) -> str:
    published = row["published_env_steps_to_target"]
    sign = "> " if published["at_least"] else ""
    of = f", of {published['of']}" if published.get("of") else ""
    return (
        f"[{sign}{published['env_steps']:,}]({published['source']}) to {published['target']:g}{of}"
    )


def _cells(row: Row) -> list[str]:
    if "error" in row:
        return [row["name"], "failed", "-", row["error"], _published_cell(row), "-"]
    if "env_steps_per_second" not in row:
        return [row["name"], "-", "-", "-", _published_cell(row), _time_cell(row)]
    mean = "-" if row["mean_return"] is None else f"{row['mean_return']:.1f}"
    return [
        row["name"],
        f"{row['env_steps_per_second']:,.0f}",
        f"{row['env_steps']:,} env steps, {_time(row['seconds'])}",
        f"{mean} ({min(row['games'], 100)} of {row['games']})",
        _published_cell(row),
        _time_cell(row),
    ]


def table(rows: list[Row]) -> str:
    """Returns the rows as a Markdown table, with what it was measured on below."""
    lines = [HEAD, ("---",) * len(HEAD), *map(_cells, rows)]
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    ran = [row for row in rows if "env_steps_per_second" in row]
    cores = sorted({row["cores"] for row in ran})
    commits = sorted({row["commit"] for row in ran})
    if ran:
        text += f"\nCores: {', '.join(map(str, cores))}. Commit: {', '.join(commits)}.\n"
    return text
