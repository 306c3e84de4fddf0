"""Runs rivals on Pong, one after the other, each alone, in a virtual environment of its own.

    python bench/rivals/run.py --minutes 5
    python bench/rivals/run.py --minutes 5 --only sb3-a2c,rl-games-ppo
    python bench/rivals/run.py --table

Needs Python 3.11 and nothing else; see README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from catalogue import RIVALS, Rival

from report import ReportError, Row, parse_last_line, table

HERE = Path(__file__).resolve().parent
VENVS = HERE / ".venvs"
RUNS = HERE / ".runs"
RESULTS = HERE.parent / "results" / "rivals.json"
TORCH = ("torch==2.13.0+cpu", "torch==2.13.0")  # the second where pip finds no CPU wheel
PYTHON = (3, 11)  # for which all of them have wheels
START_UP_SECONDS = 600.0  # to start, to finish the iteration the cap falls in, and to stop


class RunError(Exception):
    """A rival cannot be set up or run; the message says what to do."""


def available_cores(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Returns how many cores this process may keep busy."""
    cores: float = len(os.sched_getaffinity(0))
    try:
        quota, period = quota_file.read_text().split()
    except OSError:
        quota, period = "max", "1"
    if quota != "max":
        cores = min(cores, int(quota) / int(period))
    return max(1, math.floor(cores))


def commit() -> str:
    """Returns the commit that is checked out."""
    asked = ["git", "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(asked, cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def interpreter() -> str:
    """Returns a Python 3.11.

    Raises:
        RunError: there is none.
    """
    if sys.version_info[:2] == PYTHON:
        return sys.executable
    name = ".".join(map(str, PYTHON))
    if found := shutil.which(f"python{name}"):
        return found
    raise RunError(f"the rivals' wheels need Python {name}: install it, or run this file with it")


def pip(python: Path, *arguments: str) -> None:
    """Installs into a rival's environment.

    Raises:
        RunError: pip failed.
    """
    command = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"pip install {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")


