"""Settings: sources and their precedence, types, and errors that name the setting."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

import pytest
from pydantic import Field, model_validator

from asyncade_runtime.settings import (
    Settings,
    SettingsConfigDict,
    SettingsError,
    changes,
    continued,
    load,
)


class Example(Settings):
    """Plays games,
    many of them.
    """

    model_config = SettingsConfigDict(env_prefix="EXAMPLE_", cli_prog_name="example")

    unroll_length: int = Field(default=32, ge=1, le=512, description="Steps per trajectory.")
    target: float | None = Field(default=18.0, description="Mean return to stop at; `a|b`.")
    mode: Literal["data", "gradients"] = Field(default="data", description="What is sent.")
    run_dir: Path = Field(default=Path("runs"), description="Where results go.")
    resume: bool = Field(default=False, description="Continue from the last checkpoint.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.resume and self.mode == "gradients":
            raise ValueError("--resume needs --mode data")
        return self


class Needy(Settings):
    model_config = SettingsConfigDict(env_prefix="NEEDY_", cli_prog_name="needy")

    learner: str = Field(description="Address of the learner.")


class Paths(Settings):
    model_config = SettingsConfigDict(env_prefix="PATHS_", cli_prog_name="paths")

    runs: tuple[Path, ...] = Field((), description="Folders.")


def problems(*argv: str, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(Example, argv, environ)
    return str(caught.value).splitlines()


def test_without_arguments_settings_are_the_defaults() -> None:
    assert load(Example, [], {}) == Example()


def test_flag_beats_environment_beats_default() -> None:
    environ = {"EXAMPLE_UNROLL_LENGTH": "64", "EXAMPLE_MODE": "gradients"}
    settings = load(Example, ["--unroll-length", "128"], environ)
    assert settings.unroll_length == 128
    assert settings.mode == "gradients"
    assert settings.target == 18.0


def test_values_are_typed() -> None:
    settings = load(Example, ["--run-dir=/data/a", "--resume"], {"EXAMPLE_TARGET": "20.5"})
    assert settings.run_dir == Path("/data/a")
    assert settings.resume is True
    assert settings.target == 20.5


def test_boolean_flags_have_a_negative() -> None:
    assert load(Example, ["--no-resume"], {"EXAMPLE_RESUME": "true"}).resume is False
    assert load(Example, [], {"EXAMPLE_RESUME": "true"}).resume is True


def test_empty_variable_counts_as_unset() -> None:
    assert load(Example, [], {"EXAMPLE_UNROLL_LENGTH": ""}).unroll_length == 32


def test_null_switches_an_optional_setting_off() -> None:
    assert load(Example, ["--target", "null"], {}).target is None
    assert load(Example, [], {"EXAMPLE_TARGET": "null"}).target is None
    assert load(Example, ["--target", "3"], {"EXAMPLE_TARGET": "null"}).target == 3.0


def test_negative_numbers_are_values_not_flags() -> None:
    assert load(Example, ["--target", "-20.5"], {}).target == -20.5


def test_the_process_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_UNROLL_LENGTH", "64")
    monkeypatch.setenv("UNROLL_LENGTH", "65")
    assert load(Example, [], {}).unroll_length == 32
    assert Example().unroll_length == 32


def test_variables_of_others_are_ignored() -> None:
    assert load(Example, [], {"PATH": "/bin", "EXAMPLES_X": "1", "UNROLL_LENGTH": "9"}) == Example()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Example().unroll_length = 3


def test_unknown_variable_is_named_with_the_closest_known() -> None:
    (line,) = problems(EXAMPLE_UNROL_LENGTH="3")
    assert "EXAMPLE_UNROL_LENGTH;" in line
    assert "EXAMPLE_UNROLL_LENGTH?" in line


def test_unknown_flag_is_named_with_the_closest_known() -> None:
    (line,) = problems("--unrol-length=3")
    assert "--unrol-length;" in line
    assert "--unroll-length?" in line


def test_an_unknown_name_unlike_any_other_points_to_help() -> None:
    (line,) = problems("--zzz")
    assert "--zzz" in line
    assert "--help" in line


def test_every_bad_value_gets_a_line_with_both_names() -> None:
    lines = problems("--unroll-length", "0", "--mode", "both", EXAMPLE_TARGET="high")
    assert len(lines) == 3
    for line, name, value in zip(
        lines, ("unroll-length", "target", "mode"), ("0", "high", "both"), strict=True
    ):
        variable = f"EXAMPLE_{name.upper().replace('-', '_')}"
        assert line.startswith(f"--{name} ({variable}) ")
        assert repr(value) in line
    assert lines[1].endswith(" takes a number, not 'high'")
    assert lines[2].endswith("'data' or 'gradients'")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_numbers_are_finite(number: str) -> None:
    (line,) = problems(f"--target={number}")
    assert line.startswith("--target (EXAMPLE_TARGET) cannot be ")


def test_a_path_may_begin_with_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert load(Example, ["--run-dir=~/runs"], {}).run_dir == Path("/home/me/runs")
    assert load(Example, [], {"EXAMPLE_RUN_DIR": "~"}).run_dir == Path("/home/me")
    assert load(Example, ["--run-dir=a/~/b"], {}).run_dir == Path("a/~/b")
    assert load(Paths, ["--runs", '["~/a","b"]'], {}).runs == (Path("/home/me/a"), Path("b"))
    (line,) = problems("--run-dir=~nobody-of-this-name/runs")
    assert line.startswith("--run-dir")


def test_a_rule_between_settings_gives_its_own_error() -> None:
    assert problems("--resume", "--mode=gradients") == ["--resume needs --mode data"]


def test_a_flag_without_its_value_is_an_error() -> None:
    (line,) = problems("--unroll-length")
    assert "--unroll-length" in line


def test_a_stray_word_is_an_error() -> None:
    (line,) = problems("data")
    assert "data" in line


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^--learner \(NEEDY_LEARNER\) is required$"):
        load(Needy, [], {})
    assert load(Needy, [], {"NEEDY_LEARNER": "tcp://a:1"}).learner == "tcp://a:1"


def test_help_shows_every_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        load(Example, ["--help"], {})
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "usage: example" in text
    assert "Plays games, many of them." in text
    assert "--target NUMBER" in text
    assert "--mode {data,gradients}" in text
    for name, field in Example.model_fields.items():
        assert "--" + name.replace("_", "-") in text
        assert f"(default: {field.default}) [env: EXAMPLE_{name.upper()}]" in text
        assert field.description is not None
        assert field.description in text


class Short(Settings):
    model_config = SettingsConfigDict(env_prefix="SHORT_", cli_prog_name="short")
    short_for: ClassVar = {"--quiet": "--display=quiet"}

    display: Literal["auto", "quiet"] = Field(default="auto", description="What is shown.")
    target: float | None = Field(default=None, description="An end; default: 18 for pong.")
    actors: int = Field(default_factory=lambda: 2, description="default: one per core")
    paths: tuple[Path, ...] = Field((), description="Folders.")


def test_a_flag_may_be_short_for_another() -> None:
    assert load(Short, ["--quiet"], {}).display == "quiet"
    with pytest.raises(SettingsError, match="did you mean --quiet"):
        load(Short, ["--quite"], {})


def test_help_needs_no_python(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        load(Short, ["--help"], {})
    text = capsys.readouterr().out
    assert "the same as --display quiet" in text
    assert "--paths PATH,..." in text
    for internal in ("null", "factory", "{{", "float", "tuple"):
        assert internal not in text


def test_a_run_that_continues_keeps_what_is_not_given_now() -> None:
    before = {"unroll_length": 64, "target": None, "mode": "gradients", "of_another_release": 1}
    held = ("unroll_length", "target")
    now = load(Example, ["--target=3"], {})
    after = continued(now, before, held)
    assert (after.unroll_length, after.target, after.mode) == (64, 3.0, "data")
    assert changes(after, before, held) == {"target": "None -> 3.0"}
    assert continued(now, {}, held) == now
    with pytest.raises(SettingsError, match="stored --unroll-length"):
        continued(now, {"unroll_length": 0}, held)
