"""Markdown tables, for every report of this project."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns a table that ends with a newline; `cell` decides how each value is shown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(map(cell, line))} |\n" for line in lines)


def cell(value: object) -> str:
    """Returns the text of a cell.

    None is a dash, integers have commas, floats below 1,000 have three significant digits, and
    text is escaped so that it stays in its cell.
    """
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        case _:
            return str(value).replace("|", "\\|").replace("\n", " ")
