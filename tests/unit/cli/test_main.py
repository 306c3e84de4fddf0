"""The commands' exit codes and help, and refused input."""

from __future__ import annotations

import importlib
import re
import runpy
import signal
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

import asyncade_cli
from asyncade_cli.__main__ import main
from asyncade_cli.commands import SERVICES, USAGE, USAGE_ERROR
from asyncade_cli.completion import SHELLS, script
from asyncade_rl.games import num_actions


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ([], USAGE_ERROR, "asyncade COMMAND"),
        (["--help"], 0, "asyncade COMMAND"),
        (["help"], 0, "asyncade COMMAND"),
        (["help", "keys"], 0, "asyncade keys FOLDER"),
        (["export"], USAGE_ERROR, "example: asyncade export"),
        (["trian"], USAGE_ERROR, "asyncade train?"),
        (["--verison"], USAGE_ERROR, "asyncade --version?"),
        (["nonsense"], USAGE_ERROR, "asyncade --help"),
        (["--version"], 0, version("asyncade")),
        (["eval"], USAGE_ERROR, "asyncade eval RUN, or train one first: asyncade train"),
        (["eval", "absent"], USAGE_ERROR, "absent"),
        (["watch"], USAGE_ERROR, "asyncade watch RUN"),
        (["watch", "absent"], USAGE_ERROR, "absent"),
        (["watch", "absent", "--prot=1"], USAGE_ERROR, "--port"),
        (["keys"], USAGE_ERROR, "asyncade keys FOLDER"),
        (["keys", "--help"], 0, "asyncade keys FOLDER"),
        (["train", "--game=Pong"], USAGE_ERROR, "did you mean pong?"),
        (["train", "--actors=0"], USAGE_ERROR, "--actors"),
        (["train", "--envs=600"], USAGE_ERROR, "--envs"),
        (["compare", "--runs", "absent", "other"], USAGE_ERROR, "absent"),
        (["loadgen", "--upstream-address=nonsense"], USAGE_ERROR, "nonsense"),
        (["completion"], USAGE_ERROR, "asyncade completion bash"),
        (["completion", "nonsense"], USAGE_ERROR, "asyncade completion bash"),
        (["relay", "--nonsense=1"], USAGE_ERROR, "--nonsense"),
    ],
)
def test_bad_input_is_named(
    arguments: list[str],
    code: int,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    printed = capsys.readouterr()
    assert named in printed.out + printed.err
    assert not list(tmp_path.iterdir())


def test_ctrl_c_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("asyncade_runtime.transport.keys.make_keys", interrupted)
    assert main(["keys", "folder"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_ctrl_c_before_there_is_a_handler_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "asyncade_cli.entry", Interrupted("asyncade_cli.entry"))
    for run_name in ("__main__", "asyncade_cli.__main__"):  # python -m, and the installed command
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(Path(asyncade_cli.__file__).with_name("__main__.py")), {}, run_name)
        assert ended.value.code == 130
        assert capsys.readouterr().err == "interrupted\n"


def test_ctrl_c_amid_an_import_waits_for_its_end(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    lines = ["import os, signal", "os.kill(os.getpid(), signal.SIGINT)", "whole = True"]
    (tmp_path / "interrupted_module.py").write_text("\n".join(lines))

    imported = []

    def importing(*_: object) -> int:
        imported.append(importlib.import_module("interrupted_module"))
        threading.Event().wait(60)  # for the interrupt
        return 0

    monkeypatch.setattr("asyncade_runtime.transport.keys.make_keys", importing)
    assert main(["keys", "folder"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert [module.whole for module in imported] == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_of_a_game_that_is_not_installed_here_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(*_: object) -> int:
        return num_actions("dodge")

    monkeypatch.setattr("asyncade_cli.evaluate.evaluate_and_print", unknown)
    assert main(["eval", "run"]) == USAGE_ERROR
    assert "'dodge'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_misspelt_variable_of_a_service_is_refused_before_anything_starts(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for service, setting in (("ACTOR", "ENV_THREADS"), ("LEARNER", "LEARNING_RATE")):
        with monkeypatch.context() as misspelt:
            misspelt.setenv(f"ASYNCADE_{service}_{setting[:-1]}", "2")
            assert main([command]) == USAGE_ERROR
        assert f"did you mean ASYNCADE_{service}_{setting}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def commands() -> list[str]:
    """Returns the commands that ``asyncade --help`` lists."""
    return re.findall(r"^  ([a-z]+) ", USAGE, re.MULTILINE)


def test_every_service_is_a_command() -> None:
    assert set(SERVICES) < set(commands())


@pytest.mark.parametrize("command", commands())
def test_every_command_has_help_that_ends_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    try:
        code: object = main([command, "--help"])
    except SystemExit as ended:
        code = ended.code
    assert code == 0
    printed = "".join(capsys.readouterr())
    assert f"usage: asyncade {command}" in printed
    assert re.match(rf"example: .*asyncade {command}\b", printed.splitlines()[-1])


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert [one for one in commands() if not re.search(rf"\b{one}\b", script)] == []
    assert "--max-env-steps" in script


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("trai", {"train"}),
        ("train --max-m", {"--max-minutes"}),
        ("train --mode ", {"data", "gradients"}),
        ("train --game brea", {"breakout"}),
        ("train --qui", {"--quiet"}),
        ("eval fold", {"folder"}),
        ("eval --policy ", {"sample", "greedy"}),
        ("train --run-dir fold", {"folder"}),
        ("keys fold", {"folder"}),
        ("completion ", set(SHELLS)),
    ],
)
def test_bash_completes(typed: str, offered: set[str], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    program = """
        source /dev/stdin
        read -ra COMP_WORDS <<< "asyncade $1"
        [[ $1 == *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _shtab_asyncade asyncade "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", program, "bash", typed],
        input=script("bash"),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert set(done.stdout.split()) == offered, done.stderr


def test_keys_are_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "keys"
    assert main(["keys", str(folder)]) == 0
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files
    assert main(["keys", str(folder)]) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files
    assert str(folder / "learner") in capsys.readouterr().out
    (tmp_path / "file").touch()
    assert main(["keys", str(tmp_path / "file" / "keys")]) == USAGE_ERROR
