"""Writes the table of results into the README and bench/results/README.md.

`python bench/results/table.py` writes it; with `--check` it exits with 1 if it is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILES = [HERE / "README.md", HERE.parents[1] / "README.md"]
MARKED = re.compile(r"(<!-- results -->\n).*?(<!-- end -->)", re.DOTALL)
HEAD = (
    "| run | command | commit | cores | env steps | wall time | mean of the last 100 training games"
    " | 100 evaluation games: mean / median / deviation | bytes per env step |"
)


def row(folder: Path) -> str:
    """Returns one run as a line of the table."""
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    evaluation: dict[str, Any] = json.loads((folder / "eval.json").read_text())
    minutes, seconds = divmod(round(summary["seconds"]), 60)
    command = (folder / "command.txt").read_text().strip()
    cells = [
        folder.name,
        command,
        summary["commit"],
        summary["cores"],
        f"{summary['env_steps']:,}",
        f"{minutes} min {seconds} s",
        f"{summary['mean_return_100']:.2f}",
        f"{evaluation['mean']:.2f} / {evaluation['median']:g} / "
        f"{evaluation['standard_deviation']:.2f}",
        f"{summary['bytes_per_env_step']:,.1f}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def table() -> str:
    """Returns the whole table."""
    folders = sorted(path.parent for path in HERE.glob("*/summary.json"))
    lines = [HEAD, "|" + "---|" * (HEAD.count("|") - 1), *map(row, folders)]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Writes or checks; returns the exit code."""
    stale = False
    for path in FILES:
        text = path.read_text()
        new = MARKED.sub(lambda found: found[1] + table() + found[2], text)
        if new == text:
            continue
        stale = True
        if "--check" in sys.argv[1:]:
            print(f"{path} is out of date: run python bench/results/table.py", file=sys.stderr)
        else:
            path.write_text(new)
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
