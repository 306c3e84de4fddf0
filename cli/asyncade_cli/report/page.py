"""The page of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Final

from asyncade_cli.evaluate import protocol_of
from asyncade_cli.markdown import cell
from asyncade_cli.outcome import last_evaluation
from asyncade_cli.report import parts
from asyncade_cli.report.films import ShortFilm
from asyncade_cli.report.parts import text
from asyncade_cli.report.runs import ReportedRun

_POLICY: Final = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline';"
    " script-src 'unsafe-inline'"
)
"""Content Security Policy: the page loads nothing from elsewhere."""

_PLAY: Final = """
if (!matchMedia("(prefers-reduced-motion: reduce)").matches)
  for (const film of document.querySelectorAll("video")) film.play().catch(() => {});
"""

_FIGURES: Final = {
    "env_steps_to_target": "env steps to the target",
    "minutes_to_target": "minutes to the target",
    "env_steps": "env steps",
    "minutes": "minutes",
    "final_mean_return": "mean return of the last 100 games, as actors claim",
    "env_steps_per_second": "env steps per second",
    "bytes_per_env_step": "bytes received per env step",
    "policy_lag": "policy lag [updates]",
    "learner_waiting_share": "share of time the learner waits",
    "messages_dropped": "messages dropped",
    "messages_lost": "messages lost",
}
"""Names of `asyncade_cli.comparison.figures_of`, in words."""


def page(
    runs: Sequence[ReportedRun],
    films: Mapping[str, Sequence[ShortFilm]],
    *,
    title: str | None = None,
    notes: Sequence[str] = (),
    spreads: Mapping[str, Mapping[str, Mapping[str, float | None]]] | None = None,
) -> str:
    """Returns an HTML document that refers to nothing outside of itself.

    Args:
        runs: at least one.
        films: of runs, by their label.
        title: at the top; default: game and mode.
        notes: below the title, such as the command.
        spreads: by mode, of `asyncade_cli.comparison.spreads_of`.
    """
    title = title or _title(runs)
    colours, names = _colours(runs)
    body = [
        f"<h1>{text(title)}</h1>",
        *(f'<p class="dim">{text(note)}</p>' for note in notes),
        *(f"<p>{_outcome(run, named=len(runs) > 1)}</p>" for run in runs),
        _key_figures(runs[0]) if len(runs) == 1 else _side_by_side(runs, spreads),
        _films(runs, films),
        *_curves("Curves", parts.RETURNS, runs, colours, names),
        *_each("Evaluation", runs, _evaluation),
        *_each("What the learner did with its time", runs, parts.time_shares),
        *_each("What was lost", runs, _drops),
        *_curves("Losses", parts.LOSSES, runs, colours, names),
        *_each("Settings", runs, parts.settings),
        *_each("Machine and versions", runs, _machine),
    ]
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>\n{_style()}</style></head><body>\n"
        + "\n".join(body)
        + f"\n<footer>Made by asyncade {version('asyncade')}, {made}.</footer>"
        f"<script>{_PLAY}</script></body></html>\n"
    )


def _style() -> str:
    return files("asyncade_cli.report").joinpath("style.css").read_text(encoding="utf-8")


def _title(runs: Sequence[ReportedRun]) -> str:
    games = dict.fromkeys(_worded(run.game) for run in runs)
    modes = dict.fromkeys(run.mode for run in runs)
    return f"{', '.join(games)}: {' and '.join(modes)} mode{'s' * (len(modes) > 1)}"


def _colours(runs: Sequence[ReportedRun]) -> tuple[list[int], dict[str, int]]:
    """Returns each run's colour and the legend: by run, of many runs by mode."""
    modes = list(dict.fromkeys(run.mode for run in runs))
    if len(runs) > 2 and len(modes) > 1:
        return [modes.index(run.mode) for run in runs], {m: n for n, m in enumerate(modes)}
    return list(range(len(runs))), {run.label: number for number, run in enumerate(runs)}


def _section(title: str, content: str) -> list[str]:
    return [f"<section><h2>{text(title)}</h2>{content}</section>"] if content else []


def _curves(
    title: str,
    wanted: Sequence[parts.Chart],
    runs: Sequence[ReportedRun],
    colours: Sequence[int],
    names: Mapping[str, int],
) -> list[str]:
    """Returns a section with the charts of each game: returns of two games share no axis."""
    games = list(dict.fromkeys(run.game for run in runs))
    drawn = ""
    for game in games:
        ours = [
            (run, colour) for run, colour in zip(runs, colours, strict=True) if run.game == game
        ]
        charts = parts.charts(wanted, [run for run, _ in ours], [colour for _, colour in ours])
        if charts:
            drawn += (f"<h3>{text(_worded(game))}</h3>" if len(games) > 1 else "") + charts
    return _section(title, parts.legend(names) + drawn) if drawn else []


def _worded(game: str) -> str:
    return game.replace("_", " ").capitalize()


def _each(title: str, runs: Sequence[ReportedRun], part: Any) -> list[str]:
    """Returns a section with a part for each run that has one, under its name if there are more."""
    found = [(run, content) for run in runs if (content := part(run))]
    named = "".join(
        (f"<h3>{text(run.label)}</h3>" if len(runs) > 1 else "") + content for run, content in found
    )
    return _section(title, named)


