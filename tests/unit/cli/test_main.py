"""The commands' exit codes and help, and refused input."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from asyncade_cli.__main__ import SERVICES, USAGE_ERROR, main


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ([], USAGE_ERROR, "asyncade COMMAND"),
        (["--help"], 0, "asyncade COMMAND"),
        (["trian"], USAGE_ERROR, "asyncade train?"),
        (["--verison"], USAGE_ERROR, "asyncade --version?"),
        (["nonsense"], USAGE_ERROR, "asyncade --help"),
        (["--version"], 0, version("asyncade")),
        (["eval"], USAGE_ERROR, "asyncade eval RUN"),
        (["eval", "absent"], USAGE_ERROR, "absent"),
        (["watch"], USAGE_ERROR, "asyncade watch RUN"),
        (["watch", "absent"], USAGE_ERROR, "absent"),
        (["watch", "absent", "--prot=1"], USAGE_ERROR, "--port"),
        (["keys"], USAGE_ERROR, "asyncade keys FOLDER"),
        (["keys", "--help"], 0, "asyncade keys FOLDER"),
        (["train", "--actors=0"], USAGE_ERROR, "--actors"),
        (["train", "--envs=600"], USAGE_ERROR, "--envs"),
        (["compare", "--runs", "absent", "other"], USAGE_ERROR, "absent"),
        (["loadgen", "--upstream-address=nonsense"], USAGE_ERROR, "nonsense"),
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


@pytest.mark.parametrize("command", [*SERVICES, "train", "eval", "watch", "compare", "loadgen"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: asyncade {command}" in capsys.readouterr().out.replace("asyncade-", "asyncade ")


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
