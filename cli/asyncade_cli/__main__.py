"""``asyncade COMMAND``: train, eval, compare, plan, the services, loadgen, keys."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from asyncade_runtime.cores import set_thread_environment
from asyncade_runtime.run_folder import RunFolderError
from asyncade_runtime.settings import SettingsError, load
from asyncade_runtime.transport.addresses import SocketAddressError

USAGE: Final = """usage: asyncade COMMAND [options]

  train        start a learner and actors on this machine and train until done
  eval RUN     play games with a trained model and report their returns
  compare      train in both modes, or read runs, and report when to choose which
  plan         how many actors, network and relays a rate needs, from measured costs
  learner      one learner service
  actor        one actor service
  evaluator    plays games by a learner's weights and exports their returns
  relay        one relay service, between the actors of a node or zone and the learner
  loadgen      synthetic actors that replay recorded play to a learner
  keys FOLDER  make CURVE keys for a learner and its actors, if there are none

asyncade COMMAND --help says what a command can be told."""

USAGE_ERROR: Final = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": _train,
        "eval": _evaluate,
        "compare": _compare,
        "plan": _plan,
        "learner": _learner,
        "actor": _actor,
        "evaluator": _evaluator,
        "relay": _relay,
        "loadgen": _loadgen,
        "keys": _keys,
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else USAGE_ERROR
    command = commands.get(arguments[0])
    if command is None:
        print(f"there is no command {arguments[0]!r}\n\n{USAGE}", file=sys.stderr)
        return USAGE_ERROR
    try:
        return command(arguments[1:])
    except (SettingsError, RunFolderError) as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR


def _train(arguments: list[str]) -> int:
    from asyncade_cli.settings import TrainSettings
    from asyncade_cli.train import train

    return train(load(TrainSettings, arguments, os.environ), os.environ)


def _evaluate(arguments: list[str]) -> int:
    from asyncade_cli.settings import EvalSettings

    if not arguments or arguments[0].startswith("-"):
        if "--help" in arguments or "-h" in arguments:
            load(EvalSettings, ["--help"], os.environ)
        print("name the run's folder: asyncade eval RUN [options]", file=sys.stderr)
        return USAGE_ERROR
    settings = load(EvalSettings, arguments[1:], os.environ)
    set_thread_environment(1, os.environ)  # ten observations at a time: threads only wait
    from asyncade_cli.evaluate import evaluate  # loads torch

    print(json.dumps(evaluate(Path(arguments[0]), settings), indent=2))
    return 0


def _compare(arguments: list[str]) -> int:
    from asyncade_cli.compare import compare
    from asyncade_cli.compare_runs import runs_joined
    from asyncade_cli.settings import CompareSettings

    settings = load(CompareSettings, runs_joined(arguments), os.environ)
    return compare(settings, os.environ, ["asyncade", "compare", *arguments])


def _plan(arguments: list[str]) -> int:
    from asyncade_cli.plan import plan
    from asyncade_cli.plan_costs import CostsError
    from asyncade_cli.settings import PlanSettings

    spelled = ["--display=json" if argument == "--json" else argument for argument in arguments]
    try:
        print(plan(load(PlanSettings, spelled, os.environ)), end="")
    except CostsError as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR
    return 0


def _learner(arguments: list[str]) -> int:
    from asyncade_learner.__main__ import main as run_learner

    return run_learner(arguments)


def _actor(arguments: list[str]) -> int:
    from asyncade_actor.__main__ import main as run_actor

    return run_actor(arguments)


def _evaluator(arguments: list[str]) -> int:
    from asyncade_evaluator.__main__ import main as run_evaluator

    return run_evaluator(arguments)


def _relay(arguments: list[str]) -> int:
    from asyncade_relay.__main__ import main as run_relay

    return run_relay(arguments)


def _loadgen(arguments: list[str]) -> int:
    from asyncade_cli.settings import LoadgenSettings

    settings = load(LoadgenSettings, arguments, os.environ)
    set_thread_environment(1, os.environ)  # it measures others: it takes no more than a core
    from asyncade_cli.loadgen import run  # loads torch
    from asyncade_cli.replay import LoadgenError
    from asyncade_runtime.transport.keys import KeysError

    try:
        print(json.dumps(run(settings), indent=2))
    except (LoadgenError, SocketAddressError, KeysError) as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR
    return 0


def _keys(arguments: list[str]) -> int:
    from asyncade_runtime.transport.keys import ACTOR, LEARNER, make_keys

    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("name the folder: asyncade keys FOLDER", file=sys.stderr)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else USAGE_ERROR
    folder = Path(arguments[0])
    try:
        made = make_keys(folder)
    except OSError as error:
        print(f"{folder} cannot be written: {error}", file=sys.stderr)
        return USAGE_ERROR
    print(
        f"{folder}: {'keys made' if made else 'keys are there, left as they are'}\n"
        f"asyncade learner --keys {folder / LEARNER}\nasyncade actor --keys {folder / ACTOR}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
