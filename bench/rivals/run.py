"""Other implementations on Pong, one after the other, each in a virtual environment of its own.

python -m bench.rivals.run [--minutes 5] [--only sb3-a2c,rl-games-ppo] [--seed 1]

Needs a Python 3.11 as well, for which all of them have wheels. README.md says what is measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from asyncade_cli.markdown import table as markdown
from asyncade_runtime.cores import available_cores
from bench.result_files import about, options, read_result, write_result
from bench.rivals.catalogue import RIVALS, Rival

HERE: Final = Path(__file__).resolve().parent
RUNS: Final = HERE / ".runs"
TORCH: Final = ("torch==2.13.0+cpu", "torch==2.13.0")  # the second if pip finds no CPU wheel
START_UP_SECONDS: Final = 600.0
"""Time to start, to finish the iteration in which the time limit falls, and to stop."""


class RunError(Exception):
    """A rival could not be set up or run. The message names the log or the cure."""


def set_up(venv: str) -> Path:
    """Makes a rival's environment unless it exists; returns its Python."""
    folder = HERE / ".venvs" / venv
    python = folder / "bin" / "python"
    requirements = HERE / f"requirements-{venv}.txt"
    wanted = hashlib.sha256(f"{TORCH}{requirements.read_text()}".encode()).hexdigest()
    complete = folder / ".complete"
    if complete.exists() and complete.read_text() == wanted:
        return python
    print(f"setting up {folder}", flush=True)
    interpreter = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11")
    if interpreter is None:
        raise RunError("the rivals' wheels need Python 3.11: install it")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
    try:
        _install(python, TORCH[0])
    except RunError:
        _install(python, TORCH[1])
    # torch once more: the requirements must not change its version.
    _install(python, TORCH[1], "--requirement", str(requirements))
    complete.write_text(wanted)
    return python


def _install(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"pip install {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")


def measure(rival: Rival, python: Path, minutes: float, seed: int) -> dict[str, Any]:
    """Runs one rival; returns what its driver measured, and its rate."""
    scratch = RUNS / rival.name
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    flags = {"minutes": minutes, "seed": seed, "threads": available_cores(), "scratch": scratch}
    command = [str(python), str(HERE / rival.driver), *rival.arguments]
    command += [f"--{name}={value}" for name, value in flags.items()]
    omp_threads = rival.omp_threads or available_cores()
    found = last_measurement(_output(command, scratch, omp_threads, 60 * minutes))
    return found | {"env_steps_per_second": round(found["env_steps"] / found["seconds"], 1)}


def _output(command: list[str], scratch: Path, omp_threads: int, cap: float) -> str:
    """Runs a driver to its end; returns its standard output."""
    out, err = scratch / "stdout.log", scratch / "stderr.log"
    with out.open("w") as stdout, err.open("w") as stderr:
        process = subprocess.Popen(
            command,
            cwd=scratch,
            env={**os.environ, "OMP_NUM_THREADS": str(omp_threads)},
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            code = process.wait(cap + START_UP_SECONDS)
        except subprocess.TimeoutExpired:
            raise RunError(f"did not stop by itself; see {err}") from None
        finally:
            # Nothing that it started may compete with the next rival.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code:
        raise RunError(f"ended with exit code {code}; see {err}")
    return out.read_text()


def last_measurement(output: str) -> dict[str, Any]:
    """Returns the last line of a driver's output that is a JSON object.

    Libraries may print more while they shut down.
    """
    for line in reversed(output.splitlines()):
        with contextlib.suppress(json.JSONDecodeError):
            found = json.loads(line)
            if isinstance(found, dict) and found.get("env_steps"):
                return found
    raise RunError("no iteration was complete: give it more --minutes")


def table(result: Mapping[str, Any]) -> str:
    """Returns rates and times to the target as a Markdown table."""
    rows: list[list[object]] = []
    for rival in result["rivals"]:
        seconds, how = seconds_to_target(rival)
        rows.append(
            [
                rival["name"],
                rival.get("env_steps_per_second"),
                f"{rival['seconds'] / 60:.1f}" if "seconds" in rival else rival.get("error"),
                rival.get("mean_return"),
                None if seconds is None else f"{seconds / 60:,.0f} ({how})",
            ]
        )
    header = ["implementation", "env steps/s", "minutes trained", "mean return then"]
    return markdown([*header, "minutes to the target"], rows)


def seconds_to_target(rival: Mapping[str, Any]) -> tuple[float | None, str]:
    """Returns seconds to the target, and how the figure was obtained.

    Projected: published env steps to the target over the measured rate. Quoted: the published time
    of an implementation that was not run here.
    """
    published = rival["published_env_steps_to_target"]
    if rival.get("reached_target"):
        return float(rival["reached_target"]["seconds"]), "measured"
    if rate := rival.get("env_steps_per_second"):
        bound = "at least, " if published.get("at_least") else ""
        return published["env_steps"] / rate, f"{bound}projected"
    minutes = published.get("minutes")
    quoted = minutes is not None and "error" not in rival
    return (60 * minutes if quoted else None), "quoted, on its author's machine"


def main() -> int:
    """Runs the rivals, saving each result at once; returns the exit code."""
    parser = options("rivals.run", __doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="time limit of each training")
    parser.add_argument("--only", help="names, separated by commas")
    asked = parser.parse_args()
    names = asked.only.split(",") if asked.only else [rival.name for rival in RIVALS]
    if unknown := set(names) - {rival.name for rival in RIVALS}:
        parser.error(f"unknown rivals: {', '.join(sorted(unknown))}")
    chosen = [rival for rival in RIVALS if rival.name in names]
    # Everything is installed before anything is timed.
    pythons = {venv: set_up(venv) for venv in sorted({rival.venv for rival in chosen} - {""})}
    previous = (read_result("rivals", asked.machine) or {"rivals": []})["rivals"]
    entries = {entry["name"]: entry for entry in previous}
    result = about("rivals.run", seed=asked.seed, torch_threads=available_cores())
    for rival in chosen:
        entries[rival.name] = entry = {
            "name": rival.name,
            "published_env_steps_to_target": rival.published(),
            "commit": result["commit"],
        }
        if rival.driver:
            print(f"{rival.name}: {asked.minutes:g} minutes", flush=True)
            try:
                entry |= measure(rival, pythons[rival.venv], asked.minutes, asked.seed)
            except RunError as error:
                entry["error"] = str(error)
        result["rivals"] = [entries[one.name] for one in RIVALS if one.name in entries]
        write_result("rivals", asked.machine, result)
    print(table(result))
    return 1 if any("error" in entries[rival.name] for rival in chosen) else 0


if __name__ == "__main__":
    sys.exit(main())
