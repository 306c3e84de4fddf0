"""What every benchmark leaves behind: a JSON file that says how it came about, and a table."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

from asyncade_learner.settings import Mode
from asyncade_runtime.cores import available_cores
from asyncade_runtime.run_folder import source_commit, write_atomically

MODES: Final[tuple[Mode, ...]] = get_args(Mode)

RESULTS: Final = Path(__file__).parent / "results"


def command_line(module: str, argv: Sequence[str] | None = None) -> str:
    """Returns the command that repeats a measurement."""
    arguments = sys.argv[1:] if argv is None else argv
    return shlex.join(["python", "-m", f"bench.{module}", *arguments])


def about(command: str, *, seed: int, torch_threads: int) -> dict[str, Any]:
    """Returns what a figure is worth nothing without."""
    return {
        "command": command,
        "commit": measured_commit(),
        "cores": available_cores(),
        "processor": processor(),
        "torch_threads": torch_threads,
        "seed": seed,
    }


def measured_commit(root: Path = RESULTS.parents[1]) -> str:
    """Returns the commit of this checkout, with ``+`` if the code was changed since.

    Unlike `source_commit` it does not mind new results and documents: a campaign writes its own
    results, and goes on as the same commit.
    """
    commit = source_commit().removesuffix("+")
    spared = [":(exclude)bench/results", ":(exclude,glob)**/*.md"]
    git = ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no", "--", "."]
    try:
        done = subprocess.run([*git, *spared], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return commit
    return commit + ("+" if done.stdout else "")


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Returns the processor's name; ``unknown`` where Linux does not tell."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown")


def write_result(name: str, result: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Writes NAME.json, whole or not at all: an interrupted benchmark leaves the last one."""
    path = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(dict(result), indent=2) + "\n").encode())
    return path


def read_result(name: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """Returns NAME.json, if there is one."""
    try:
        found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns a table; None is shown as a dash, a float to three figures."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_shown(cell) for cell in line)} |\n" for line in lines)


def _shown(cell: object) -> str:
    match cell:
        case None:
            return "-"
        case bool():
            return "yes" if cell else "no"
        case int():
            return f"{cell:,}"
        case float():
            return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
        case _:
            return str(cell).replace("|", "\\|").replace("\n", " ")
