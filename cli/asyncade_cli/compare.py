"""``asyncade compare``: both modes under the same budget and seeds, and one report.

OUT/compare.json         what was asked for, and all figures
OUT/report.md            the figures, and in words what they say
OUT/curves.png           return against env steps and wall time
OUT/MODE-seed-SEED/      a run folder each, with processes.json: what its processes told
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from asyncade_cli.compare_costs import cluster
from asyncade_cli.compare_probe import Probe
from asyncade_cli.compare_report import Comparison, draw_curves, render
from asyncade_cli.compare_runs import (
    PROCESSES,
    FinishedRun,
    PlannedRun,
    agreed,
    check_alike,
    is_finished,
    plan,
    read_run,
)
from asyncade_cli.compare_seeds import Equal, mode_figures
from asyncade_cli.compare_words import cluster_words, machine_words
from asyncade_cli.settings import CompareSettings, TrainSettings
from asyncade_cli.train import EXIT_DONE, EXIT_INTERRUPTED, RUNS, train
from asyncade_runtime.run_folder import RunFolder, RunFolderError, write_atomically
from asyncade_runtime.settings import load

FIGURES: Final = "compare.json"


def compare(settings: CompareSettings, environ: Mapping[str, str], command: Sequence[str]) -> int:
    """Trains what is not trained yet and reports; returns the exit code.

    Args:
        settings: complete.
        environ: for the trainings.
        command: words of the command line, for the report.

    Raises:
        RunFolderError: there are no runs, or runs that cannot be compared.
        SettingsError: a variable that a training does not know.
    """
    time_of_day = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    out = settings.out or RUNS / f"compare-{time_of_day}"
    said = shlex.join(command)
    if settings.runs:
        runs = [read_run(root, settings.target) for root in settings.runs]
        asked: dict[str, Any] = {"runs": [str(run) for run in settings.runs]}
        _report(out, runs, asked, said)
        return EXIT_DONE
    settings, asked = _asked(settings, out, environ)
    planned = plan(settings, out)
    _make(out)
    _write_json(out / FIGURES, {"command": said, "asked": asked})
    code = _train_all(planned, environ)
    finished = [read_run(run.root, asked["target"]) for run in planned if is_finished(run.root)]
    if {run.figures.mode for run in finished} == {"data", "gradients"}:
        _report(out, finished, asked, said)
    else:
        print(f"no report yet: {out} has no finished run of each mode")
    if code != EXIT_DONE:
        print(f"continue with: asyncade compare --out {out}")
    return code


def _asked(
    settings: CompareSettings, out: Path, environ: Mapping[str, str]
) -> tuple[CompareSettings, dict[str, Any]]:
    """Returns the settings, completed by those of the folder, and what compare.json says of them.

    Raises:
        RunFolderError: the folder holds a comparison under other settings.
    """
    before = _read_json(out / FIGURES).get("asked") or {}
    if "runs" in before:
        raise RunFolderError(f"{out} holds a report on other folders; choose another --out")
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    kept = {name: before[name] for name in CompareSettings.model_fields if name in before}
    seeds = dict.fromkeys([*kept.get("seeds", ()), *given.get("seeds", ())])
    settings = CompareSettings(**{**kept, **given, **({"seeds": tuple(seeds)} if seeds else {})})
    one = load(TrainSettings, PlannedRun("data", 0, out, settings).arguments(), environ)
    asked = {
        "game": settings.game,
        "seeds": list(settings.seeds),
        "actors": one.actors,
        "target": one.target_of_the_game(),
        "max_env_steps": settings.max_env_steps,
        "max_minutes": settings.minutes(),
        "environment": {
            name: value
            for name, value in sorted(environ.items())
            if name.startswith(("ASYNCADE_TRAIN_", "ASYNCADE_LEARNER_", "ASYNCADE_ACTOR_"))
        },
    }
    agreed(before, asked, out)
    return settings, asked


def _train_all(planned: Sequence[PlannedRun], environ: Mapping[str, str]) -> int:
    """Runs what is not finished, one after the other; stops at the first that does not end well."""
    for number, run in enumerate(planned, 1):
        name = f"[{number}/{len(planned)}] {run.mode} mode, seed {run.seed}"
        if is_finished(run.root):
            print(f"{name}: finished already, {run.root}")
            continue
        print(f"{name}: {run.root}")
        code = _train_one(run, environ)
        if code != EXIT_DONE:
            return code
    return EXIT_DONE


def _train_one(run: PlannedRun, environ: Mapping[str, str]) -> int:
    settings = load(TrainSettings, run.arguments(), environ)
    folder = RunFolder(run.root)
    folder.remove_endpoints()  # of a learner that was killed: nobody is there to be asked
    try:
        with _own_signals(), Probe(folder) as probe:
            # What is compared ends at the target: a cooldown would cost time and say nothing.
            code = train(settings, {"ASYNCADE_LEARNER_COOLDOWN": "0", **environ})
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    report = probe.report()
    if report is not None:
        _write_json(run.root / PROCESSES, report)
    return code


@contextmanager
def _own_signals() -> Iterator[None]:
    """Puts the signal handlers back afterwards: a training leaves its own behind."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _report(out: Path, runs: Sequence[FinishedRun], asked: Mapping[str, Any], said: str) -> None:
    """Writes compare.json, report.md and curves.png, and prints what they say.

    Raises:
        RunFolderError: the runs cannot be compared, or the folder cannot be made.
    """
    check_alike([run.figures for run in runs])
    equal = Equal.of(run.rows for run in runs)
    data, gradients = (
        mode_figures(
            mode, [(run.figures, run.rows) for run in runs if run.figures.mode == mode], equal
        )
        for mode in ("data", "gradients")
    )
    first = runs[0].figures
    comparison = Comparison(
        title=f"{first.game}, {first.actors} actors",
        command=said,
        data=data,
        gradients=gradients,
        equal=equal,
        cluster=cluster(data, gradients),
    )
    words = {
        "machine": machine_words(data, gradients, equal),
        "cluster": cluster_words(comparison.cluster),
    }
    modes = {one.mode: dataclasses.asdict(one) for one in (data, gradients)}
    _make(out)
    _write_json(
        out / FIGURES,
        {
            "command": said,
            "asked": dict(asked),
            "equal": dataclasses.asdict(equal),
            "modes": modes,
            "cluster": dataclasses.asdict(comparison.cluster) if comparison.cluster else None,
            "words": words,
        },
    )
    write_atomically(out / "report.md", render(comparison).encode())
    draw_curves([(run.figures, run.rows) for run in runs], comparison.title, out / "curves.png")
    for heading, sentences in words.items():
        print(f"\n{heading}:")
        for sentence in sentences:
            print(f"  {sentence}")
    print(f"\nreport: {out / 'report.md'}")


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{out} cannot be made ({error}); choose another --out") from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} cannot be read ({error}); mend or remove it") from error
    return content if isinstance(content, dict) else {}
