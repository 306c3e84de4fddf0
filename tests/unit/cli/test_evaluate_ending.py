"""How ``asyncade eval`` ends: with its results, whatever happens to the film or to the terminal."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from asyncade_cli import evaluate as module
from asyncade_cli.__main__ import main
from asyncade_cli.film import Film
from asyncade_learner import checkpoint
from asyncade_learner.checkpoint import Checkpoint
from asyncade_learner.progress import Progress
from asyncade_rl.envs.catch import CELLS
from asyncade_rl.evaluation import Round
from asyncade_rl.network import make_network
from asyncade_runtime.run_folder import RunFolder

EVAL = ("eval", "runs/one", "--episodes=3", "--envs=1", "--json")


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run of Catch with one checkpoint, in runs/ of the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    folder = RunFolder.create(Path("runs/one"))
    folder.write_config("learner", {"game": "catch"})
    state = Checkpoint(
        progress=Progress(env_steps=7, updates=1),
        model=make_network(3, "small", seed=0).state_dict(),
        optimiser={},
        generator=torch.Generator().get_state(),
        about={"game": "catch", "network": "small", "model": "any"},
    )
    checkpoint.save(folder, state, keep=1)
    return folder


def interrupt_after(steps: int, monkeypatch: pytest.MonkeyPatch, kind: Any, method: str) -> None:
    """Asks for a stop, as Ctrl-C does, after some calls of a method."""
    stop = threading.Event()
    monkeypatch.setattr(module, "stop_on_signals", lambda **_: stop)
    original, calls = getattr(kind, method), [0]

    def counted(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == steps:
            stop.set()
        return original(*arguments)

    monkeypatch.setattr(kind, method, counted)


def test_the_newest_run_is_played_unless_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--episodes=1", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["run"] == "runs/one"
    assert "runs/one" in printed.err


def test_without_a_run_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert main(["eval"]) == 2
    assert "asyncade eval RUN" in capsys.readouterr().err


def test_ctrl_c_reports_the_games_that_are_finished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_after(2 * (CELLS - 1) + 1, monkeypatch, Round, "step")
    assert main([*EVAL, "--video=game.gif"]) == 130
    report = json.loads(capsys.readouterr().out)
    assert report["episodes"] == 2
    assert report["interrupted"]
    assert -1 <= report["mean"] <= 1
    assert not list(Path().glob("*game*"))


def test_ctrl_c_before_the_first_end_reports_no_games(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_after(1, monkeypatch, Round, "step")
    assert main([*EVAL]) == 130
    assert json.loads(capsys.readouterr().out)["episodes"] == 0


@pytest.mark.parametrize(
    "video", ["game", "game.avi", "runs", "runs/one/config.json/game.gif", "absent/deep/game.gif"]
)
def test_a_film_that_cannot_be_written_is_refused_before_a_game_is_played(
    video: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Round, "step", lambda *_: pytest.fail("a game was played"))
    assert main([*EVAL, f"--video={video}"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert video in printed.err
    assert not Path("absent").exists()


def test_results_are_printed_before_a_film_that_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path(".game.gif.partial").symlink_to("/dev/full")
    assert main([*EVAL, "--video=game.gif"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["episodes"] == 3
    assert "game.gif" in printed.err


@pytest.mark.parametrize("name", ["game.gif", "game.mp4"])
def test_the_film_shows_one_game(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EVAL, f"--video={name}"]) == 0
    assert f"{name}, {CELLS} env steps" in capsys.readouterr().err
    assert Path(name).stat().st_size > 100


def test_a_game_without_end_fills_the_film_and_no_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Film, "full", property(lambda film: film.env_steps >= 5))
    assert main([*EVAL, "--video=game.gif"]) == 0
    assert "5 env steps, 0 seconds: the beginning of a game" in capsys.readouterr().err


def test_ctrl_c_while_filming_keeps_the_beginning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_after(4, monkeypatch, Film, "add")
    assert main([*EVAL, "--video=game.gif"]) == 130
    printed = capsys.readouterr()
    assert json.loads(printed.out)["episodes"] == 3
    assert "filming a game" in printed.err
    assert "4 env steps, 0 seconds: the beginning of a game, interrupted" in printed.err
    assert Path("game.gif").read_bytes().startswith(b"GIF89a")


def test_a_report_that_cannot_be_printed_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert main([*EVAL]) == 1


def test_progress_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LINES", 0.0)
    assert main([*EVAL]) == 0
    printed = capsys.readouterr()
    assert "2 of 3 games, mean" in printed.err
    assert json.loads(printed.out)["episodes"] == 3


def test_the_report_for_people_has_figures_and_protocol(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*EVAL[:-1], "--policy=greedy", "--seed=5"]) == 0
    printed = capsys.readouterr().out
    for fact in ("mean return", "95% interval", "median", "3 games", "000000000000.safetensors"):
        assert fact in printed
    for fact in ("seeds from 5", "most probable", "1 game in parallel", "84x84"):
        assert fact in printed
