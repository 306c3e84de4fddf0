"""``asyncade completion SHELL``: a script with which a shell completes commands and options."""

from __future__ import annotations

import argparse
import importlib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import shtab
from pydantic_settings import CliSettingsSource

from asyncade_cli.settings import TrainSettings
from asyncade_rl.games import GROUP, NUM_ACTIONS
from asyncade_runtime.settings import Settings, flag_of

SHELLS: Final = ("bash", "zsh", "fish")

USAGE: Final = f"""usage: asyncade completion {"|".join(SHELLS)}

Prints a script with which the shell completes commands, options, games and files.

  bash   asyncade completion bash > ~/.local/share/bash-completion/completions/asyncade
  zsh    asyncade completion zsh > "${{fpath[1]}}/_asyncade"
  fish   asyncade completion fish > ~/.config/fish/completions/asyncade.fish

example: eval "$(asyncade completion bash)"     # for this session"""

SETTINGS: Final = {
    "train": "asyncade_cli.settings:TrainSettings",
    "eval": "asyncade_cli.settings:EvalSettings",
    "watch": "asyncade_watch.settings:WatchSettings",
    "report": "asyncade_cli.sharing:ReportSettings",
    "export": "asyncade_cli.sharing:ExportSettings",
    "track": "asyncade_cli.sharing:TrackSettings",
    "compare": "asyncade_cli.settings:CompareSettings",
    "loadgen": "asyncade_cli.settings:LoadgenSettings",
    "learner": "asyncade_learner.settings:LearnerSettings",
    "actor": "asyncade_actor.settings:ActorSettings",
    "evaluator": "asyncade_evaluator.settings:EvaluatorSettings",
    "relay": "asyncade_relay.settings:RelaySettings",
}
"""The settings of each command that has any."""

RUNS: Final = {"eval": "?", "watch": "?", "report": "+", "export": "+", "track": "?"}
"""Commands that take folders, and how many: as argparse's `nargs`."""


def script(shell: str) -> str:
    """Returns the script for one of `SHELLS`."""
    return str(shtab.complete(_parser(), shell))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("asyncade")
    parser.add_argument("--version", action="store_true")
    commands = parser.add_subparsers()
    for name, path in SETTINGS.items():
        module, _, cls = path.partition(":")
        settings: type[Settings] = getattr(importlib.import_module(module), cls)
        command = commands.add_parser(name, help=(settings.__doc__ or "").partition("\n")[0])
        CliSettingsSource(settings, root_parser=command)
        for action in command._actions:
            _suggest(action, settings)
        if name in RUNS:
            _take_files(command.add_argument("run", nargs=RUNS[name]), shtab.DIRECTORY)
    for flag in TrainSettings.short_for:
        commands.choices["train"].add_argument(flag, action="store_true")
    keys = commands.add_parser("keys", help="create CURVE keys for a learner and its actors")
    _take_files(keys.add_argument("folder"), shtab.DIRECTORY)
    completion = commands.add_parser("completion", help="print a script for a shell")
    completion.add_argument("shell", choices=SHELLS)
    return parser


def _suggest(action: argparse.Action, settings: type[Settings]) -> None:
    """Gives an option the words or files that may follow it."""
    named = [one for one in settings.model_fields if flag_of(one) in action.option_strings]
    annotations = [_parts(settings.model_fields[name].annotation) for name in named]
    parts = [part for each in annotations for part in each]
    words = [str(word) for part in parts if get_origin(part) is Literal for word in get_args(part)]
    if named == ["game"]:
        words = sorted({*NUM_ACTIONS, *entry_points(group=GROUP).names})
    if words:
        action.choices = words
    elif Path in parts:
        _take_files(action, shtab.FILE)


def _parts(annotation: Any) -> list[Any]:
    """Returns the members of a union, or the annotation alone."""
    if get_origin(annotation) is Literal:
        return [annotation]
    return [part for one in get_args(annotation) for part in _parts(one)] or [annotation]


def _take_files(action: argparse.Action, files: object) -> None:
    action.complete = files  # type: ignore[attr-defined]  # the attribute that shtab reads
