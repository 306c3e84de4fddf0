"""Writes the tables of results into the README and bench/results/README.md, from the JSON files.

And the unit costs into the package, where `asyncade plan` finds them.

`python -m bench.table` writes them; with `--check` it exits with 1 if they are out of date.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from asyncade_cli.plan_costs import SHIPPED
from bench import encryption, games, intake, pipeline, relay, scaling, time_to_target
from bench.report import MODES, RESULTS, markdown_table, read_result

FILES = [RESULTS / "README.md", RESULTS.parents[1] / "README.md"]
QUOTED = "quoted, on its author's machine"
MARKED = re.compile(r"(<!-- results -->\n).*?(<!-- end -->)", re.DOTALL)


def origin(result: Mapping[str, Any]) -> str:
    """Returns where figures come from, as a line below their table."""
    seeds = result.get("seeds", [result["seed"]])
    processor = f" ({result['processor']})" if result.get("processor") else ""
    return (
        f"\n`{result['command']}` at {result['commit']}, {result['cores']} cores{processor}, torch "
        f"threads {result['torch_threads']}, seed {', '.join(map(str, seeds))}.\n"
    )


def targets(folder: Path) -> str:
    """Returns time to target, a line per mode; single runs while there is no campaign."""
    found = {mode: read_result(f"time-to-target-{mode}", folder) for mode in MODES}
    head = [
        "mode",
        "seeds that reached it",
        "median env steps",
        "median minutes",
        "slowest minutes",
        "median minutes with the cooldown",
        "env steps/s",
        "evaluation, actions drawn: worst, median, best seed",
        "likeliest actions: worst, median, best seed",
    ]
    rows: list[list[object]] = []
    origins = ""
    for mode, result in found.items():
        if not result or not result["runs"]:
            continue
        runs = result["runs"]
        middle = time_to_target.medians(runs)
        rates = [r["env_steps"] / r["seconds"] for r in runs]
        rows.append(
            [
                mode,
                f"{sum(r['reached'] for r in runs)} of {len(runs)}",
                middle["env_steps"] and round(middle["env_steps"]),
                middle["seconds"] and f"{middle['seconds'] / 60:.1f}",
                f"{max(r['seconds'] for r in runs) / 60:.1f}",
                _median_of_whole_runs(runs),
                round(sum(rates) / len(rates)),
                _spread(runs, "evaluation"),
                _spread(runs, "evaluation_greedy"),
            ]
        )
        origins += origin(result)
    return markdown_table(head, rows) + origins if rows else single_runs(folder)


def _spread(runs: Sequence[Mapping[str, Any]], name: str) -> str | None:
    means = [run[name]["mean"] for run in runs if run.get(name)]
    if not means:
        return None
    return f"{min(means):.2f}, {statistics.median(means):.2f}, {max(means):.2f}"


def _median_of_whole_runs(runs: Sequence[Mapping[str, Any]]) -> str | None:
    """Returns minutes to the end of the cooldown; None of runs that had none."""
    seconds = [run.get("trained_seconds", run["seconds"]) for run in runs]
    if seconds == [run["seconds"] for run in runs]:
        return None
    return f"{statistics.median(seconds) / 60:.1f}"


def single_runs(folder: Path) -> str:
    """Returns the runs that were kept as folders, a line each."""
    head = [
        "run",
        "command",
        "commit",
        "cores",
        "env steps",
        "wall time",
        "mean of the last 100 training games",
        "100 evaluation games: mean / median / deviation",
        "bytes per env step",
    ]
    rows = [_single_run(path.parent) for path in sorted(folder.glob("*/summary.json"))]
    return markdown_table(head, rows) if rows else ""


def _single_run(folder: Path) -> list[object]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    evaluation: dict[str, Any] = json.loads((folder / "eval.json").read_text())
    minutes, seconds = divmod(round(summary["seconds"]), 60)
    spread = f"{evaluation['median']:g} / {evaluation['standard_deviation']:.2f}"
    return [
        folder.name,
        (folder / "command.txt").read_text().strip(),
        summary["commit"],
        summary["cores"],
        f"{summary['env_steps']:,}",
        f"{minutes} min {seconds} s",
        f"{summary['mean_return_100']:.2f}",
        f"{evaluation['mean']:.2f} / {spread}",
        f"{summary['bytes_per_env_step']:,.1f}",
    ]


def pipelines(folder: Path) -> str:
    """Returns rate, ceiling and efficiency of both modes."""
    result = read_result("pipeline", folder)
    return pipeline.table(result) + origin(result) if result else ""


def wires(folder: Path) -> str:
    """Returns bytes and speeds of the wire, without the parts of a message."""
    result = read_result("wire", folder)
    if not result:
        return ""
    modes = result["modes"]
    rows: list[list[object]] = [
        [
            mode,
            f"{found['bytes_per_env_step']:,.1f}",
            (found.get("run") or {}).get("bytes_per_env_step"),
            found["encode_env_steps_per_second"],
            found["decode_env_steps_per_second"],
            found["weights_bytes"],
        ]
        for mode, found in modes.items()
    ]
    head = [
        "mode",
        "bytes per env step, random play",
        "of a training run",
        "encode, env steps/s per core",
        "decode, env steps/s per core",
        "weights message, bytes",
    ]
    return markdown_table(head, rows) + origin(result)


def intakes(folder: Path) -> str:
    """Returns what a learner takes in."""
    result = read_result("intake", folder)
    return intake.table(result) + origin(result) if result else ""


def other_games(folder: Path) -> str:
    """Returns other games against random play."""
    result = read_result("games", folder)
    return games.table(result) + origin(result) if result and result["runs"] else ""


def rivals(folder: Path) -> str:
    """Returns the rivals, and how much longer each takes than data mode on the same machine.

    `ours` in rivals.json names data mode's file, where it is not the one of the first table.
    """
    result = read_result("rivals", folder)
    if not result:
        return ""
    ours = read_result(result.get("ours", "time-to-target-data"), folder)
    seconds = time_to_target.medians(ours["runs"])["seconds"] if ours and ours["runs"] else None
    rows: list[list[object]] = []
    for rival in result["rivals"]:
        taken, how = rival_seconds(rival)
        rows.append(
            [
                rival["name"],
                rival.get("env_steps_per_second"),
                rival.get("seconds") and f"{rival['seconds'] / 60:.1f}",
                rival.get("mean_return"),
                None if taken is None else f"{taken / 60:,.0f} ({how})",
                f"{taken / seconds:.0f}" if taken and seconds and how != QUOTED else None,
            ]
        )
    head = [
        "rival",
        "env steps/s",
        "minutes trained",
        "mean return then",
        "minutes to the target",
        "times as long as data mode",
    ]
    text = markdown_table(head, rows) + "\n`make bench-rivals`; bench/rivals/README.md says how.\n"
    return text + (f"\nData mode on that machine: {seconds / 60:.1f} minutes.\n" if seconds else "")


def rival_seconds(rival: Mapping[str, Any]) -> tuple[float | None, str]:
    """Returns seconds to the target, and whether they were measured or are projected.

    Projected: the published env steps to the target by the rate measured here. What was not run
    here is quoted: its own time on its own machine.
    """
    reached = rival.get("reached_target")
    if reached:
        return float(reached["seconds"]), "measured"
    rate = rival.get("env_steps_per_second")
    published = rival.get("published_env_steps_to_target") or {}
    if rate and published.get("env_steps"):
        return published["env_steps"] / rate, "projected"
    if not rate and published.get("minutes"):
        return 60 * published["minutes"], QUOTED
    return None, "unknown"


def encryptions(folder: Path) -> str:
    """Returns what CURVE costs."""
    result = read_result("encryption", folder)
    return "" if result is None else encryption.table(result) + origin(result)


def relays(folder: Path) -> str:
    """Returns what relays do to the learner's bytes and to latency."""
    result = read_result("relay", folder)
    return "" if result is None else relay.table(result) + origin(result)


