"""What the page says of a run, read from its folder. Reads only what is new."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import structlog

from asyncade_rl.saved_models import SavedModel, saved_models
from asyncade_runtime.bottleneck import bottleneck
from asyncade_runtime.run_folder import RunFolder, RunFolderError
from asyncade_watch.obstacle import obstacle

POINTS: Final = 400
"""Of the curve, at most."""

_HELD: Final = 4 * POINTS
_SILENT_S: Final = 20.0  # without a row, after which a running learner is called silent
_CURVE: Final = ("env_steps", "seconds", "mean_return_100", "env_steps_per_second")


class State(Protocol):
    """Tells what there is to show besides the game."""

    def refresh(self) -> dict[str, Any]:
        """Returns what the page shows; reads what is new. One thread at a time calls it."""
        ...

    def saved(self) -> list[SavedModel]:
        """Returns the checkpoints that can be shown, in the order of env steps."""
        ...


class RunState:
    """The state of a run folder.

    Args:
        folder: of the run.
        clock: Unix time in seconds.
    """

    def __init__(self, folder: RunFolder, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._curve = Curve()
        self._saved: dict[str, SavedModel] = {}
        self._log = structlog.get_logger()
        self._told: str | None = None

    def refresh(self) -> dict[str, Any]:
        """Returns what the page shows."""
        folder = self._folder
        try:
            config = folder.read_config()
            summary, endpoints = folder.read_summary(), folder.read_endpoints()
            senders = folder.read_senders() or {}
            troubles = []
        except RunFolderError as error:  # written by hand, or on a full disk
            config, summary, endpoints, senders = {}, None, None, {}
            troubles = [str(error)]
        self._curve.read(folder)
        last = self._curve.last
        learner = config.get("learner", {})
        # Until the first update the learner waits for actors that are still starting.
        shares = last.get("stage_shares", {}) if last.get("updates") else {}
        limit = bottleneck(shares, one_machine="train" in config)
        now, saved = self._clock(), self.saved()
        game = learner.get("game") or (saved[-1].game if saved else None)
        no_game = obstacle(
            folder, game, saved, live=endpoints is not None, ended=summary is not None
        )
        self._say(no_game)
        return {
            "run": str(folder.root),
            "again": f"asyncade watch {shlex.quote(str(folder.root))}",
            "curve_of": "Mean return of the last 100 games",
            "game": game,
            "no_game": no_game,
            "troubles": troubles,
            "mode": learner.get("mode"),
            "seed": learner.get("seed"),
            "status": self._status(summary, endpoints, now),
            "ended_by": (summary or {}).get("ended_by"),
            "target": last.get("target", learner.get("target")),
            "reached": _reached(last),
            "now": self._curve.newest() if endpoints is not None else self._curve.whole(),
            "curve": self._curve.columns(),
            "bottleneck": limit and limit._asdict(),
            "actors": [
                {**actor, "silent": round(max(0.0, now - actor["last_seen"]), 1)}
                for actor in senders.get("actors", [])
            ],
            "dropped": senders.get("dropped", {}),
            "checkpoints": [
                {"name": one.path.name, "env_steps": one.env_steps, "seconds": one.seconds}
                for one in saved
            ],
        }

    def _say(self, no_game: str | None) -> None:
        """Logs once why no game can be shown."""
        if no_game is not None and no_game != self._told:
            self._log.warning("no game can be shown", detail=no_game)
        self._told = no_game

    def saved(self) -> list[SavedModel]:
        """Returns the checkpoints; of each file only the header is read, and only once."""
        paths = {path.name: path for path in self._folder.checkpoint_files()}
        new = [path for name, path in paths.items() if name not in self._saved]
        known = [one for name, one in self._saved.items() if name in paths]
        self._saved = {one.path.name: one for one in [*known, *saved_models(new)]}
        return sorted(self._saved.values(), key=lambda one: one.env_steps)

    def weights_address(self) -> str | None:
        """Returns the running learner's address for weights, or None."""
        try:
            endpoints = self._folder.read_endpoints() or {}
        except RunFolderError:
            return None
        return endpoints.get("weights")

    def sticky(self) -> float:
        """Returns the repeat-action probability of the run."""
        try:
            return self._folder.sticky()
        except RunFolderError:
            return 0.0

    def _status(
        self, summary: Mapping[str, Any] | None, endpoints: Mapping[str, Any] | None, now: float
    ) -> str:
        if not self._folder.root.is_dir():
            return "gone"
        if endpoints is None:
            return "stopped" if summary is None else "ended"
        since = self._folder.metrics.changed_at()
        return "silent" if since is not None and now - since > _SILENT_S else "training"


def _reached(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the env steps and seconds after which the target was reached, if it was."""
    if row.get("target_env_steps") is None:
        return None
    return {"env_steps": row["target_env_steps"], "seconds": row.get("target_seconds")}


class Curve:
    """The rows of metrics.jsonl that the chart shows: evenly thinned, however many there are.

    Attributes:
        last: the newest row; empty before the first one.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.last: dict[str, Any] = {}
        self._position = 0
        self._every = 1
        self._rows = 0
        self._points: list[tuple[Any, ...]] = []
        self._lags = (0, 0.0)  # number and sum

    def read(self, folder: RunFolder) -> None:
        """Reads the rows since the last call; all of them if the file has been cut meanwhile."""
        rows, position = folder.metrics.after(self._position)
        if position < self._position:  # resumed from a checkpoint: what came later is repeated
            self._forget()
        self._position = position
        for row in rows:
            self.last = row
            if (lag := row.get("policy_lag_mean")) is not None:
                self._lags = (self._lags[0] + 1, self._lags[1] + lag)
            if self._rows % self._every == 0:
                self._points.append(tuple(row.get(name) for name in _CURVE))
            self._rows += 1
            if len(self._points) >= _HELD:
                self._points = self._points[::2]
                self._every *= 2

    def newest(self) -> dict[str, Any]:
        """Returns the newest row without the shares of time."""
        return {name: value for name, value in self.last.items() if name != "stage_shares"}

    def whole(self) -> dict[str, Any]:
        """Returns the newest row, with the run's mean pace and lag instead of the last moment's."""
        row = self.newest()
        if row.get("seconds"):
            row["env_steps_per_second"] = round(row.get("env_steps", 0) / row["seconds"], 1)
        count, total = self._lags
        return row | {"policy_lag_mean": round(total / count, 3) if count else None}

    def columns(self) -> dict[str, list[Any]]:
        """Returns at most `POINTS` + 1 points by column, the newest row among them."""
        every = max(1, -(-len(self._points) // POINTS))
        points = self._points[::every]
        if self.last:
            newest = tuple(self.last.get(name) for name in _CURVE)
            points = [*points, newest] if not points or points[-1] != newest else points
        columns = zip(*points, strict=True) if points else ((),) * len(_CURVE)
        return {name: list(column) for name, column in zip(_CURVE, columns, strict=True)}


def as_json(state: Mapping[str, Any]) -> str:
    """Returns the state as the page reads it."""
    return json.dumps(state, separators=(",", ":"), allow_nan=False)
