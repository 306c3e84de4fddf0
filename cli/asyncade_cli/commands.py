"""``asyncade COMMAND``: train, eval, report, compare, the services, loadgen, completion, ..."""

from __future__ import annotations

import difflib
import importlib
import itertools
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from asyncade_proto.errors import TooLargeError
from asyncade_rl.games import UnknownGameError
from asyncade_runtime.cores import set_thread_environment
from asyncade_runtime.file_limit import raise_file_limit
from asyncade_runtime.files import RunFolderError
from asyncade_runtime.output import best_effort_output, print_result
from asyncade_runtime.run_folder import source_commit
from asyncade_runtime.settings import SettingsError, load
from asyncade_runtime.transport.addresses import SocketAddressError

USAGE: Final = """usage: asyncade COMMAND [options]

  train        train on this machine: a learner and actors, until a target or limit
  eval [RUN]   play games with a trained model and report their returns; default: the newest run
  watch [RUN]  show a run in the browser: the game, the curve, the actors; default: the newest
  report RUN.. write one HTML file about runs: curves, films, evaluation, settings
  export       write a trained model to a folder, as the Hugging Face hub expects one
  track [RUN]  copy a run's metrics to Weights & Biases, MLflow or Trackio, also while it trains
  compare      train in both modes, or read finished runs, and report medians and ranges
  learner      run one learner
  actor        run one actor
  evaluator    run one evaluator: plays games with the newest weights, exports their returns
  relay        run one relay between the actors of a node or zone and the learner
  loadgen      load a learner with synthetic actors that replay recorded messages
  keys FOLDER  create CURVE keys for a learner and its actors
  completion SHELL
               print a script that completes commands and options in bash, zsh or fish

asyncade COMMAND --help lists the options of a command, asyncade --version tells the release."""

USAGE_ERROR: Final = 2
SERVICES: Final = ("learner", "actor", "evaluator", "relay")


@best_effort_output()
def run(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code.

    Raises:
        KeyboardInterrupt: after Ctrl-C, in a command that does not end cleanly by itself.
    """
    raise_file_limit()
    name, *arguments = list(sys.argv[1:] if argv is None else argv) or [""]
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": _train,
        "eval": _evaluate,
        "watch": _watch,
        "report": _report,
        "export": _export,
        "track": _track,
        "compare": _compare,
        "loadgen": _loadgen,
        "keys": _keys,
        "completion": _completion,
    }
    if name == "help" and arguments:
        name, arguments = arguments[0], ["--help"]
    if name in ("", "-h", "--help", "help"):
        print(USAGE)
        return 0 if name else USAGE_ERROR
    if name == "--version":
        print(f"asyncade {version('asyncade')}, commit {source_commit()}")
        return 0
    try:
        if name in SERVICES:  # imported late: their imports take seconds
            return int(importlib.import_module(f"asyncade_{name}.__main__").main(arguments))
        if name in commands:
            return commands[name](arguments)
    except (SettingsError, RunFolderError, UnknownGameError) as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR
    similar = difflib.get_close_matches(name, [*commands, *SERVICES, "--help", "--version"], 1)
    cure = f"did you mean asyncade {similar[0]}?" if similar else "see asyncade --help"
    print(f"unknown command {name!r}; {cure}", file=sys.stderr)
    return USAGE_ERROR


def _names_first(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Returns the words before the first option, such as folders of runs, and the rest."""
    names = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments))
    return names, arguments[len(names) :]


def _train(arguments: list[str]) -> int:
    from asyncade_cli.settings import TrainSettings
    from asyncade_cli.train import train

    return train(load(TrainSettings, arguments, os.environ), os.environ)


def _evaluate(arguments: list[str]) -> int:
    from asyncade_cli.settings import EvalSettings
    from asyncade_cli.start import newest_run

    named, options = _names_first(arguments)
    settings = load(EvalSettings, [*named[1:], *options], os.environ)
    run = Path(named[0]) if named else newest_run("asyncade eval RUN")
    if not named:
        print(f"the newest run: {run}", file=sys.stderr)
    set_thread_environment(1, os.environ)  # batches of ten are too small for threads
    from asyncade_cli.evaluate import evaluate_and_print  # imports torch

    return evaluate_and_print(run, settings)


def _watch(arguments: list[str]) -> int:
    from asyncade_cli.start import newest_run
    from asyncade_watch.__main__ import main as watch

    if not arguments or (arguments[0].startswith("-") and not {"-h", "--help"} & {*arguments}):
        arguments = [str(newest_run("asyncade watch RUN")), *arguments]
    return watch(arguments)


