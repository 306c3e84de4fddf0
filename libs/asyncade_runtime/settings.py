"""Settings of a service: a frozen, typed record, read once at start-up.

A command-line flag overrides an environment variable, which overrides the default. Only start-up
code calls `load`, with the process's arguments and environment.

    class ActorSettings(Settings):
        '''Plays Atari games and sends trajectories to the learner.'''

        model_config = SettingsConfigDict(
            env_prefix="ASYNCADE_ACTOR_", cli_prog_name="asyncade-actor"
        )

        unroll_length: int = Field(32, ge=1)
        '''env steps per trajectory'''

    settings = load(ActorSettings, sys.argv[1:], os.environ)
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar, get_args, get_origin

import pydantic
import pydantic_settings
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

__all__ = [
    "Settings",
    "SettingsConfigDict",
    "SettingsError",
    "changes",
    "continued",
    "flag_of",
    "load",
    "variable_of",
]

_NONE = "null"
"""Value of a flag or variable that switches an optional setting off."""


_EXAMPLE = "example: "


class SettingsError(ValueError):
    """Settings are invalid. The message has one line per problem."""


class Settings(BaseSettings):
    """Base class of settings. Subclasses define `env_prefix` and `cli_prog_name`.

    Fields are flat, without aliases: the field ``unroll_length`` is the flag ``--unroll-length``
    and the variable ``PREFIX_UNROLL_LENGTH``. ``--help`` shows the class docstring and the
    docstring below each field. Constructing an instance reads neither the environment nor the
    command line.

    Attributes:
        example: command line that ``--help`` ends with.
        short_for: flag to the flag and value that it is short for.
    """

    example: ClassVar[str] = ""
    short_for: ClassVar[Mapping[str, str]] = {}

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        cli_parse_none_str=_NONE,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_show_env_vars=True,
        cli_exit_on_error=False,
    )

    @pydantic.field_validator("*")
    @classmethod
    def _expand_home(cls, value: Any) -> Any:
        """Expands a leading ``~``, which a shell leaves in ``--run-dir=~/runs``."""
        if isinstance(value, tuple):
            return tuple(map(cls._expand_home, value))
        try:
            return value.expanduser() if isinstance(value, Path) else value
        except RuntimeError as error:  # no such user
            raise ValueError(str(error)) from error

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Reads only the constructor's arguments; `load` adds the other sources."""
        return (init_settings,)


S = TypeVar("S", bound=Settings)


def load(cls: type[S], argv: Sequence[str], environ: Mapping[str, str]) -> S:
    """Reads the settings of one service.

    Args:
        cls: class of the settings.
        argv: command line without the program's name.
        environ: environment variables. Variables without the prefix are ignored, and so are empty
            ones: ``ACTORS=`` in a Compose file means the default.

    Returns:
        The validated settings.

    Raises:
        SettingsError: unknown flag or variable, or invalid value.
        SystemExit: after printing ``--help``.
    """
    argv = [cls.short_for.get(argument, argument) for argument in argv]
    problems = [*_unknown_variables(cls, environ), *_unknown_flags(cls, argv)]
    if problems:
        raise SettingsError("\n".join(problems))
    try:
        from_environment = EnvSettingsSource(cls)
        # The library reads os.environ itself; replace what it read by our argument.
        from_environment.env_vars = {key.lower(): value for key, value in environ.items() if value}
        from_flags: CliSettingsSource[Any] = CliSettingsSource(cls, formatter_class=_Help)
        _put_in_words(cls, from_flags.root_parser)
        from_flags.root_parser.epilog = f"{_EXAMPLE}{cls.example}" if cls.example else None
        from_flags(args=argv)
        given = {**_with_none(from_environment()), **from_flags()}
    except pydantic_settings.SettingsError as error:
        reason = f": {error.__cause__}" if error.__cause__ else ""
        raise SettingsError(str(error).removeprefix("error parsing CLI: ") + reason) from error
    try:
        return cls(**given)
    except pydantic.ValidationError as error:
        lines = [_explained(cls, detail) for detail in error.errors()]
        raise SettingsError("\n".join(lines)) from None


def continued(settings: S, before: Mapping[str, Any], held: Collection[str]) -> S:
    """Returns the settings of a run that continues: what was not given now is as before.

    Args:
        settings: as given now.
        before: stored settings; those of another release are ignored.
        held: names of the settings that continue.

    Raises:
        SettingsError: a stored value is invalid.
    """
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    stored = {name: before[name] for name in held if name in before}
    try:
        return type(settings)(**{**stored, **given})
    except pydantic.ValidationError as error:
        lines = [f"stored {_explained(type(settings), detail)}" for detail in error.errors()]
        raise SettingsError("\n".join(lines)) from None


