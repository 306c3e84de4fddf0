"""The report of a comparison: Markdown and one picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asyncade_cli.compare_costs import ASSUMPTIONS, LINKS, Cluster
from asyncade_cli.compare_figures import RunFigures, Shares
from asyncade_cli.compare_seeds import Equal, ModeFigures, Spread
from asyncade_cli.compare_words import cluster_words, duration, machine_words

MODES: Final = ("data", "gradients")
_COLOURS: Final = {"data": "tab:blue", "gradients": "tab:orange"}
UNKNOWN: Final = "not measured"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything a report says.

    Attributes:
        title: game, number of actors, and so on.
        command: that made it.
        data: figures of data mode.
        gradients: figures of gradient mode.
        equal: where returns are compared.
        cluster: what the costs foretell; None when they were not measured.
    """

    title: str
    command: str
    data: ModeFigures
    gradients: ModeFigures
    equal: Equal
    cluster: Cluster | None


def render(comparison: Comparison) -> str:
    """Returns the report as Markdown."""
    data, gradients = comparison.data, comparison.gradients
    parts = [
        f"# Data or gradients: {comparison.title}",
        f"Made by `{comparison.command}`. {_machine([*data.runs, *gradients.runs])}",
        "## On this machine",
        _bullets(machine_words(data, gradients, comparison.equal)),
        "## On a cluster, by the measured costs",
        _bullets(cluster_words(comparison.cluster)),
        *_forecast_parts(comparison.cluster),
        "## Figures",
        "Median over the seeds, lowest to highest in brackets. Rates are of the time in which"
        " updates are made; wall time is that of the learner from its start, loading included.",
        figures_table(data, gradients),
        "![mean return of the last 100 games](curves.png)",
        "## Where the time goes",
        "Share of the main loop's time by stage, medians. A stage's time includes waiting for a"
        " core while another process has it.",
        _shares_table("learner", data.learner_shares, gradients.learner_shares),
        _shares_table("actors", data.actor_shares, gradients.actor_shares),
        "## Runs",
        _runs_table([*data.runs, *gradients.runs]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _machine(runs: Sequence[RunFigures]) -> str:
    def every(name: str) -> str:
        values = sorted({str(getattr(run, name)) for run in runs})
        return ", ".join(values)

    return (
        f"Commit {every('commit')}, {every('cores')} cores, {every('torch_threads')} torch threads"
        f" in the learner, {every('actors')} actors, seeds {every('seed')}."
    )


def _bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def spread_text(spread: Spread, form: Callable[[float], str], absent: str = UNKNOWN) -> str:
    """Returns ``median (low to high; seeds)`` as a person reads it.

    Args:
        spread: of a figure.
        form: writes one number.
        absent: what it means when a run has no such figure.
    """
    if spread.low is None or spread.high is None:
        return absent
    missing = f"{absent} in {spread.absent} of {spread.runs}" if spread.absent else ""
    if spread.median is None:
        return f"{absent} in {spread.absent} of {spread.runs}; else from {form(spread.low)}"
    if spread.runs == 1:
        return form(spread.median)
    inside = f"{form(spread.low)} to {form(spread.high)}" + (f"; {missing}" if missing else "")
    return f"{form(spread.median)} ({inside})"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _decimal(value: float) -> str:
    return f"{value:,.2f}"


def _milliseconds(value: float) -> str:
    return f"{value * 1e3:.3f} ms"


_LINES: Final[tuple[tuple[str, str, Callable[[float], str], str], ...]] = (
    ("env steps to the target", "env_steps_to_target", _whole, "not reached"),
    ("wall time to the target", "seconds_to_target", duration, "not reached"),
    ("mean return of the last 100 games, at the end", "mean_return_100", _decimal, "no game ended"),
    ("the same at equal wall time", "return_at_equal_seconds", _decimal, "no game ended"),
    ("the same at equal env steps", "return_at_equal_env_steps", _decimal, "no game ended"),
    ("env steps", "env_steps", _whole, UNKNOWN),
    ("wall time", "seconds", duration, UNKNOWN),
    ("env steps/s", "env_steps_per_second", _whole, UNKNOWN),
    ("updates", "updates", _whole, UNKNOWN),
    ("updates/s", "updates_per_second", _decimal, UNKNOWN),
    ("bytes up per env step", "bytes_up_per_env_step", _decimal, UNKNOWN),
    ("bytes/s up, all actors", "bytes_up_per_second", _whole, UNKNOWN),
    ("bytes down per version and actor", "bytes_down_per_version", _whole, UNKNOWN),
    ("bytes/s down, each actor", "bytes_down_per_second", _whole, UNKNOWN),
    ("bytes down per env step, all actors", "bytes_down_per_env_step", _decimal, UNKNOWN),
    ("policy lag, versions", "policy_lag_mean", _decimal, UNKNOWN),
    ("messages dropped", "messages_dropped", _whole, UNKNOWN),
    ("messages lost", "messages_lost", _whole, UNKNOWN),
    ("learner core time per env step", "learner_core_seconds", _milliseconds, UNKNOWN),
    ("actor core time per env step", "actor_core_seconds", _milliseconds, UNKNOWN),
    ("cores used", "cores_used", _decimal, UNKNOWN),
)


def figures_table(data: ModeFigures, gradients: ModeFigures) -> str:
    """Returns the figures of both modes side by side."""
    rows = [
        (
            title,
            spread_text(data.spreads[name], form, absent),
            spread_text(gradients.spreads[name], form, absent),
        )
        for title, name, form, absent in _LINES
    ]
    return _table(("", "data mode", "gradient mode"), rows)


def _shares_table(process: str, data: Shares | None, gradients: Shares | None) -> str:
    if not data and not gradients:
        return (
            f"Stage shares of the {process}: {UNKNOWN} (null in compare.json). They live on the"
            " processes' /metrics pages, which are read while `asyncade compare` trains."
        )
    stages = dict.fromkeys([*(data or {}), *(gradients or {})])

    def cell(shares: Shares | None, stage: str) -> str:
        return f"{shares.get(stage, 0.0):.1%}" if shares else UNKNOWN

    rows = [(stage, cell(data, stage), cell(gradients, stage)) for stage in stages]
    return _table((process, "data mode", "gradient mode"), rows)


def _forecast_parts(figures: Cluster | None) -> list[str]:
    if figures is None:
        return []
    links = list(LINKS)
    rows = [
        (
            str(one.actors),
            *(_whole(one.data[link]) for link in links),
            *(_whole(one.gradients[link]) for link in links),
        )
        for one in figures.forecasts
    ]
    header = (
        "actors",
        *(f"data, {link}" for link in links),
        *(f"gradients, {link}" for link in links),
    )
    return [
        "Env steps/s foretold, min(N / c_A, 1 / c_L, B / u, B / w), one learner core:",
        _table(header, rows),
        "Assumptions:",
        _bullets(ASSUMPTIONS),
        "c_L, c_A: core-seconds of learner and actor per env step; u, w: bytes up, and down to all"
        " actors, per env step; N actors; B bytes/s of the learner's network.",
    ]


def _runs_table(runs: Sequence[RunFigures]) -> str:
    def cell(value: Any, form: Callable[[float], str] = str) -> str:
        return "-" if value is None else form(value)

    rows = [
        (
            run.run,
            run.mode,
            cell(run.seed),
            run.ended_by,
            _whole(run.env_steps),
            duration(run.seconds),
            cell(run.seconds_to_target, duration) if run.seconds_to_target else "not reached",
            cell(run.mean_return_100, _decimal),
        )
        for run in runs
    ]
    header = (
        *("run", "mode", "seed", "ended by", "env steps", "wall time", "target after"),
        "mean return",
    )
    return _table(header, rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def draw_curves(
    runs: Sequence[tuple[RunFigures, Sequence[Mapping[str, Any]]]], title: str, path: Path
) -> None:
    """Draws mean return against env steps and against wall time, one line per run.

    Args:
        runs: figures and rows of each.
        title: above the picture.
        path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # a second to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    by_steps, by_time = figure.subplots(1, 2, sharey=True)
    named: set[str] = set()
    for run, rows in runs:
        points = [row for row in rows if row.get("mean_return_100") is not None]
        returns = [row["mean_return_100"] for row in points]
        label = None if run.mode in named else run.mode
        named.add(run.mode)
        colour = _COLOURS.get(run.mode)
        by_steps.plot([row["env_steps"] for row in points], returns, color=colour, label=label)
        by_time.plot([row["seconds"] / 60 for row in points], returns, color=colour, label=label)
    targets = {run.target for run, _ in runs if run.target is not None}
    for axes, label in ((by_steps, "env steps"), (by_time, "wall time [minutes]")):
        for target in targets:
            axes.axhline(target, color="grey", linestyle=":", linewidth=1)
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    by_steps.set_ylabel("mean return of the last 100 games")
    by_steps.legend()
    figure.savefig(path, dpi=110)
