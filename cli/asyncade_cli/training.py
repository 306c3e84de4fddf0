"""A learner, actors and the live page of one run, as child processes on this machine."""

from __future__ import annotations

import contextlib
import shlex
import signal
import time
from collections.abc import Mapping
from typing import Any, Final

from asyncade_cli.actors import Actors
from asyncade_cli.display import Display
from asyncade_cli.live_page import LivePage
from asyncade_cli.outlook import Outlook
from asyncade_cli.processes import PendingLog, Service
from asyncade_cli.start import Start
from asyncade_cli.words import counted
from asyncade_runtime.files import RunFolderError
from asyncade_runtime.lifecycle import stop_on_signals
from asyncade_runtime.service import EXIT_BAD_INPUT, EXIT_BUSY

EXIT_DONE: Final = 0
EXIT_DIED: Final = 1
EXIT_INTERRUPTED: Final = 128 + signal.SIGINT
_ENDED_BY: Final = {
    EXIT_DONE: "unknown",  # the learner ended normally but could not write summary.json
    EXIT_INTERRUPTED: "signal",
}
"""Exit code to `ended_by` in summary.json, for a learner that has written none."""

_START_TIMEOUT_S: Final = 120.0
_STOP_TIMEOUT_S: Final = 30.0


class Training:
    """Starts, restarts and stops the processes of one run.

    Args:
        start: settings, folder, and the learner's command line.
        display: shows events and progress.
        outlook: is told the rows of earlier sittings.
        environ: environment variables of the processes.

    Attributes:
        accepted: True once the learner has taken the folder over. Nothing in it is changed before.
    """

    def __init__(
        self, start: Start, display: Display, outlook: Outlook, environ: Mapping[str, str]
    ) -> None:
        self.accepted = False
        self._settings = start.settings
        self._folder = start.folder
        self._display = display
        self._outlook = outlook
        self._log = PendingLog(start.folder.logs / "learner.log")
        self._learner = Service(
            "learner", "asyncade_learner", start.learner_arguments, self._log.path, environ
        )
        self._actors = Actors(start.settings, start.folder, environ, display.warn)
        self._page = LivePage(start.folder, environ, display.say, open_it=start.settings.open)
        self._earlier_row: Mapping[str, Any] | None = None  # of an earlier sitting, another target
        self._target_announced = self._skipped_announced = False
        self._stop = stop_on_signals(second_raises=True)

    def run(self) -> int:
        """Runs all processes until the learner ends or a signal arrives; returns the exit code.

        Raises:
            KeyboardInterrupt: after a second Ctrl-C. Nothing is waited for: the processes have
                their signal, and the learner ends when it has saved its checkpoint.
        """
        with self._log:
            hurried = False
            try:
                return self._run()
            except KeyboardInterrupt:
                hurried = True
                raise
            finally:
                self._page.terminate()
                self._learner.terminate()
                self._actors.terminate()
                if not hurried:
                    self._page.stop()
                    self._actors.stop(_STOP_TIMEOUT_S)
                    self._learner.wait(_STOP_TIMEOUT_S)

    def left_behind(self) -> list[str]:
        """Returns what to know after a second Ctrl-C, in lines."""
        if not self.accepted:
            return ["ended before the learner was ready: nothing has been written"]
        lines = [f"interrupted; run folder: {self._folder.root}"]
        if self._learner.exit_code() is None:
            lines.append("the learner goes on until it has saved a checkpoint, then ends")
        elif not self._folder.checkpoint_files():
            return lines
        return [*lines, f"to continue:  {self._resume()}"]

    def _resume(self) -> str:
        return f"asyncade train --resume --run-dir {shlex.quote(str(self._folder.root))}"

    def ended_by(self, code: int) -> str:
        """Returns what ended the run, for a learner that has written no summary.

        Args:
            code: exit code, as returned by `run`.
        """
        if self._actors.failed is not None:
            return "actors_failed"
        return _ENDED_BY.get(code, "learner_died")

    def _run(self) -> int:
        earlier = self._folder.read_endpoints()
        self._display.say("starting the learner")
        self._learner.start()
        if self._wait_until_up(earlier):
            self._accept()
            endpoints = self._folder.read_endpoints() or {}
            self._actors.start(endpoints["upstream"], endpoints["weights"])
            actors = counted(self._settings.actors, "actor")
            self._display.say(f"{actors} started; logs: {self._folder.logs}")
            if self._settings.watch:
                self._page.start()
            self._watch()
        interrupted = self._is_to_end() and self._learner.exit_code() is None
        if interrupted:
            self._display.say("stopping: the learner saves a checkpoint")
            self._learner.terminate()
            self._learner.wait(_STOP_TIMEOUT_S)
        if self._learner.exit_code() == EXIT_DONE and not self.accepted:
            self._accept()  # it was over before any actor could be started
            self._say_what_was_done()
        if self.accepted:
            self._folder.remove_endpoints()  # of a learner that was killed
        if interrupted:
            return self._end_of_actors() or EXIT_INTERRUPTED
        return self._exit_code()

    def _wait_until_up(self, earlier: Mapping[str, Any] | None) -> bool:
        """Waits for this learner's endpoints; returns False if it ends or a signal arrives first.

        Args:
            earlier: endpoints that a killed learner left, perhaps one with the same process number.
        """
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._stop.is_set() and self._learner.exit_code() is None:
            endpoints = self._folder.read_endpoints() or {}
            if endpoints != earlier and endpoints.get("pid") == self._learner.pid:
                return True
            if time.monotonic() > deadline:
                self._display.warn("the learner did not start in time")
                return False
            self._stop.wait(0.05)
        return False

    def _accept(self) -> None:
        """Writes to the folder from now on."""
        self.accepted = True
        self._outlook.continues(self._folder.metrics)
        self._earlier_row = self._folder.last_metrics()
        self._learner.log = self._log.accept()
        self._folder.write_config("train", self._settings.model_dump(mode="json"))
        self._display.say(f"learner started; log: {self._learner.log}")

    def _say_what_was_done(self) -> None:
        summary = self._folder.read_summary() or {}
        limit = self._settings.max_env_steps
        if summary.get("ended_by") == "max_env_steps":
            self._display.say(
                f"nothing to train: the run has {summary.get('env_steps', 0):,} env steps, and"
                f" --max-env-steps ({limit:,}) counts from its beginning"
            )
        elif summary.get("ended_by") == "target":
            self._display.say("nothing to train: the run has reached its target; see --target")

    def _watch(self) -> None:
        """Shows progress and restarts dead actors until the run ends or is to end."""
        before = (self._earlier_row or {}).get("env_steps", 0)
        while not self._is_to_end() and self._learner.exit_code() is None:
            row = self._folder.last_metrics() or {}
            self._actors.restart_dead(useful=row.get("env_steps", 0) > before)
            if self._settings.watch:
                self._page.note()
            self._display.show(row, self._actors.alive())
            if row != self._earlier_row:
                self._announce_target(row)
                self._warn_of_skipped_updates(row)
            self._stop.wait(0.5)
        if (last := self._folder.last_metrics()) is not None:
            self._display.show(last, self._settings.actors)

    def _announce_target(self, row: Mapping[str, Any]) -> None:
        env_steps = row.get("target_env_steps")
        if env_steps is not None and not self._target_announced:
            self._target_announced = True
            cooldown = self._folder.read_config().get("learner", {}).get("cooldown")
            end = "; the cooldown ends the run" if cooldown else ""
            self._display.say(f"target reached after {env_steps:,} env steps{end}")

    def _warn_of_skipped_updates(self, row: Mapping[str, Any]) -> None:
        skipped = row.get("updates_skipped", 0)
        if skipped and not self._skipped_announced:
            self._skipped_announced = True
            self._display.warn(
                f"{skipped:,} updates skipped so far, for gradients not finite or absurdly large:"
                " if this goes on, lower --learning-rate"
            )

    def _is_to_end(self) -> bool:
        return self._stop.is_set() or self._actors.failed is not None

    def _end_of_actors(self) -> int | None:
        """Returns the exit code if the actors have failed, after noting that in summary.json."""
        summary = self._folder.read_summary()
        if self._actors.failed is not None and summary is not None:
            with contextlib.suppress(RunFolderError):  # a full disk
                self._folder.write_summary(summary | {"ended_by": "actors_failed"})
        return self._actors.failed

    def _exit_code(self) -> int:
        code = self._learner.exit_code()
        if code == EXIT_DONE:
            return EXIT_DONE
        if self.accepted and (self._folder.read_summary() or {}).get("ended_by") == "diverged":
            return EXIT_BAD_INPUT  # the outcome says what to do
        if self.accepted:
            said = f"; log: {self._learner.log}\n{self._learner.last_lines()}"
        else:
            said = f"\n{self._learner.refusal()}"
        self._display.warn(f"the learner {self._learner.how_it_ended()}{said}")
        if self.accepted and self._folder.checkpoint_files():
            self._display.warn(f"continue with: {self._resume()}")
        return code if code in (EXIT_BAD_INPUT, EXIT_BUSY) else EXIT_DIED
