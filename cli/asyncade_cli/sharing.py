"""Settings of the commands that make something of a run to keep or to share."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from asyncade_runtime.settings import Settings, SettingsConfigDict


class ReportSettings(Settings):
    """Writes one HTML file about a run, or about several side by side, that needs nothing else."""

    model_config = SettingsConfigDict(
        env_prefix="ASYNCADE_REPORT_", cli_prog_name="asyncade report RUN..."
    )
    example = "asyncade report runs/pong-data runs/pong-gradients --out pong.html"

    out: Path | None = None
    """file to write; default: report.html in the run's folder, of several runs in this one"""
    episodes: int | None = Field(None, ge=1, le=100_000)
    """games to play now with each run's newest checkpoint; default: report what asyncade eval has
    found before"""
    films: bool = True
    """film the agent early, midway and trained"""


class ExportSettings(Settings):
    """Writes a trained model as the Hugging Face hub expects one: a folder to upload."""

    model_config = SettingsConfigDict(
        env_prefix="ASYNCADE_EXPORT_", cli_prog_name="asyncade export RUN DIR"
    )
    example = "asyncade export runs/pong-data pong-model"

    checkpoint: Path | None = None
    """file to export: a path, or a name in the run's checkpoints; default: the newest"""
    episodes: int | None = Field(None, ge=1, le=100_000)
    """games to play for the card; default: the newest evaluation of the checkpoint with at least 30
    games is used, and 30 games are played if there is none"""
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]+$", max_length=96)
    """of the model; default: asyncade-GAME"""
    onnx: bool = True
    """write model.onnx too, for which the package onnx is needed"""


class TrackSettings(Settings):
    """Copies a run's metrics to a tracker: those there are, then those to come, until it ends.

    A process of its own, which training neither waits for nor notices. Each tracker is told where
    to write by its own variables, such as WANDB_MODE=offline or MLFLOW_TRACKING_URI.
    """

    model_config = SettingsConfigDict(
        env_prefix="ASYNCADE_TRACK_", cli_prog_name="asyncade track [RUN]"
    )
    example = "asyncade track runs/pong-data --to wandb"

    to: Literal["wandb", "mlflow", "trackio"]
    """Weights & Biases, MLflow or Trackio, which must be installed"""
    project: str = Field("asyncade", min_length=1)
    """project, or MLflow's experiment"""
    name: str | None = Field(None, min_length=1)
    """name of the run in the tracker; default: that of its folder"""
    follow: bool = True
    """wait for what a run that has not ended will write; leave it out for one that was killed"""
