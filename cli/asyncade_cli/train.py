"""``asyncade train``: trains in a run folder, shows it, and says what came of it."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping

from rich.console import Console

from asyncade_cli.display import make_display
from asyncade_cli.outcome import complete
from asyncade_cli.outlook import Ends, Outlook
from asyncade_cli.settings import TrainSettings
from asyncade_cli.start import Start, prepare
from asyncade_cli.training import EXIT_INTERRUPTED, Training
from asyncade_cli.words import counted
from asyncade_runtime.lifecycle import STOP_SIGNALS


def train(settings: TrainSettings, environ: Mapping[str, str]) -> int:
    """Trains until a target, a limit or a signal; returns the exit code.

    Raises:
        RunFolderError: the run folder cannot be used.
        SettingsError: a setting of the learner or the actors is wrong.
    """
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        return _train(settings, environ)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _train(settings: TrainSettings, environ: Mapping[str, str]) -> int:
    start = prepare(settings, environ)
    settings, folder = start.settings, start.folder
    console = Console()
    actors = counted(settings.actors, "actor")
    title = f"{settings.game}, {settings.mode} mode, {actors}, {folder.root}"
    outlook = Outlook(Ends.of(start.learner))
    display = make_display(settings.display, console, title, outlook)
    training = Training(start, display, outlook, environ)
    try:
        try:
            for far in start.learner.far_beyond_defaults():
                display.warn(f"{far}: the model may diverge")
            if changed := ", ".join(map(" ".join, start.changed.items())):
                display.say(f"settings changed: {changed}")
            code = training.run()
        finally:
            display.close()
        _finish(training, start, console, code)
    except KeyboardInterrupt:  # a second one
        for line in training.left_behind():
            print(line, file=sys.stderr)
        return EXIT_INTERRUPTED
    return code


def _finish(training: Training, start: Start, console: Console, code: int) -> None:
    """Completes the run folder and prints the outcome."""
    if training.accepted:
        lines = complete(start.settings, start.folder, training.ended_by(code))
        if start.settings.display == "json":
            lines = [json.dumps(start.folder.read_summary())]
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    elif code == EXIT_INTERRUPTED:
        print("ended before the learner was ready: nothing has been written", file=sys.stderr)
