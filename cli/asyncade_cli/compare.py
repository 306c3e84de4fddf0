"""``asyncade compare``: trains both modes under the same budget and seeds, and reports.

OUT/compare.json         command, budget and figures
OUT/report.html          medians and ranges of each mode, and every run side by side
OUT/MODE-seed-SEED/      one run folder each
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from asyncade_cli.comparison import modes_table, seeds_of, spreads_of
from asyncade_cli.outcome import FinishedRun, read_finished
from asyncade_cli.settings import CompareSettings, TrainSettings
from asyncade_cli.start import RUNS, prepare
from asyncade_cli.train import train
from asyncade_cli.training import EXIT_DONE, EXIT_INTERRUPTED
from asyncade_rl.choices import MODES
from asyncade_runtime.files import RunFolderError, read_json, write_json
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.settings import load

_COMPLETE: Final = ("target", "max_env_steps", "max_minutes")  # `ended_by` of a complete run
_SETTINGS: Final = {"game", "seeds", "actors", "max_env_steps", "max_minutes", "target"}
_VARIABLES: Final = ("ASYNCADE_TRAIN_", "ASYNCADE_LEARNER_", "ASYNCADE_ACTOR_")


def compare(settings: CompareSettings, environ: Mapping[str, str], command: Sequence[str]) -> int:
    """Trains what is not finished yet, and reports; returns the exit code.

    Args:
        settings: from the command line.
        environ: environment of the trainings.
        command: words of the command line, for the report.

    Raises:
        RunFolderError: runs are missing or cannot be compared.
        SettingsError: an environment variable of a training is wrong. Nothing was written.
    """
    out = settings.out or RUNS / f"compare-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    about: dict[str, Any] = {"command": shlex.join(command)}
    if settings.runs:
        about["asked"] = {"runs": [str(root) for root in settings.runs]}
        _report(out, [read_finished(root) for root in settings.runs], settings.target, about)
        return EXIT_DONE
    settings, about["asked"] = _continued(settings, out, environ)
    planned = plan(settings, out, environ)
    for root, training in planned.items():
        if not is_complete(root):
            prepare(training, environ)
    _write_json(out, about)
    code = _train_all(planned, environ)
    finished = [read_finished(root) for root in planned if is_complete(root)]
    if {run.mode for run in finished} == set(MODES):
        _report(out, finished, settings.target, about)
    else:
        print(f"no report yet: {out} has no finished run of each mode")
    if code != EXIT_DONE:
        print(f"continue with: {shlex.join(['asyncade', 'compare', '--out', str(out)])}")
    return code


def _continued(
    settings: CompareSettings, out: Path, environ: Mapping[str, str]
) -> tuple[CompareSettings, dict[str, Any]]:
    """Returns the settings completed with those of the folder, and what compare.json keeps of them.

    Raises:
        RunFolderError: the folder holds a comparison under other settings; seeds may be added.
    """
    before = (read_json(out / "compare.json") or {}).get("asked") or {}
    if "runs" in before:
        raise RunFolderError(f"{out} holds a report on other folders; choose another --out")
    if before:
        kept = {name: value for name, value in before.items() if name in _SETTINGS}
        given = {name: getattr(settings, name) for name in settings.model_fields_set}
        seeds = dict.fromkeys([*kept["seeds"], *given.get("seeds", ())])
        settings = CompareSettings(**{**kept, **given, "seeds": tuple(seeds)})
    asked = settings.model_dump(mode="json", include=_SETTINGS)
    asked["target"] = settings.target_of_runs()
    now = {name: environ[name] for name in sorted(environ) if name.startswith(_VARIABLES)}
    asked["environment"] = now
    _check_environment(out, before.get("environment", now), now)
    for name, value in before.items():
        if name not in ("seeds", "environment") and asked.get(name) != value:
            raise RunFolderError(
                f"{out} holds a comparison with {name} {value!r}, not {asked.get(name)!r}:"
                " leave the setting out to continue it, or choose another --out"
            )
    return settings, asked


def _check_environment(out: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raises RunFolderError, with the cure, unless the variables of the trainings are the same."""
    kept = [f"{n}={shlex.quote(value)}" for n, value in before.items() if now.get(n) != value]
    cures = [f"set {', '.join(kept)}"] * bool(kept)
    if new := sorted(now.keys() - before.keys()):
        cures.append(f"unset {', '.join(new)}")
    if cures:
        raise RunFolderError(
            f"{out} holds a comparison under other environment variables:"
            f" {' and '.join(cures)} to continue it, or choose another --out"
        )