def changes(settings: Settings, before: Mapping[str, Any], held: Collection[str]) -> dict[str, str]:
    """Returns name to ``old -> new`` of the `held` settings that are not as before."""
    now = settings.model_dump(mode="json", include=set(held))
    return {
        name: f"{before[name]} -> {value}"
        for name, value in now.items()
        if name in before and before[name] != value
    }


_EXPECTED: Final = {
    **{"int_parsing": "a whole number", "int_from_float": "a whole number"},
    **{"float_parsing": "a number", "bool_parsing": "true or false"},
}
"""What a setting takes, by pydantic's name of the error."""

_WORDS: Final = {int: "NUMBER", float: "NUMBER", bool: "{true,false}", Path: "PATH", str: "TEXT"}
"""What a flag of a type is followed by, in ``--help``."""


def _put_in_words(cls: type[Settings], parser: argparse.ArgumentParser) -> None:
    """Makes ``--help`` readable for those who do not know Python's types."""
    for action in parser._actions:
        name = action.option_strings[-1].removeprefix("--").replace("-", "_")
        if (field := cls.model_fields.get(name)) is None:
            continue
        if action.metavar is not None:
            action.metavar = _metavar(field.annotation)
        if "default: " in (field.description or ""):  # that says more than the value
            action.help = re.sub(r" \(default(: null| factory: [^)]*)\)", "", action.help or "")
    for flag, meaning in cls.short_for.items():
        meant = f"the same as {meaning.replace('=', ' ')}"
        parser.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=meant)


def _metavar(annotation: Any) -> str:
    words = list(dict.fromkeys(_words(annotation)))
    return words[0] if len(words) == 1 else "{" + ",".join(words) + "}"


def _words(annotation: Any) -> list[str]:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return list(map(str, inner))
    if origin is Annotated:
        return _words(inner[0])
    if origin is tuple:
        return [f"{word},..." for word in _words(inner[0])]
    if inner:
        return [word for one in inner for word in _words(one)]
    return [] if annotation is type(None) else [_WORDS.get(annotation, "VALUE")]


class _Help(argparse.HelpFormatter):
    """Leaves the example in one line, to be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(_EXAMPLE) else super()._fill_text(text, width, indent)


def _with_none(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if value == _NONE else value for name, value in given.items()}


def flag_of(name: str) -> str:
    """Returns a setting's flag, such as ``--unroll-length``."""
    return "--" + name.replace("_", "-")


def variable_of(cls: type[Settings], name: str) -> str:
    """Returns a setting's environment variable, such as ``ASYNCADE_LEARNER_UNROLL_LENGTH``."""
    return f"{cls.model_config.get('env_prefix', '')}{name}".upper()


def _unknown_variables(cls: type[Settings], environ: Mapping[str, str]) -> Iterator[str]:
    prefix = cls.model_config.get("env_prefix", "").upper()
    known = [variable_of(cls, name) for name in cls.model_fields]
    for variable in sorted(environ):
        ours = prefix and variable.upper().startswith(prefix)
        if ours and variable.upper() not in known:
            yield f"unknown environment variable {variable}{_suggestion(variable, known)}"


def _unknown_flags(cls: type[Settings], argv: Sequence[str]) -> Iterator[str]:
    known = ["--help", *cls.short_for]
    for name, field in cls.model_fields.items():
        known.append(flag_of(name))
        if field.annotation is bool:
            known.append("--no-" + name.replace("_", "-"))
    for argument in argv:
        flag = argument.partition("=")[0]
        if flag.startswith("--") and flag not in known:
            yield f"unknown flag {flag}{_suggestion(flag, known)}"


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name.upper(), [candidate.upper() for candidate in known], 1)
    spelled = [candidate for candidate in known if candidate.upper() in close]
    return f"; did you mean {spelled[0]}?" if spelled else "; see --help"


def _explained(cls: type[Settings], detail: ErrorDetails) -> str:
    message = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return message  # a rule about several settings names them itself
    name = str(detail["loc"][0])
    where = f"{flag_of(name)} ({variable_of(cls, name)})"
    if detail["type"] == "missing":
        return f"{where} is required"
    if (expected := _EXPECTED.get(detail["type"])) is not None:
        return f"{where} takes {expected}, not {detail['input']!r}"
    message = message.replace("Input should be", "it must be")
    return f"{where} cannot be {detail['input']!r}: {message}"
