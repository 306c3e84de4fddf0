"""Settings of the commands that make something of a run to keep or to share."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from asyncade_runtime.settings import Settings, SettingsConfigDict


class ReportSettings(Settings):
    """Writes one HTML file about a run, or about several side by side, that needs nothing else.

    Such as: asyncade report runs/pong-data runs/pong-gradients --out pong.html
    """

    model_config = SettingsConfigDict(
        env_prefix="ASYNCADE_REPORT_", cli_prog_name="asyncade report RUN..."
    )

    out: Path | None = None
    """file to write; default: report.html in the run's folder, of several runs in this one"""
    episodes: int | None = Field(None, ge=1, le=100_000)
    """games to play now with each run's newest checkpoint; default: report what asyncade eval has
    found before"""
    films: bool = True
    """film the agent early, midway and trained"""
