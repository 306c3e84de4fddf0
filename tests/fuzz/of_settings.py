"""Settings: environment, command line, and config.json of a run that is resumed.

An input is pieces between zero bytes. The first piece's first byte chooses the service; the others
begin with E (a variable of the environment), A (an argument) or C (config.json: the rest of the
input, zero bytes and all).
"""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Final

import builders
from asyncade_actor.settings import ActorSettings
from asyncade_evaluator.settings import EvaluatorSettings
from asyncade_learner import stored
from asyncade_learner.settings import LearnerSettings
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import REQUESTS
from asyncade_relay.settings import RelaySettings
from asyncade_runtime.files import RunFolderError
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.settings import Settings, SettingsError, flag_of, load, variable_of
from fuzz.of_checkpoint import edit
from fuzz.scratch import scratch
from fuzz.targets import Mutation, Target

CLASSES: Final[Sequence[type[Settings]]] = (
    LearnerSettings,
    ActorSettings,
    RelaySettings,
    EvaluatorSettings,
)

MEMORY: Final = 64 * 2**20

_VALUES: Final = (
    *("0", "1", "-1", "0.5", "1e400", "nan", "inf", "-inf", "1e-320", "1_000", "0x10", " 1", "1 "),
    *("", "null", "true", "false", "pong", "catch", "data", "gradients", "auto", "must", "never"),
    *("~", "~nobody/x", "~/runs", "/", "tcp://*:5555", "[]", "{}", '["a"]', "9" * 5000, "1" * 400),
    *("\udcff", "\u0661", "\U0001f3ae", "-", "--", "=", "1e7", "1e6", "2147483648", "1048577"),
)


@cache
def _folder() -> RunFolder:
    folder = scratch()
    folder.checkpoint_file(1).write_bytes(b"")  # so that there is a run to be resumed
    return folder


def run(data: bytes) -> None:
    """Reads the settings of one service; those that are accepted can be used."""
    cls, environ, argv, config = parsed(data)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            settings = load(cls, argv, environ)
        except SettingsError:
            return
        except SystemExit as end:
            assert end.code == 0  # noqa: PT017  only after --help
            return
    json.dumps(settings.model_dump(mode="json"))
    if isinstance(settings, ActorSettings | RelaySettings):
        own = settings.actor_id if isinstance(settings, ActorSettings) else settings.relay_id
        decode(encode(builders.trajectory(actor_id=own or "a")))
    if isinstance(settings, LearnerSettings):
        _resumed(settings, config)


def _resumed(settings: LearnerSettings, config: bytes | None) -> None:
    """Completes the settings with stored ones; actors can read the assignment that results."""
    folder = _folder()
    path = folder.root / "config.json"
    path.unlink(missing_ok=True)
    if config is not None:
        path.write_bytes(config)
    with contextlib.suppress(RunFolderError):
        folder.sticky()
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    try:
        settings = LearnerSettings(**{**given, "run_dir": folder.root})
        settings = stored.with_stored(settings)
        changed = stored.changed(settings)
    except (SettingsError, RunFolderError):
        return
    json.dumps(changed)
    for request in REQUESTS:
        for remaining in (1.0, 0.0):
            assignment = settings.assignment(request, remaining, actors=3)
            decode(encode(replace(builders.weights(), assignment=assignment)))


def parsed(
    data: bytes,
) -> tuple[type[Settings], dict[str, str], list[str], bytes | None]:
    """Returns the service, its environment, its arguments, and config.json if there is one."""
    first, _, rest = data.partition(b"\0")
    environ: dict[str, str] = {}
    argv: list[str] = []
    while rest:
        if rest[:1] == b"C":
            return _class(first), environ, argv, rest[1:]
        piece, _, rest = rest.partition(b"\0")
        text = piece[1:].decode(errors="surrogateescape")
        if piece[:1] == b"E":
            name, _, value = text.partition("=")
            environ[name] = value
        else:
            argv.append(text)
    return _class(first), environ, argv, None


def _class(first: bytes) -> type[Settings]:
    return CLASSES[first[0] % len(CLASSES)] if first else CLASSES[0]


def _written(cls: int, environ: dict[str, str], argv: list[str], config: bytes | None) -> bytes:
    pieces = [b"E" + f"{n}={v}".encode(errors="surrogateescape") for n, v in environ.items()]
    pieces += [b"A" + argument.encode(errors="surrogateescape") for argument in argv]
    pieces = [piece.replace(b"\0", b"") for piece in pieces]
    return b"\0".join([bytes([1 + cls]), *pieces, *([] if config is None else [b"C" + config])])


@cache
def seeds() -> Sequence[bytes]:
    """Returns a start of each service, and a resumed run."""
    config = json.dumps({"learner": LearnerSettings(game="catch").model_dump(mode="json")}).encode()
    return [
        _written(3, {"ASYNCADE_LEARNER_SEED": "3"}, ["--game", "catch"], config),
        _written(3, {}, ["--target=18", "--no-vtrace", "--clip", "null"], None),
        _written(0, {"ASYNCADE_ACTOR_ENVS": "4"}, ["--envs=2"], None),
        _written(1, {"PATH": "/bin"}, ["--relay-id", "r", "--max-policy-lag", "2"], None),
        _written(2, {}, ["--help"], None),
    ]


def mutate(data: bytes, rng: random.Random, plainly: Mutation) -> bytes:
    """Changes, adds or removes a variable or an argument, or edits config.json."""
    if rng.random() < 0.05:
        return plainly(data)
    cls, environ, argv, config = parsed(data or rng.choice(seeds()))
    name = rng.choice(list(cls.model_fields))
    value = rng.choice(_VALUES)
    if rng.random() < 0.3:
        value = plainly(value.encode(errors="surrogateescape")).decode(errors="surrogateescape")
    match rng.randrange(9):
        case 0:
            environ[variable_of(cls, name)] = value
        case 1 | 2:
            argv.append(f"{flag_of(name)}={value}")
        case 3:
            argv += [flag_of(name), value]
        case 4 if argv:
            del argv[rng.randrange(len(argv))]
        case 5 if environ:
            del environ[rng.choice(list(environ))]
        case _:
            config = _edited(config or parsed(seeds()[0])[3] or b"", rng, plainly)
    return _written(CLASSES.index(cls) - 1 & 3, environ, argv[:12], config)


def _edited(config: bytes, rng: random.Random, plainly: Mutation) -> bytes:
    if rng.random() < 0.1:
        return rng.choice((b"[" * 50_000, b"{}", b"[]", b'{"learner": []}', plainly(config)))
    try:
        content = json.loads(config)
        edit(content, rng, plainly)
        if rng.random() < 0.3:
            content["learner"][rng.choice(list(LearnerSettings.model_fields))] = rng.choice(_VALUES)
        return json.dumps(content).encode()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return parsed(seeds()[0])[3] or b""


TARGET: Final = Target(run=run, seeds=seeds, mutate=mutate, memory=MEMORY, largest=64 * 2**10)
