"""Result files: JSON in results/MACHINE/, each with the command, commit and machine behind it."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from asyncade_cli.outcome import processor
from asyncade_runtime.cores import available_cores
from asyncade_runtime.files import read_json, write_json
from asyncade_runtime.run_folder import source_commit

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "bench/results"


def options(
    module: str, description: str | None, seconds: float | None = None, *, one_run: bool = True
) -> argparse.ArgumentParser:
    """Returns a parser with the options that benchmarks have in common.

    Args:
        module: module of the benchmark.
        description: its docstring.
        seconds: default of ``--seconds``; None for a benchmark without it.
        one_run: add ``--seed`` and ``--game``.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m bench.{module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if one_run:
        parser.add_argument("--seed", type=int, default=1, help="seed of games and weights")
        parser.add_argument("--game", default="pong", help="ALE game id")
    if seconds is not None:
        parser.add_argument("--seconds", type=float, default=seconds, help="per measurement")
    parser.add_argument("--machine", default=machine(), help="folder of results/ to write to")
    return parser


def about(module: str, *, seed: int, torch_threads: int) -> dict[str, Any]:
    """Returns the metadata stored with every result."""
    return {
        "command": shlex.join(["python", "-m", f"bench.{module}", *sys.argv[1:]]),
        "commit": measured_commit(),
        "cores": available_cores(),
        "processor": processor(),
        "torch_threads": torch_threads,
        "seed": seed,
    }


def measured_commit() -> str:
    """Returns the commit of this checkout, with ``+`` if code has changed since.

    Results and documents do not count as changes, so that a benchmark of several runs keeps its
    commit while it writes results.
    """
    commit = source_commit().removesuffix("+")
    spared = [":(exclude)bench/results", ":(exclude,glob)**/*.md"]
    git = ["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no", "--", "."]
    try:
        done = subprocess.run([*git, *spared], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return commit
    return commit + ("+" if done.stdout else "")


def machine() -> str:
    """Returns the default folder of this machine's results, such as ``amd-epyc``."""
    name = re.sub(r"\(.*?\)|processor|cpu|@.*", "", processor().lower())
    return "-".join(re.findall(r"[a-z0-9]+", name))


def record(
    module: str,
    name: str,
    asked: argparse.Namespace,
    content: Mapping[str, Any],
    table: Callable[[Mapping[str, Any]], str],
    torch_threads: int = 1,
) -> None:
    """Writes a result with its metadata, and prints its table."""
    result = about(module, seed=asked.seed, torch_threads=torch_threads)
    result |= {"game": asked.game, **content}
    write_result(name, asked.machine, result)
    print(table(result), flush=True)


def write_result(name: str, machine: str, result: Mapping[str, Any]) -> None:
    """Writes results/MACHINE/NAME.json in one step: an interruption leaves the previous file."""
    folder = RESULTS / machine
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", result)


def read_result(name: str, machine: str) -> dict[str, Any] | None:
    """Returns the content of results/MACHINE/NAME.json, None if there is no such file."""
    return read_json(RESULTS / machine / f"{name}.json")
