"""What a report shows of a run: read from its folder, which may be of a run that was killed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final

from pydantic.fields import FieldInfo

from asyncade_cli.comparison import Figures, figures_of
from asyncade_cli.outcome import FinishedRun, Row, last_reported
from asyncade_cli.plot import thinned
from asyncade_cli.settings import TrainSettings
from asyncade_learner.settings import OF_THE_SITTING, LearnerSettings
from asyncade_rl.saved_models import SavedModel, saved_models
from asyncade_runtime.files import RunFolderError
from asyncade_runtime.json_lines import JsonLines
from asyncade_runtime.run_folder import RunFolder

AUTOMATIC: Final = "automatic"
"""Default of settings that the program chooses where nobody does; a config has only the choice."""

POINTS: Final = 300
"""Of a curve: about one for each of its pixels."""

_SHORTEST: Final = 0.25
"""Of the usual interval between two rows: a pace over less is an accident."""

_OF_THE_PROCESSOR: Final = {"torch_threads", "device", "decode_ahead"}
_OF_THE_SITTING: Final = (OF_THE_SITTING - _OF_THE_PROCESSOR) | {"display", "watch", "open"}
"""Settings that say where and how long a run ran, not how it learned or how fast."""


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """A run to report on.

    Attributes:
        root: its folder.
        label: its name in the report.
        ended: false for a run that is going on, or was killed.
        config: content of config.json; empty for an archived part of a run.
        summary: that of summary.json, or made from the last row.
        rows: of metrics.jsonl, at most `POINTS`.
        figures: as `asyncade compare` has them; empty if there are no rows.
        evaluations: of `asyncade eval`, oldest first.
        models: of its checkpoints, in the order of env steps.
    """

    root: Path
    label: str
    ended: bool
    config: Mapping[str, Any]
    summary: Row
    rows: Sequence[Row]
    figures: Figures
    evaluations: Sequence[Row]
    models: Sequence[SavedModel]

    @property
    def mode(self) -> str:
        """``data`` or ``gradients``."""
        return str(self.summary.get("mode") or "unknown")

    @property
    def game(self) -> str:
        """An ALE id, or ``catch``."""
        return str(self.summary.get("game") or "unknown")

    @property
    def target(self) -> float | None:
        """Mean return to exceed."""
        return self.summary.get("target")

    def points(self, column: str, x: str, divisor: float = 1.0) -> list[tuple[float, float]]:
        """Returns x and value of the rows that have a number in this column."""
        rows = self.rows
        if column == "env_steps_per_second" and rows and not rows[-1].get(column):
            rows = rows[:-1]  # written when the learner ended: nothing was played since the others
        pairs = ((row.get(x), row.get(column)) for row in rows)
        return [(a / divisor, float(b)) for a, b in pairs if a is not None and b is not None]

    def settings(self) -> list[tuple[str, Any, Any, bool]]:
        """Returns name, value, default, and whether they differ, of all stored settings.

        Where a run ran, and for how long it was allowed to, counts as no difference.
        """
        found: list[tuple[str, Any, Any, bool]] = []
        sections: dict[str, Mapping[str, FieldInfo]] = {
            "learner": LearnerSettings.model_fields,
            "train": TrainSettings.model_fields,
        }
        for section, fields in sections.items():
            for name, value in self.config.get(section, {}).items():
                field = fields.get(name)
                if field is None or any(name == known for known, *_ in found):
                    continue
                default = None if field.default_factory else field.get_default()
                differs = field.default_factory is None and value != default
                if default is None and value is not None:
                    default = AUTOMATIC
                found.append((name, value, default, differs and name not in _OF_THE_SITTING))
        return found


def read_run(root: Path, label: str, target: float | None = None) -> ReportedRun:
    """Reads a run without writing to its folder.

    Args:
        root: the folder, which may be an archived part of one.
        label: name in the report.
        target: replaces that of the run.

    Raises:
        RunFolderError: the folder holds no run.
    """
    folder = RunFolder(root)
    config, summary, last = folder.read_config(), folder.read_summary(), folder.last_metrics()
    if not config and summary is None and last is None:
        raise RunFolderError(
            f"{root} holds no run (no config.json, summary.json or metrics.jsonl);"
            " is the path right?"
        )
    known = summary or last_reported(config, last or {}, "nothing yet")
    if target is not None:
        known = {**known, "target": target}
    complete = FinishedRun(root, known, folder.metrics)
    return ReportedRun(
        root=root,
        label=label,
        ended=summary is not None,
        config=config,
        summary=known,
        rows=thinned(_without_spikes(folder.metrics), POINTS) if last else [],
        figures=figures_of(complete, known.get("target")) if last else {},
        evaluations=list(folder.evaluations),
        models=saved_models(folder.checkpoint_files()),
    )


def _without_spikes(rows: JsonLines) -> Iterator[Row]:
    """Yields rows; those of an interval far shorter than usual have no pace.

    The last one before a stop may cover a few milliseconds, in which a whole batch arrives.
    """
    ends = [row.get("seconds", 0.0) for row in rows]
    intervals = [later - earlier for earlier, later in pairwise([0.0, *ends])]
    usual = median(intervals) if intervals else 0.0
    for row, interval in zip(rows, intervals, strict=False):  # a running one grows meanwhile
        short = interval < _SHORTEST * usual
        yield {**row, "env_steps_per_second": None} if short else row


def labels_of(roots: Iterable[Path]) -> list[str]:
    """Returns a name for each folder: its own, or its path where two have the same."""
    paths = list(roots)
    names = [path.resolve().name for path in paths]
    return [
        name if names.count(name) == 1 else str(path)
        for name, path in zip(names, paths, strict=True)
    ]
