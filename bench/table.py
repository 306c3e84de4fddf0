"""Writes all tables of measurements, and learning.png, from the files in results/MACHINE/.

python -m bench.table

README.md gets one table, the time to the target on the machine `HEADLINE`; bench/results/README.md
gets all tables, one section per machine. Both keep them between a line `<!-- results -->` and a
line `<!-- end -->`. No test or check reads them.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from asyncade_cli.markdown import table as markdown
from asyncade_cli.plot import draw_curves
from asyncade_rl.choices import MODES
from bench import (
    containers,
    encryption,
    fanout,
    games,
    intake,
    live_page,
    neighbours,
    pipeline,
    relay,
    robust_mean,
    time_to_target,
    unit_costs,
    wire,
)
from bench.result_files import RESULTS, ROOT, read_result
from bench.rivals import run as rivals

HEADLINE: Final = "intel-xeon-fast"
"""Machine of the table in README.md and of learning.png."""

MARKED: Final = re.compile(r"(?<=<!-- results -->\n).*?(?=<!-- end -->)", re.DOTALL)


def origin(result: Mapping[str, Any]) -> str:
    """Returns a line with the command, commit and machine of a result."""
    return (
        f"`{result['command']}` at {result['commit']}, {result['cores']} cores "
        f"({result['processor']}), torch threads {result['torch_threads']}.\n"
    )


def targets(machine: str) -> list[dict[str, Any]]:
    """Returns the time-to-target results of a machine that have runs."""
    found = [read_result(f"time-to-target-{mode}", machine) for mode in MODES]
    return [result for result in found if result and result["runs"]]


def targets_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Returns one row per result."""
    return markdown(time_to_target.HEADER, [time_to_target.summary(one) for one in results])


def headline() -> str:
    """Returns the table of README.md, with commands and machine in lines of its width."""
    results = targets(HEADLINE)
    commands = ", ".join(f"`{one['command']}` at {one['commit']}" for one in results)
    text = f"{commands}: {results[0]['cores']} cores, {results[0]['processor']}."
    return f"{targets_table(results)}\n{textwrap.fill(text, 138, break_on_hyphens=False)}\n"


SECTIONS: Final[dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]]] = {
    "Pipeline efficiency": ("pipeline", pipeline.table),
    "Unit costs and ceiling": ("unit-costs", unit_costs.table),
    "Wire": ("wire", wire.table),
    "Intake": ("intake", intake.table),
    "Encryption": ("encryption", encryption.table),
    "Live page": ("live-page", live_page.table),
    "Robust mean": ("robust-mean", robust_mean.table),
    "Fan-out": ("fanout", fanout.table),
    "Relays": ("relay", relay.table),
    "Neighbours": ("neighbours", neighbours.table),
    "Containers": ("containers", containers.table),
    "Other games": ("games", games.table),
    "Other implementations": ("rivals", rivals.table),
}


def sections(machine: str) -> str:
    """Returns the tables of one machine under a heading; empty without results."""
    found: dict[str, str] = {}
    if results := targets(machine):
        found["Time to the target"] = "\n".join([targets_table(results), *map(origin, results)])
    for title, (name, table) in SECTIONS.items():
        if (result := read_result(name, machine)) is not None:
            found[title] = f"{table(result)}\n{origin(result)}"
    shown = [f"### {title}\n\n{text}" for title, text in found.items()]
    return "\n".join([f"## {machine}\n", *shown]) if shown else ""


def main() -> int:
    """Writes both documents and the picture; returns the exit code."""
    machines = sorted(path.name for path in RESULTS.iterdir() if path.is_dir())
    tables = {
        ROOT / "README.md": headline(),
        RESULTS / "README.md": "\n".join(filter(None, map(sections, machines))),
    }
    for path, text in tables.items():
        before, after = MARKED.split(path.read_text(encoding="utf-8"))
        path.write_text(f"{before}{text}{after}", encoding="utf-8")
    runs = {
        one["settings"]["mode"]: [run["rows"] for run in one["runs"]] for one in targets(HEADLINE)
    }
    draw_curves(runs, "Pong, two CPU cores, one line per seed", RESULTS / "learning.png", 18.0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
