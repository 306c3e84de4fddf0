"""The curve of a run, from the rows of its metrics.jsonl or as they are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from asyncade_runtime.run_folder import RunFolder

POINTS: Final = 400
"""Of a curve, at most."""

COLUMNS: Final = ("env_steps", "seconds", "mean_return_100", "env_steps_per_second")

_HELD: Final = 4 * POINTS


class Curve:
    """The rows of a run that a chart shows: evenly thinned, however many there are.

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
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds the next row."""
        self.last = dict(row)
        if (lag := row.get("policy_lag_mean")) is not None:
            self._lags = (self._lags[0] + 1, self._lags[1] + lag)
        if self._rows % self._every == 0:
            self._points.append(tuple(row.get(name) for name in COLUMNS))
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
            newest = tuple(self.last.get(name) for name in COLUMNS)
            points = [*points, newest] if not points or points[-1] != newest else points
        columns = zip(*points, strict=True) if points else ((),) * len(COLUMNS)
        return {name: list(column) for name, column in zip(COLUMNS, columns, strict=True)}