def set_up(venv: str) -> Path:
    """Makes a rival's environment unless it is there; returns its Python."""
    folder = VENVS / venv
    python = folder / "bin" / "python"
    requirements = HERE / f"requirements-{venv}.txt"
    wanted = hashlib.sha256(f"{TORCH}{requirements.read_text()}".encode()).hexdigest()
    complete = folder / ".complete"
    if complete.exists() and complete.read_text() == wanted:
        return python
    print(f"setting up {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([interpreter(), "-m", "venv", str(folder)], check=True)
    try:
        pip(python, TORCH[0])
    except RunError:
        pip(python, TORCH[1])
    # torch once more: the requirements must not move it.
    pip(python, TORCH[1], "--requirement", str(requirements))
    complete.write_text(wanted)
    return python


def measure(rival: Rival, python: Path, asked: argparse.Namespace) -> Row:
    """Runs one rival; returns its row.

    Raises:
        RunError: it failed or did not stop.
        ReportError: it printed no measurement.
    """
    scratch = RUNS / rival.name
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    cores = available_cores()
    options = {
        "--minutes": asked.minutes,
        "--target": asked.target,
        "--seed": asked.seed,
        "--threads": cores,
        "--scratch": scratch,
    }
    command = [str(python), str(HERE / rival.driver), *rival.arguments]
    for name, value in options.items():
        command += [name, str(value)]
    seconds, output = run(command, scratch, rival.omp_threads or cores, asked.minutes * 60)
    measured = parse_last_line(output)
    shown = [part.replace(f"{HERE}/", "bench/rivals/") for part in command]
    return {
        "name": rival.name,
        **measured,
        "env_steps_per_second": round(measured["env_steps"] / measured["seconds"], 1),
        "total_seconds": round(seconds, 1),
        "cap_minutes": asked.minutes,
        "target": asked.target,
        "seed": asked.seed,
        "cores": cores,
        "omp_threads": rival.omp_threads or cores,
        "command": " ".join(shown),
        "commit": commit(),
    }


def run(command: list[str], scratch: Path, omp_threads: int, cap: float) -> tuple[float, str]:
    """Runs a driver to its end; returns seconds, start-up included, and its standard output."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(omp_threads)}
    out, err = scratch / "stdout.log", scratch / "stderr.log"
    log = f"bench/rivals/{err.relative_to(HERE)}"
    start = time.monotonic()
    with out.open("w") as stdout, err.open("w") as stderr:
        process = subprocess.Popen(
            command, cwd=scratch, env=environment, stdout=stdout, stderr=stderr,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(cap + START_UP_SECONDS)
        except subprocess.TimeoutExpired:
            raise RunError(f"did not stop by itself; see {log}") from None
        finally:
            # Nothing it started may compete with the next rival, however it ended.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code:
        raise RunError(f"ended with code {code}; see {log}")
    return time.monotonic() - start, out.read_text()


def described(rival: Rival) -> Row:
    """Returns what is known of a rival without running it."""
    return {
        "name": rival.name,
        "settings_that_differ": rival.differs,
        "protocol_differences": list(rival.protocol),
        "published_env_steps_to_target": dataclasses.asdict(rival.published),
    }


def load(path: Path) -> dict[str, Row]:
    """Returns the rows of a result file by name; none if there is no file."""
    if not path.exists():
        return {}
    return {row["name"]: row for row in json.loads(path.read_text())["rivals"]}


def save(path: Path, rows: dict[str, Row]) -> None:
    """Writes the rows, in the catalogue's order."""
    ordered = [rows[rival.name] for rival in RIVALS if rival.name in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rivals": ordered}, indent=1) + "\n")


def chosen(only: str) -> list[Rival]:
    """Returns the rivals that are named, all of them if none is.

    Raises:
        RunError: there is no such rival.
    """
    names = [name for name in only.split(",") if name]
    if unknown := set(names) - {rival.name for rival in RIVALS}:
        known = ", ".join(rival.name for rival in RIVALS)
        raise RunError(f"no rival is called {', '.join(sorted(unknown))}; there are {known}")
    return [rival for rival in RIVALS if not names or rival.name in names]


def run_all(rivals: list[Rival], asked: argparse.Namespace) -> int:
    """Runs the rivals one after the other and saves each row at once; returns the exit code."""
    # Everything is installed before anything is timed.
    pythons = {venv: set_up(venv) for venv in sorted({rival.venv for rival in rivals} - {""})}
    failed = False
    rows = load(asked.out)
    for rival in rivals:
        row: dict[str, Any] = described(rival)
        if rival.driver and not asked.set_up_only:
            print(f"{rival.name}: {asked.minutes:g} minutes", flush=True)
            try:
                row |= measure(rival, pythons[rival.venv], asked)
            except (RunError, ReportError) as error:
                failed = True
                row["error"] = str(error)
                print(f"{rival.name}: {error}", file=sys.stderr)
            else:
                print(f"{rival.name}: {row['env_steps_per_second']} env steps/s", flush=True)
        if not asked.set_up_only:
            rows[rival.name] = row
            save(asked.out, rows)
    return 1 if failed else 0


def main() -> int:
    """Runs or prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="cap on each one's training")
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--target", type=float, default=18.0, help="mean of 100 games that ends it")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print --out as Markdown, run nothing")
    parser.add_argument(
        "--set-up-only", action="store_true", help="make the environments, run none"
    )
    asked = parser.parse_args()
    try:
        if asked.table:
            print(table(list(load(asked.out).values())), end="")
            return 0
        code = run_all(chosen(asked.only), asked)
    except RunError as error:
        print(error, file=sys.stderr)
        return 1
    if not asked.set_up_only:
        print(table(list(load(asked.out).values())), end="")
    return code


if __name__ == "__main__":
    sys.exit(main())
