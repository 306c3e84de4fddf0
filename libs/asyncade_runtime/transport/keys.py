"""Who may talk to whom: CURVE encrypts connections, and the learner lets in only keys it knows.

A folder of keys is either the learner's or an actor's, so that neither needs the other's secret:

    keys/learner/learner.key_secret    the learner's pair
    keys/learner/actor.key             public: who is let in; any number of .key files
    keys/actor/actor.key_secret        the actors' pair
    keys/actor/learner.key             public: whom actors trust

Files are as pyzmq's `zmq.auth` and czmq write them. Source: ZeroMQ RFC 26 (CurveZMQ), RFC 27 (ZAP).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

LEARNER: Final = "learner"
ACTOR: Final = "actor"

Options: TypeAlias = dict[zmq.SocketOption, int | bytes]

_DOMAIN: Final = "asyncade"
_SECRET: Final = ".key_secret"
_PUBLIC: Final = ".key"


class KeysError(ValueError):
    """A folder of keys that cannot be used. The message names it and the cure."""


@dataclass(frozen=True, slots=True)
class LearnerKeys:
    """The side that is connected to.

    Attributes:
        public: 40 characters of Z85 (RFC 32).
        secret: likewise.
        allowed: the folder of the public keys that are let in.
    """

    public: bytes
    secret: bytes
    allowed: Path

    def options(self) -> Options:
        """Returns what a socket has to be told before it binds."""
        return {
            zmq.CURVE_SERVER: 1,
            zmq.CURVE_PUBLICKEY: self.public,
            zmq.CURVE_SECRETKEY: self.secret,
            # Without an authenticator, CURVE alone lets everybody in; this lets nobody in then.
            zmq.ZAP_DOMAIN: _DOMAIN.encode(),
            zmq.ZAP_ENFORCE_DOMAIN: 1,
        }


@dataclass(frozen=True, slots=True)
class ActorKeys:
    """The side that connects.

    Attributes:
        public: 40 characters of Z85.
        secret: likewise.
        learner: the learner's public key: nobody else is talked to.
    """

    public: bytes
    secret: bytes
    learner: bytes

    def options(self) -> Options:
        """Returns what a socket has to be told before it connects."""
        return {
            zmq.CURVE_SERVERKEY: self.learner,
            zmq.CURVE_PUBLICKEY: self.public,
            zmq.CURVE_SECRETKEY: self.secret,
        }


def load_learner_keys(folder: Path) -> LearnerKeys:
    """Reads a learner's folder.

    Raises:
        KeysError: a key is missing or none.
    """
    public, secret = _pair(folder, LEARNER)
    if not any(folder.glob(f"*{_PUBLIC}")):
        raise KeysError(
            f"{folder} holds no actor's {_PUBLIC} file: nobody could be let in; {_CURE}"
        )
    return LearnerKeys(public=public, secret=secret, allowed=folder)


def load_actor_keys(folder: Path) -> ActorKeys:
    """Reads an actor's folder.

    Raises:
        KeysError: a key is missing or none.
    """
    public, secret = _pair(folder, ACTOR)
    learner, _ = _read(folder / f"{LEARNER}{_PUBLIC}")
    return ActorKeys(public=public, secret=secret, learner=learner)


@contextmanager
def authenticating(context: zmq.SyncContext, keys: LearnerKeys | None) -> Iterator[None]:
    """While it lasts, sockets of this context that have these keys let in only keys that are known.

    Public keys added to the folder later count from the next start on.
    """
    if keys is None:
        yield
        return
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    try:
        authenticator.configure_curve(domain=_DOMAIN, location=os.fspath(keys.allowed))
        yield
    finally:
        authenticator.stop()


def make_keys(folder: Path) -> bool:
    """Makes the folders of a learner and of its actors, unless they are there.

    Args:
        folder: that both are in.

    Returns:
        Whether they were made; False if they were complete.

    Raises:
        OSError: they cannot be written.
    """
    parts = {LEARNER: folder / LEARNER, ACTOR: folder / ACTOR}
    other = {LEARNER: ACTOR, ACTOR: LEARNER}
    secrets = {name: part / f"{name}{_SECRET}" for name, part in parts.items()}
    publics = {name: parts[other[name]] / f"{name}{_PUBLIC}" for name in parts}
    if all(path.exists() for path in (*secrets.values(), *publics.values())):
        return False
    with tempfile.TemporaryDirectory() as made:
        for name in parts:
            parts[name].mkdir(parents=True, exist_ok=True)
            zmq.auth.create_certificates(made, name)
        for name in parts:
            _put(Path(made) / secrets[name].name, secrets[name], mode=0o600)
            _put(Path(made) / publics[name].name, publics[name], mode=0o644)
    return True


_CURE: Final = "asyncade keys FOLDER makes both sides' keys"


def _put(source: Path, path: Path, mode: int) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode, exist_ok=False)  # the mode first: nobody else may read it for a moment
    path.write_bytes(source.read_bytes())


def _pair(folder: Path, name: str) -> tuple[bytes, bytes]:
    path = folder / f"{name}{_SECRET}"
    public, secret = _read(path)
    if secret is None:
        raise KeysError(f"{path} holds no secret key; {_CURE}")
    return public, secret


def _read(path: Path) -> tuple[bytes, bytes | None]:
    try:
        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise KeysError(f"{path} cannot be read ({error}); {_CURE}") from error
    for key in (public, secret):
        if key is not None and len(key) != 40:
            raise KeysError(f"{path} holds a key of {len(key)} characters, not 40; {_CURE}")
    return public, secret