def _report(arguments: list[str]) -> int:
    from asyncade_cli.sharing import ReportSettings
    from asyncade_cli.start import newest_run

    named, options = _names_first(arguments)
    settings = load(ReportSettings, options, os.environ)
    runs = [Path(name) for name in named] or [newest_run("asyncade report RUN")]
    set_thread_environment(1, os.environ)  # batches of ten are too small for threads
    from asyncade_cli.report.command import report  # imports torch

    out = report(runs, settings)
    print(f"report: {out} ({out.stat().st_size / 1e6:.1f} MB)")
    return 0


def _export(arguments: list[str]) -> int:
    from asyncade_cli.sharing import ExportSettings

    named, options = _names_first(arguments)
    settings = load(ExportSettings, options, os.environ)
    if len(named) != 2:
        print(
            "name a run and the folder to write\n\nusage: asyncade export RUN DIR [options]\n\n"
            f"example: {ExportSettings.example}",
            file=sys.stderr,
        )
        return USAGE_ERROR
    set_thread_environment(1, os.environ)  # batches of ten are too small for threads
    from asyncade_cli.export.command import ExportError, export  # imports torch

    run, out = map(Path, named)
    try:
        written = export(run, out, settings)
    except ExportError as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR
    print(f"{out}: {', '.join(path.name for path in written)}")
    print(f"upload it with: hf upload USER/NAME {shlex.quote(str(out))}")
    return 0


def _track(arguments: list[str]) -> int:
    from asyncade_cli.sharing import TrackSettings
    from asyncade_cli.start import newest_run
    from asyncade_cli.track import TrackerError, track
    from asyncade_runtime.lifecycle import stop_on_signals

    named, options = _names_first(arguments)
    settings = load(TrackSettings, [*named[1:], *options], os.environ)
    run = Path(named[0]) if named else newest_run("asyncade track RUN")
    try:
        rows = track(run, settings, stop_on_signals())
    except TrackerError as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR
    print(f"{rows:,} rows of {run} are in {settings.to}, project {settings.project}")
    return 0


def _compare(arguments: list[str]) -> int:
    from asyncade_cli.compare import compare
    from asyncade_cli.settings import CompareSettings, join_runs

    settings = load(CompareSettings, join_runs(arguments), os.environ)
    return compare(settings, os.environ, ["asyncade", "compare", *arguments])


def _loadgen(arguments: list[str]) -> int:
    from asyncade_cli.settings import LoadgenSettings

    settings = load(LoadgenSettings, arguments, os.environ)
    set_thread_environment(1, os.environ)  # leave the cores to the learner
    from asyncade_cli.loadgen import run as load_learner  # imports torch
    from asyncade_cli.replay import LoadgenError
    from asyncade_runtime.service import EXIT_CRASHED, EXIT_REFUSED
    from asyncade_runtime.transport.keys import KeysError
    from asyncade_runtime.transport.roles import AccessRefusedError

    try:
        printed = print_result(json.dumps(load_learner(settings), indent=2))
    except AccessRefusedError as error:
        print(error, file=sys.stderr)
        return EXIT_REFUSED
    except (LoadgenError, SocketAddressError, KeysError, TooLargeError) as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR
    return 0 if printed else EXIT_CRASHED


def _keys(arguments: list[str]) -> int:
    from asyncade_runtime.transport.keys import ACTOR, LEARNER, make_keys

    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: asyncade keys FOLDER\n\nexample: asyncade keys secrets", file=sys.stderr)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else USAGE_ERROR
    folder = Path(arguments[0])
    try:
        made = make_keys(folder)
    except OSError as error:
        print(f"{folder} cannot be written: {error}", file=sys.stderr)
        return USAGE_ERROR
    print(
        f"{folder}: {'keys made' if made else 'keys exist, left unchanged'}\n"
        f"asyncade learner --keys {shlex.quote(str(folder / LEARNER))}\n"
        f"asyncade actor --keys {shlex.quote(str(folder / ACTOR))}"
    )
    return 0


def _completion(arguments: list[str]) -> int:
    from asyncade_cli.completion import SHELLS, USAGE, script

    if len(arguments) != 1 or arguments[0] not in SHELLS:
        asked = arguments[:1] in (["-h"], ["--help"])
        print(USAGE, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else USAGE_ERROR
    print(script(arguments[0]))
    return 0