def _outcome(run: ReportedRun, *, named: bool) -> str:
    """Returns how the run went, in a sentence."""
    summary, target = run.summary, run.figures.get("env_steps_to_target")
    minutes = run.figures.get("minutes_to_target")
    begin = f"<b>{text(run.label)}</b>: " if named else ""
    if not run.ended:
        state = (
            "It has not ended: it is going on, or was killed. Figures are those of its last row."
        )
    elif target is not None and minutes is not None:
        state = (
            f"It passed a mean return of {text(run.target)} after {target:,.0f} env steps,"
            f" {minutes:.1f} minutes."
        )
    else:
        aim = "" if run.target is None else f" without a mean return above {text(run.target)}"
        state = f"It ended{aim}: {_cause(summary.get('ended_by'))}."
    return begin + state


def _cause(ended_by: object) -> str:
    known = {
        "max_minutes": "its time was up",
        "max_env_steps": "its env steps were used up",
        "signal": "it was stopped",
        "target": "the target was reached",
        "actors_failed": "its actors failed",
        "diverged": "the model diverged again and again",
    }
    return known.get(str(ended_by), escape(str(ended_by)))


def _key_figures(run: ReportedRun) -> str:
    figures, facts = run.figures, {}
    if (mean := figures.get("final_mean_return")) is not None:
        facts["mean return of the last 100 games, as actors claim"] = f"{mean:.1f}"
        facts["confirmed by an evaluation"] = "not yet: asyncade eval"
    if (row := last_evaluation(run.evaluations)) is not None:
        facts.pop("confirmed by an evaluation", None)
        facts[f"confirmed by an evaluation of {row['episodes']} games"] = _with_deviation(row)
    if (env_steps := figures.get("env_steps")) is not None:
        facts["env steps"] = f"{env_steps:,.0f}"
    if minutes := figures.get("minutes"):
        facts["minutes"] = f"{minutes:.1f}"
    if speed := figures.get("env_steps_per_second"):
        facts["env steps per second"] = f"{speed:,.0f}"
    if (actors := run.summary.get("actors")) is not None:
        facts["actors"] = f"{actors}"
    return parts.tiles(facts) if facts else ""


def _side_by_side(
    runs: Sequence[ReportedRun],
    spreads: Mapping[str, Mapping[str, Mapping[str, float | None]]] | None,
) -> str:
    """Returns a table of all runs' figures, and one of the modes' medians."""
    shown = ""
    if spreads:
        rows = [
            [words, *(_spread(name, spread[name]) for spread in spreads.values())]
            for name, words in _FIGURES.items()
        ]
        heading = "<h2>Median of the seeds, lowest to highest</h2>"
        shown = heading + parts.table(["", *spreads], rows)
        if len(runs) == len(spreads):  # one of each mode: the other table would be the same
            return shown
    every = [[words, *(run.figures.get(name) for run in runs)] for name, words in _FIGURES.items()]
    if len({run.game for run in runs}) > 1:
        every.insert(0, ["game", *(_worded(run.game) for run in runs)])
    return f"{shown}<h2>Every run</h2>{parts.table(['', *(run.label for run in runs)], every)}"


def _spread(name: str, spread: Mapping[str, float | None]) -> str:
    absent = "not reached" if name.endswith("_to_target") else "-"
    median, low, high = (absent if v is None else cell(v) for v in spread.values())
    return median if low == high else f"{median} [{low} to {high}]"


def _films(runs: Sequence[ReportedRun], films: Mapping[str, Sequence[ShortFilm]]) -> str:
    content = "".join(
        (f"<h3>{text(run.label)}</h3>" if len(runs) > 1 else "") + parts.films(films[run.label])
        for run in runs
        if films.get(run.label)
    )
    return "".join(_section("The agent, as it learned", content))


def _evaluation(run: ReportedRun) -> str:
    rows = [row for row in run.evaluations if row.get("episodes")]
    if not rows:
        return ""
    header = ["after env steps", "actions", "games", "mean ± deviation", "95% interval of the mean"]
    cells = []
    for row in rows:
        figures = [row[name] for name in ("median", "min", "max")]
        played = [row["env_steps"], row["policy"], row["episodes"]]
        cells.append([*played, _with_deviation(row), _ends(row.get("interval_95")), *figures])
    header += ["median", "lowest", "highest"]
    rules, *rest = protocol_of(rows[-1])
    protocol = "; ".join([rules.removeprefix("protocol: "), *rest])
    return parts.table(header, cells) + (
        f'<p class="dim">How the last evaluation was played: {text(protocol)}.</p>'
    )


def _with_deviation(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:.1f} ± {row['standard_deviation']:.1f}"


def _ends(interval: Sequence[float] | None) -> str | None:
    return f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else None


def _drops(run: ReportedRun) -> str:
    if not run.rows:
        return ""
    dropped, lost = run.figures["messages_dropped"], run.figures["messages_lost"]
    skipped = run.rows[-1].get("updates_skipped")
    if not dropped and not lost and not skipped:
        return "<p>Nothing: every message arrived and was used.</p>"
    rows = [
        ["messages dropped: too old, foreign or damaged", dropped],
        ["messages lost on the way", lost],
        ["updates skipped, for gradients not finite or absurdly large", skipped],
    ]
    return parts.table([], rows)


def _machine(run: ReportedRun) -> str:
    learner, summary = run.config.get("learner", {}), run.summary
    versions = summary.get("versions") or {}
    facts = {
        "processor": summary.get("processor"),
        "cores": summary.get("cores") or learner.get("cores"),
        "torch threads of the learner": summary.get("torch_threads"),
        "actors": summary.get("actors"),
        "games per actor": summary.get("envs_per_actor"),
        "commit": summary.get("commit") or learner.get("commit"),
        **versions,
        "run folder": str(run.root),
    }
    return parts.table([], [[name, str(fact)] for name, fact in facts.items() if fact is not None])
