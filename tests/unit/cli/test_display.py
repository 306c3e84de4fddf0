"""Progress of a run, as lines and as a live table."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from asyncade_cli import display
from asyncade_cli.display import JsonDisplay, LineDisplay, LiveDisplay, QuietDisplay, make_display
from asyncade_cli.outlook import Ends, Outlook
from builders import Clock

ROW = {
    "seconds": 125.4,
    "env_steps": 12345,
    "updates": 9,
    "episodes": 42,
    "mean_return_100": -18.25,
    "env_steps_per_second": 987.6,
    "policy_lag_mean": 1.5,
    "messages_dropped": 3,
}


def console(terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=terminal)


def printed(one: Console) -> str:
    assert isinstance(one.file, io.StringIO)
    return one.file.getvalue()


def test_a_line_shows_the_progress() -> None:
    out = console()
    LineDisplay(out, Outlook(Ends())).show(ROW, actors=2)
    assert printed(out) == (
        "elapsed 2:05  return -18.2 (42 games)  env steps 12,345  env steps/s 988  "
        "policy lag 1.5  dropped 3  actors 2\n"
    )


@pytest.mark.parametrize("row", [{}, {"mean_return_100": None, "policy_lag_mean": None}])
def test_before_the_first_game_there_is_no_return(row: dict[str, None]) -> None:
    out = console()
    LineDisplay(out, Outlook(Ends())).show(row, actors=1)
    assert "return -  " in printed(out)
    assert "policy lag -  " in printed(out)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(0.0)
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=clock))
    return clock


def test_lines_come_every_ten_seconds_but_events_at_once(clock: Clock) -> None:
    out = console()
    lines = LineDisplay(out, Outlook(Ends()))
    for clock.now in (0.0, 0.5, 9.9, 10.0, 10.5):
        lines.show({**ROW, "seconds": clock.now}, actors=2)
    lines.say("actor-0 was killed by SIGKILL")
    lines.close()
    assert len(printed(out).splitlines()) == 3
    assert printed(out).endswith("actor-0 was killed by SIGKILL\n")


def test_an_unchanged_line_is_not_repeated(clock: Clock) -> None:
    out = console()
    lines = LineDisplay(out, Outlook(Ends()))
    for clock.now in (0.0, 10.0, 20.0):
        lines.show(ROW, actors=2)
    assert len(printed(out).splitlines()) == 1
    lines.show(ROW, actors=1)
    assert printed(out).endswith("actors 1\n")


LOG_LINE = "2026-01-31 12:00:00 [info     ] up [/tmp/run]"  # Rich reads [...] as markup


def test_events_are_printed_verbatim() -> None:
    out = console()
    LineDisplay(out, Outlook(Ends())).say(LOG_LINE + "x" * 200)
    assert printed(out) == LOG_LINE + "x" * 200 + "\n"


def test_the_table_prints_events_verbatim() -> None:
    out = console(terminal=True)
    live = LiveDisplay(out, "title", Outlook(Ends()))
    live.say(LOG_LINE)
    live.close()
    assert LOG_LINE in printed(out)


WAITING = {"stage_shares": {"wait": 0.8, "forward_backward": 0.2}}
TRAINING = {"stage_shares": {"wait": 0.2, "forward_backward": 0.8}}


def test_lines_name_what_limits_the_run_when_it_changes(clock: Clock) -> None:
    out = console()
    lines = LineDisplay(out, Outlook(Ends()))
    for clock.now, shares in enumerate([WAITING, WAITING, *[TRAINING] * 8]):
        clock.now *= 10.0
        lines.show({**ROW, **shares, "seconds": clock.now}, actors=2)
    said = [line for line in printed(out).splitlines() if not line.startswith("elapsed")]
    assert len(said) == 3
    assert "waits for actors 80%" in said[0]
    assert "take turns" in said[1]
    assert "the learner trains" in said[2]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_table_draws_the_curve_and_names_limit_and_cure(encoding: str) -> None:
    raw = io.BytesIO()
    out = Console(
        file=io.TextIOWrapper(raw, encoding=encoding, write_through=True),
        width=100,
        force_terminal=True,
    )
    outlook = Outlook(Ends(seconds=600))
    outlook.continues([{"seconds": 60.0, "mean_return_100": -20.0}])
    live = LiveDisplay(out, "title", outlook)
    live.show({**ROW, **WAITING}, actors=2)
    live.close()
    picture = raw.getvalue().decode(encoding).split("title")[-1]
    assert ("▁█" if encoding == "utf-8" else "_@") + " -20.0 to -18.2" in picture
    assert "8:54 to the time limit" in picture  # 65 of the 125 seconds are of this sitting
    assert "the learner waits for actors 80% of its time" in picture
    assert "more cores" in picture


def test_quiet_shows_only_what_goes_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = QuietDisplay()
    quiet.say("actors started")
    quiet.show(ROW, actors=2)
    quiet.warn("actor-0 was killed")
    assert capsys.readouterr() == ("", "actor-0 was killed\n")


def test_json_shows_every_row_once(capsys: pytest.CaptureFixture[str]) -> None:
    rows = JsonDisplay()
    rows.say("actors started")
    rows.warn("actor-0 was killed")
    for row in ({}, ROW, ROW, {**ROW, "seconds": 127.4}):
        rows.show(row, actors=2)
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [ROW, {**ROW, "seconds": 127.4}]
    assert err == "actor-0 was killed\n"


def test_the_table_shows_progress_and_the_last_events() -> None:
    out = console(terminal=True)
    live = LiveDisplay(out, "pong, data mode", Outlook(Ends(env_steps=1_000_000)))
    for number in range(10):
        live.say(f"event {number}")
    live.show(ROW, actors=2)
    live.close()
    picture = printed(out).split("pong, data mode")[-1]
    assert "12,345" in picture
    assert "-18.2 (42 games)" in picture
    assert "event 9" in picture
    assert "event 3" not in picture


@pytest.mark.parametrize(
    ("kind", "terminal", "term", "width", "expected"),
    [
        ("auto", True, "xterm", 80, LiveDisplay),
        ("live", True, "xterm", 80, LiveDisplay),
        ("auto", False, "xterm", 80, LineDisplay),
        ("lines", True, "xterm", 80, LineDisplay),
        ("live", False, "xterm", 80, LineDisplay),
        ("auto", True, "dumb", 80, LineDisplay),
        ("live", True, "dumb", 80, LineDisplay),
        ("auto", True, "xterm", 10, LineDisplay),
        ("live", True, "xterm", 10, LiveDisplay),
        ("quiet", True, "xterm", 80, QuietDisplay),
        ("json", True, "xterm", 80, JsonDisplay),
    ],
)
def test_output_that_cannot_be_redrawn_gets_lines(
    kind: str, terminal: bool, term: str, width: int, expected: type
) -> None:
    out = Console(file=io.StringIO(), width=width, force_terminal=terminal, _environ={"TERM": term})
    made = make_display(kind, out, "title", Outlook(Ends()))
    made.close()
    assert isinstance(made, expected)
