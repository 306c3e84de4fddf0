"""Writes tables of settings and metrics into the documents, or checks that they are up to date.

    python docs/tables.py            write them
    python docs/tables.py --check    exit with 1 and name the file if one is out of date

Settings classes and metrics classes are the source of these facts. A table is between a line
`<!-- table: NAME -->` and a line `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry
from pydantic.fields import FieldInfo

from asyncade_actor.metrics import ActorMetrics
from asyncade_actor.settings import ActorSettings
from asyncade_cli.markdown import table
from asyncade_cli.settings import CompareSettings, EvalSettings, LoadgenSettings, TrainSettings
from asyncade_cli.sharing import ExportSettings, ReportSettings, TrackSettings
from asyncade_evaluator.metrics import EvaluatorMetrics
from asyncade_evaluator.settings import EvaluatorSettings
from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.settings import LearnerSettings
from asyncade_relay.metrics import RelayMetrics
from asyncade_relay.settings import RelaySettings
from asyncade_runtime.settings import Settings, flag_of, variable_of
from asyncade_watch.settings import WatchSettings

ROOT = Path(__file__).parents[1]
FILES = [
    ROOT / "services/actor/README.md",
    ROOT / "services/learner/README.md",
    ROOT / "services/evaluator/README.md",
    ROOT / "services/relay/README.md",
    ROOT / "docs/command-line.md",
]


def settings_table(cls: type[Settings]) -> str:
    """Returns a Markdown table of the settings of a class."""
    return table(
        ["Setting", "Environment variable", "Default", "Meaning"],
        [
            [f"`{flag_of(name)}`", f"`{variable_of(cls, name)}`", default(field), field.description]
            for name, field in cls.model_fields.items()
        ],
    )


def default(field: FieldInfo) -> str:
    """Returns a setting's default, as a flag's value."""
    if field.default_factory is not None:
        return "computed"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    if field.is_required():
        return "required"
    return f"`{'null' if field.default is None else field.default}`"


def metrics_table(make: Callable[[CollectorRegistry], object]) -> str:
    """Returns a Markdown table of the metrics that `make` registers."""
    registry = CollectorRegistry()
    make(registry)
    return table(
        ["Metric", "Type", "Meaning"],
        [
            [
                f"`{metric.name}{'_total' * (metric.type == 'counter')}`",
                metric.type,
                metric.documentation,
            ]
            for metric in sorted(registry.collect(), key=lambda metric: metric.name)
            if not metric.name.startswith("process_")
        ],
    )


def resume_table() -> str:
    """Returns a Markdown table of the settings that a resumed run keeps, and of the others."""
    held = LearnerSettings.held_on_resume()
    others = [name for name in LearnerSettings.model_fields if name not in held]

    def flags(names: list[str]) -> str:
        return ", ".join(f"`--{name.replace('_', '-')}`" for name in names)

    return table(
        ["On resume", "Settings"],
        [
            ["kept, unless given anew", flags(held)],
            ["of the sitting: given at each start, or the default", flags(others)],
        ],
    )


TABLES: dict[str, Callable[[], str]] = {
    "actor settings": lambda: settings_table(ActorSettings),
    "actor metrics": lambda: metrics_table(ActorMetrics),
    "learner settings": lambda: settings_table(LearnerSettings),
    "learner settings on resume": resume_table,
    "learner metrics": lambda: metrics_table(LearnerMetrics),
    "evaluator settings": lambda: settings_table(EvaluatorSettings),
    "evaluator metrics": lambda: metrics_table(EvaluatorMetrics),
    "relay settings": lambda: settings_table(RelaySettings),
    "relay metrics": lambda: metrics_table(RelayMetrics),
    "train settings": lambda: settings_table(TrainSettings),
    "eval settings": lambda: settings_table(EvalSettings),
    "watch settings": lambda: settings_table(WatchSettings),
    "report settings": lambda: settings_table(ReportSettings),
    "export settings": lambda: settings_table(ExportSettings),
    "track settings": lambda: settings_table(TrackSettings),
    "compare settings": lambda: settings_table(CompareSettings),
    "loadgen settings": lambda: settings_table(LoadgenSettings),
}
MARKED = re.compile(r"(<!-- table: (?P<name>[a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """Returns the text with every marked table as the code has it."""
    return MARKED.sub(lambda found: found[1] + TABLES[found["name"]]() + found[3], text)


def main() -> int:
    """Writes or checks; returns the exit code."""
    stale = [path for path in FILES if with_tables(path.read_text()) != path.read_text()]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: run `make docs`", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(with_tables(path.read_text()))
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
