"""``asyncade watch [RUN]``: serves the live page of a run until Ctrl-C."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from asyncade_runtime.cores import set_thread_environment
from asyncade_runtime.files import RunFolderError
from asyncade_runtime.lifecycle import HttpAddressError, stop_on_signals
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.settings import SettingsError, load
from asyncade_runtime.transport.keys import KeysError, load_actor_keys
from asyncade_watch.settings import WatchSettings

EXIT_BAD_INPUT: Final = 2
_SEED: Final = 2_000_000  # of the first game, which is none that was trained on


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``RUN [options]``; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    named = bool(arguments) and not arguments[0].startswith("-")
    try:
        settings = load(WatchSettings, arguments[1:] if named else arguments, os.environ)
        if not named:
            raise SettingsError("name the run: asyncade watch RUN")
        return watch(Path(arguments[0]), settings)
    except (SettingsError, RunFolderError, HttpAddressError, KeysError) as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT


def watch(run: Path, settings: WatchSettings) -> int:
    """Serves the page of a run until SIGTERM or Ctrl-C; returns the exit code.

    Raises:
        HttpAddressError: the address or port is not available.
        KeysError: the keys cannot be used.
        RunFolderError: the folder holds no run.
        SettingsError: the packages of the page are not installed.
    """
    folder = RunFolder.existing(run)
    set_thread_environment(1, os.environ)
    try:
        from asyncade_watch.serve import address_of, listen, serve
    except ImportError as error:
        raise SettingsError(f"the page needs: pip install 'asyncade[watch]' ({error})") from error
    from asyncade_watch.of_run import page_of_run

    keys = None if settings.keys is None else load_actor_keys(settings.keys)
    with listen(settings.host, settings.port) as listening:
        address = address_of(listening)
        print(f"{run} is shown at {address}", flush=True)
        if settings.open:
            webbrowser.open(address)
        stop_on_signals()  # uvicorn ends on a signal, and then raises it again
        with page_of_run(folder, keys, settings.host, _SEED) as page:
            serve(page, listening)
    return 0


if __name__ == "__main__":
    sys.exit(main())
