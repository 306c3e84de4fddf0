"""``asyncade track``: a run's metrics in the tracker of your choice.

A process of its own reads metrics.jsonl: a tracker that is slow, has no network or crashes cannot
touch the training, and runs that ended long ago are imported the same way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from asyncade_cli.sharing import TrackSettings
from asyncade_runtime.run_folder import RunFolder

Values: TypeAlias = Mapping[str, float]

POLL_SECONDS: Final = 2.0


class TrackerError(ValueError):
    """A tracker cannot be used. The message names the cure."""


class Tracker(Protocol):
    """Where metrics go."""

    def log(self, values: Values, env_steps: int) -> None:
        """Adds the values of a row."""
        ...

    def finish(self, outcome: Mapping[str, Any]) -> None:
        """Ends the tracker's run; `outcome` is the content of summary.json, empty if none."""
        ...


class WandbTracker:
    """Weights & Biases: https://docs.wandb.ai."""

    def __init__(self, project: str, name: str, config: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(project=project, name=name, config=dict(config))

    def log(self, values: Values, env_steps: int) -> None:
        """Adds the values of a row."""
        self._run.log(dict(values), step=env_steps)

    def finish(self, outcome: Mapping[str, Any]) -> None:
        """Ends the run; waits until everything is uploaded."""
        self._run.summary.update(dict(outcome))
        self._run.finish()


class MlflowTracker:
    """MLflow: https://mlflow.org."""

    def __init__(self, project: str, name: str, config: Mapping[str, Any]) -> None:
        import mlflow

        self._mlflow = mlflow
        mlflow.set_experiment(project)
        mlflow.start_run(run_name=name)
        mlflow.log_params(dict(config))

    def log(self, values: Values, env_steps: int) -> None:
        """Adds the values of a row."""
        self._mlflow.log_metrics(dict(values), step=env_steps)

    def finish(self, outcome: Mapping[str, Any]) -> None:
        """Ends the run."""
        self._mlflow.set_tags({name: str(value) for name, value in outcome.items()})
        self._mlflow.end_run()


class TrackioTracker:
    """Trackio: https://huggingface.co/docs/trackio."""

    def __init__(self, project: str, name: str, config: Mapping[str, Any]) -> None:
        import trackio

        self._run = trackio.init(project=project, name=name, config=dict(config))

    def log(self, values: Values, env_steps: int) -> None:
        """Adds the values of a row."""
        self._run.log(dict(values), step=env_steps)

    def finish(self, outcome: Mapping[str, Any]) -> None:
        """Ends the run. Trackio has no place for the outcome; the last row says the same."""
        self._run.finish()


TRACKERS: Final[dict[str, Callable[[str, str, Mapping[str, Any]], Tracker]]] = {
    "wandb": WandbTracker,
    "mlflow": MlflowTracker,
    "trackio": TrackioTracker,
}


def track(root: Path, settings: TrackSettings, stop: threading.Event) -> int:
    """Copies the rows of a run to a tracker until the run has ended; returns how many.

    A resumed run repeats the rows after its checkpoint: those that were copied are left out.

    Args:
        root: of the run.
        settings: of the command.
        stop: ends the copying early; what was copied stays.

    Raises:
        RunFolderError: the folder holds no run.
        TrackerError: the tracker is not installed.
    """
    folder = RunFolder.existing(root)
    config = folder.read_config().get("learner", {})
    try:
        tracker = TRACKERS[settings.to](settings.project, settings.name or root.name, config)
    except ImportError as error:
        raise TrackerError(
            f"{settings.to} is not installed ({error}): pip install 'asyncade[{settings.to}]'"
        ) from error
    offset, copied, last = 0, 0, -1
    while True:
        ended = folder.read_summary()  # before the rows: none comes after it
        rows, offset = folder.metrics.after(offset)
        for row in rows:
            if (env_steps := int(row.get("env_steps", 0))) > last:
                tracker.log(values_of(row), env_steps)
                copied, last = copied + 1, env_steps
        if ended is not None or not settings.follow or stop.wait(POLL_SECONDS):
            break
    tracker.finish(ended or {})
    return copied


def values_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a row; those of a nested object as ``stage_shares/wait``."""
    found: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{inner}": v for inner, v in values_of(value).items()}
        elif isinstance(value, int | float):
            found[name] = float(value)
    return found