def scalings(folder: Path, show: Callable[[Mapping[str, Any]], str] = scaling.in_short) -> str:
    """Returns how far the model of `asyncade plan` is off, in short or as `show` has it."""
    result = read_result("scaling", folder)
    if result is None:
        return ""
    parts = [f"{part}: `{made}`" for part, made in result.get("origins", {}).items()]
    text = show(result) + origin(result)
    return text + (f"\nMeasured in parts: {'; '.join(parts)}.\n" if parts else "")


SECTIONS = {
    "Time to the target": targets,
    "Pipeline efficiency": pipelines,
    "The wire": wires,
    "Intake": intakes,
    "Encryption": encryptions,
    "Scaling": scalings,
    "Other games": other_games,
    "Rivals on the same machine": rivals,
}


def tables(folder: Path = RESULTS) -> str:
    """Returns everything between the markers; titles only where there is more than one section."""
    found = {title: text for title, make in SECTIONS.items() if (text := make(folder))}
    if len(found) == 1:
        return next(iter(found.values()))
    return "\n".join(f"**{title}**\n\n{text}" for title, text in found.items())


def main(argv: list[str] | None = None) -> int:
    """Writes or checks; returns the exit code."""
    check = "--check" in (sys.argv[1:] if argv is None else argv)
    stale = False
    written = {path: path.read_text(encoding="utf-8") for path in FILES}
    wanted = {
        path: MARKED.sub(lambda found: found[1] + tables() + found[2], text)
        for path, text in written.items()
    }
    wanted[SHIPPED] = (RESULTS / "unit-costs.json").read_text(encoding="utf-8")
    for path, new in wanted.items():
        if path.is_file() and new == path.read_text(encoding="utf-8"):
            continue
        stale = True
        if check:
            print(f"{path} is out of date: run python -m bench.table", file=sys.stderr)
        else:
            path.write_text(new, encoding="utf-8")
            print(f"wrote {path}")
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
