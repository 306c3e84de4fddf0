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
from asyncade_runtime.curve import Curve
from asyncade_runtime.files import RunFolderError
from asyncade_runtime.run_folder import RunFolder
from asyncade_watch.obstacle import obstacle

_SILENT_S: Final = 20.0  # without a row, after which a running learner is called silent


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
            "target": learner.get("target"),
            "now": self._curve.newest() if endpoints is not None else self._curve.whole(),
            "curve": self._curve.columns(),
            **figures(last, senders, now, one_machine="train" in config),
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


def figures(
    row: Mapping[str, Any], senders: Mapping[str, Any], now: float, *, one_machine: bool
) -> dict[str, Any]:
    """Returns what the page says beside the curve.

    Args:
        row: the newest one, or empty.
        senders: as in senders.json, or empty.
        now: Unix time in seconds, by the learner's clock.
        one_machine: learner and actors share its cores.
    """
    # Until the first update the learner waits for actors that are still starting.
    shares = row.get("stage_shares", {}) if row.get("updates") else {}
    limit = bottleneck(shares, one_machine=one_machine)
    reached = row.get("target_env_steps")
    target = {"target": row["target"]} if "target" in row else {}
    return target | {
        "reached": None
        if reached is None
        else {"env_steps": reached, "seconds": row.get("target_seconds")},
        "bottleneck": limit and limit._asdict(),
        "actors": [
            {**actor, "silent": round(max(0.0, now - actor["last_seen"]), 1)}
            for actor in senders.get("actors", [])
        ],
        "dropped": senders.get("dropped", {}),
    }


def as_json(state: Mapping[str, Any]) -> str:
    """Returns the state as the page reads it."""
    return json.dumps(state, separators=(",", ":"), allow_nan=False)
