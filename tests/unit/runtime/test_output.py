"""Output that cannot be written: closed, full, or in another alphabet."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from asyncade_runtime.output import BestEffort, best_effort_output

PRINTS = """
import sys
from asyncade_runtime.output import best_effort_output
with best_effort_output():
    for _ in range(10_000):
        print("naïve 中文")
        print("naïve 中文", file=sys.stderr)
sys.exit(7)
"""


class Broken(io.StringIO):
    """Fails while `error` is set."""

    error: Exception | None = None

    def write(self, text: str) -> int:
        if self.error is not None:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), BrokenPipeError(), ValueError("closed")]
)
def test_what_cannot_be_written_is_dropped_and_the_next_line_tried(error: Exception) -> None:
    stream = Broken()
    output = BestEffort(stream)
    stream.error = error
    print("lost", file=output)
    assert output.lost
    stream.error = None
    print("written", file=output)
    assert stream.getvalue() == "written\n"


def test_characters_that_the_encoding_lacks_are_escaped() -> None:
    written = io.BytesIO()
    output = BestEffort(io.TextIOWrapper(written, encoding="ascii"))
    print("runs/é-中/x", file=output, flush=True)
    assert written.getvalue() == rb"runs/\xe9-\u4e2d/x" + b"\n"
    assert not output.lost


def test_the_streams_are_restored() -> None:
    before = sys.stdout, sys.stderr
    with best_effort_output():
        assert sys.stdout is not before[0]
    assert (sys.stdout, sys.stderr) == before
    with pytest.raises(SystemExit), best_effort_output():
        sys.exit()
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("ending", [">/dev/full", "2>/dev/full", "| head -n 2", ">&-", "2>&-"])
def test_a_process_ends_with_its_own_exit_code(ending: str) -> None:
    """Even the flush at the interpreter's exit fails silently."""
    shell = ["bash", "-o", "pipefail", "-c", f'"$0" -c "$1" {ending}', sys.executable, PRINTS]
    ended = subprocess.run(shell, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 7
    assert "Error" not in ended.stderr


def test_an_ascii_locale_ends_no_process() -> None:
    environ = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONPATH": ":".join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", PRINTS], capture_output=True, env=environ)
    assert ended.returncode == 7
    assert rb"na\xefve \u4e2d\u6587" in ended.stdout
