"""Figures in sentences."""

from __future__ import annotations


def counted(number: float, thing: str) -> str:
    """Returns such as ``1 game`` or ``1,200 games``; a float is rounded to whole ones."""
    shown = f"{number:,.0f}"
    return f"{shown} {thing}" if shown == "1" else f"{shown} {thing}s"
