"""Parts of a page: tiles, tables, charts, films, shares of time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final, NamedTuple

from asyncade_cli.markdown import cell
from asyncade_cli.report.charts import Line, line_chart
from asyncade_cli.report.films import ShortFilm
from asyncade_cli.report.runs import ReportedRun
from asyncade_runtime.bottleneck import bottleneck

_STAGES: Final = {
    "wait": "waiting for messages",
    "decode": "decoding",
    "prepare": "preparing batches",
    "forward_backward": "forward and backward passes",
    "optimise": "optimiser",
    "publish": "publishing weights",
    "checkpoint": "checkpoints",
    "report": "reports",
}
"""Stage of the learner to what it does. The style sheet has a colour for each."""

_SMALLEST: Final = 0.005
"""Share of the time from which on a stage is shown by itself, not among the others."""


_MINUS: Final = re.compile(r"(?<![\w.-])-(?=\d)")
"""The hyphen of a negative number."""


class Chart(NamedTuple):
    """A chart of all runs.

    Attributes:
        title: above it.
        column: of metrics.jsonl, on the vertical axis.
        x: column on the horizontal axis.
        hint: below the title.
    """

    title: str
    column: str
    x: str = "env_steps"
    hint: str = ""


RETURNS: Final = (
    Chart("Mean return of the last 100 games", "mean_return_100"),
    Chart("Mean return, against time", "mean_return_100", "seconds"),
    Chart("Share of points (\N{MINUS SIGN}1: all lost, 1: all won)", "point_share"),
    Chart("Env steps per second", "env_steps_per_second", "seconds"),
    Chart("Policy lag [updates]", "policy_lag_mean"),
    Chart("Actors", "active_actors", "seconds"),
)
LOSSES: Final = (
    Chart("Policy loss", "loss_policy"),
    Chart("Value loss", "loss_value"),
    Chart("Entropy of the policy", "loss_entropy"),
    Chart("KL divergence from the acting policy", "loss_kl"),
    Chart(
        "Share of samples clipped",
        "loss_clip_fraction",
        hint="whose action has become more or less probable than the clipping range admits",
    ),
    Chart("Total loss", "loss_total"),
)


def text(value: object) -> str:
    """Returns a value as a report shows it, safe in HTML."""
    if value is None:
        return "\N{EN DASH}"
    shown = value if isinstance(value, str) else cell(value)
    return escape(_MINUS.sub("\N{MINUS SIGN}", shown))


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table; numbers, and the headings above them, are on the right."""
    body = [list(row) for row in rows]

    def line(values: Sequence[object], tag: str) -> str:
        cells = []
        for column, value in enumerate(values):
            number = any(isinstance(row[column], int | float) for row in body)
            side = ' class="number"' if number else ""
            shown = value if isinstance(value, Html) else text(value)
            cells.append(f"<{tag}{side}>{shown}</{tag}>")
        return f"<tr>{''.join(cells)}</tr>"

    head = f"<thead>{line(header, 'th')}</thead>" if header else ""
    lines = "".join(line(row, "td") for row in body)
    return f'<div class="scroll"><table>{head}<tbody>{lines}</tbody></table></div>'


class Html(str):
    """Text that is HTML already."""


def tiles(facts: Mapping[str, str]) -> str:
    """Returns figures in large type; `facts` are what they are, and their text."""
    return '<div class="tiles">{}</div>'.format(
        "".join(
            f'<div class="tile"><b>{text(shown)}</b><span>{text(name)}</span></div>'
            for name, shown in facts.items()
        )
    )


def legend(names: Mapping[str, int]) -> str:
    """Returns names with their colours; nothing for a single one."""
    if len(names) < 2:
        return ""
    entries = (
        f'<li><span class="key c{colour % 6}"></span>{text(name)}</li>'
        for name, colour in names.items()
    )
    return f'<ul class="legend">{"".join(entries)}</ul>'


def charts(wanted: Sequence[Chart], runs: Sequence[ReportedRun], colours: Sequence[int]) -> str:
    """Returns those charts for which a run has figures."""
    drawn = []
    for chart in wanted:
        minutes = chart.x == "seconds"
        lines = [
            Line(run.label, colour, run.points(chart.column, chart.x, 60 if minutes else 1))
            for run, colour in zip(runs, colours, strict=True)
        ]
        targets = {run.target for run in runs if chart.column == "mean_return_100"}
        target = targets.pop() if len(targets) == 1 else None
        if svg := line_chart(lines, "minutes" if minutes else "env steps", target):
            hint = f'<p class="dim">{text(chart.hint)}</p>' if chart.hint else ""
            title = f"<h3>{text(chart.title)}</h3>{hint}"
            drawn.append(f'<figure class="chart">{title}{svg}</figure>')
    return f'<div class="charts">{"".join(drawn)}</div>' if drawn else ""


def films(shown: Sequence[ShortFilm]) -> str:
    """Returns films side by side."""
    figures = []
    for film in shown:
        known = "" if film.mean_return is None else text(f", mean return {film.mean_return:.1f}")
        figures.append(
            f'<figure><video src="{film.mp4}" muted loop playsinline controls'
            f' aria-label="the agent, {film.name}"></video><figcaption><b>{film.name}</b>:'
            f" after {film.env_steps:,} env steps{known}</figcaption></figure>"
        )
    return f'<div class="films">{"".join(figures)}</div>'


def time_shares(run: ReportedRun) -> str:
    """Returns how the learner spent its time, and what limits the run in words."""
    shares = (run.rows[-1].get("stage_shares") or {}) if run.rows else {}
    limit = bottleneck(shares, one_machine="train" in run.config)
    if limit is None:
        return '<p class="dim">Nothing was measured.</p>'
    slices = [
        (stage, words, shares[stage])
        for stage, words in _STAGES.items()
        if shares.get(stage, 0.0) >= _SMALLEST
    ]
    rest = 1 - sum(share for *_, share in slices)
    if rest >= 0.0005:
        slices.append(("other", "other", rest))
    bar = "".join(
        f'<div class="{kind}" style="width:{share:.2%}" title="{words}: {share:.1%}"></div>'
        for kind, words, share in slices
    )
    keys = "".join(
        f'<li><span class="key {kind}"></span>{words} {share:.1%}</li>'
        for kind, words, share in slices
    )
    found = "".join(
        f"{part[0].upper()}{part[1:]}. " for part in (limit.sentence, limit.cure)
    ).rstrip()
    return (
        f"<p>{text(found)}</p>"
        f'<div class="bar" role="img" aria-label="shares of the learner\'s time">{bar}</div>'
        f'<ul class="legend">{keys}</ul>'
    )


def settings(run: ReportedRun) -> str:
    """Returns the settings that differ from their defaults, and all of them folded."""
    known = run.settings()
    if not known:
        return '<p class="dim">The folder has no config.json.</p>'
    changed = [(_code(name), value, default) for name, value, default, differs in known if differs]
    differing = (
        table(["setting", "value", "default"], _as_text(changed))
        if changed
        else "<p>All that matters for learning is at its default.</p>"
    )
    everything = table([], _as_text([(_code(name), value) for name, value, *_ in known]))
    return f"{differing}<details><summary>all {len(known)} settings</summary>{everything}</details>"


def _as_text(rows: Iterable[Sequence[Any]]) -> list[list[object]]:
    """Settings are shown as they are typed: a learning rate of 1e-05 is not rounded."""
    return [
        [one if isinstance(one, Html) or one is None else str(one) for one in row] for row in rows
    ]


def _code(name: str) -> Html:
    return Html(f"<code>{escape(name)}</code>")
