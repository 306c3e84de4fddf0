"""Settings of the live page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import Field

from asyncade_runtime.settings import Settings, SettingsConfigDict

PagePort: TypeAlias = Annotated[int, Field(ge=0, le=65535)]


class WatchSettings(Settings):
    """Shows a run as a page in the browser: the game in colour, the curve, the actors.

    Of a running training the newest weights play, of a finished one its last checkpoint; a slider
    shows the agent as it was before. Nothing is played while nobody looks.
    """

    model_config = SettingsConfigDict(
        env_prefix="ASYNCADE_WATCH_", cli_prog_name="asyncade watch [RUN]"
    )
    example = "asyncade watch runs/pong-data --open"

    host: str = "127.0.0.1"
    """address to serve the page on; 0.0.0.0 shows it to the whole network"""
    port: PagePort | None = None
    """port of the page; 0 picks a free one; default: 9105, or a free one if that is taken"""
    open: bool = False
    """open the page in a browser"""
    keys: Path | None = None
    """folder with the actors' CURVE keys (asyncade keys), for a learner that has keys"""