def plan(
    settings: CompareSettings, out: Path, environ: Mapping[str, str]
) -> dict[Path, TrainSettings]:
    """Returns folder to settings of each run; modes alternate, so that a slow hour affects both.

    An interrupted run is resumed for the minutes it has left: --max-minutes counts them anew.

    Raises:
        SettingsError: an environment variable is wrong.
    """
    planned = {}
    for seed, mode in itertools.product(settings.seeds, MODES):
        root, minutes = out / f"{mode}-seed-{seed}", settings.minutes()
        resume = bool(RunFolder(root).checkpoint_files())
        if resume and minutes is not None and (row := RunFolder(root).last_metrics()):
            minutes = max(minutes - row.get("seconds", 0.0) / 60, 1e-3)
        flags = {
            "--mode": mode,
            "--game": settings.game,
            "--seed": seed,
            "--run-dir": root,
            "--display": settings.display,
            "--max-minutes": minutes,
            "--max-env-steps": settings.max_env_steps,
            "--target": settings.target_of_runs(),
            **({"--actors": settings.actors} if settings.actors else {}),
        }
        arguments = [f"{flag}={'null' if v is None else v}" for flag, v in flags.items()]
        arguments.append("--no-watch")
        planned[root] = load(TrainSettings, [*arguments, *["--resume"] * resume], environ)
    return planned


def is_complete(root: Path) -> bool:
    """Returns whether the run in a folder reached its target or used up its budget."""
    return (RunFolder(root).read_summary() or {}).get("ended_by") in _COMPLETE


def _train_all(planned: Mapping[Path, TrainSettings], environ: Mapping[str, str]) -> int:
    """Trains the unfinished runs in turn; stops at the first that does not end with exit code 0."""
    environ = {"ASYNCADE_LEARNER_COOLDOWN": "0", **environ}  # the comparison ends at the target
    for number, (root, settings) in enumerate(planned.items(), 1):
        done = is_complete(root)
        print(f"[{number}/{len(planned)}] {root}{': already finished' if done else ''}")
        try:
            code = EXIT_DONE if done else train(settings, environ)
        except KeyboardInterrupt:
            code = EXIT_INTERRUPTED
        if code != EXIT_DONE:
            return code
    return EXIT_DONE


def _check_alike(runs: Sequence[FinishedRun], target: float | None) -> None:
    """Raises RunFolderError if a mode is missing or runs differ in what they must share."""
    for mode in set(MODES) - {run.mode for run in runs}:
        raise RunFolderError(f"no run in {mode} mode: name runs of asyncade train in both modes")
    for name in ("game", "actors", "cores", *(("target",) if target is None else ())):
        roots = {run.summary.get(name): run.root for run in runs}
        if len(roots) > 1:
            (one, here), (other, there), *_ = roots.items()
            cure = "give one --target" if name == "target" else f"name runs of the same {name}"
            raise RunFolderError(f"{name} is {one} in {here} and {other} in {there}: {cure}")


def _report(
    out: Path, runs: Sequence[FinishedRun], target: float | None, about: Mapping[str, Any]
) -> None:
    """Writes compare.json and report.html, and prints the table of modes.

    Raises:
        RunFolderError: the runs cannot be compared, or the folder cannot be made.
    """
    from asyncade_cli.report.command import short_films, write  # imports torch
    from asyncade_cli.report.page import page
    from asyncade_cli.report.runs import labels_of, read_run

    _check_alike(runs, target)
    about_runs = runs[0].summary
    target = about_runs.get("target") if target is None else target
    title = f"Data or gradients: {about_runs.get('game')}, {about_runs.get('actors')} actors"
    modes = {mode: [run for run in runs if run.mode == mode] for mode in MODES}
    spreads = {str(mode): spreads_of(ours, target) for mode, ours in modes.items()}
    _write_json(out, {**about, "modes": spreads, "runs": seeds_of(runs, target)})
    print(f"\n{modes_table(runs, target)}")
    labels = labels_of(run.root for run in runs)
    shown = [read_run(run.root, label, target) for run, label in zip(runs, labels, strict=True)]
    notes = [about["command"]]
    films = short_films(shown)
    written = write(
        out / "report.html", page(shown, films, title=title, notes=notes, spreads=spreads)
    )
    print(f"report: {written}")


def _write_json(out: Path, content: Mapping[str, Any]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{out} cannot be made ({error}); choose another --out") from error
    write_json(out / "compare.json", content)
