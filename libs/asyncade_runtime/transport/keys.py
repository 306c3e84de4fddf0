"""CURVE keys: encrypted connections, and a learner that admits only known public keys.

The learner and the actors have separate folders, so neither holds the other's secret key:

    keys/learner/learner.key_secret    the learner's key pair
    keys/learner/actor.key             public keys to admit; any number of .key files
    keys/actor/actor.key_secret        the actors' key pair
    keys/actor/learner.key             the learner's public key

The file format is that of pyzmq's `zmq.auth` and czmq. Source: ZeroMQ RFC 26 (CurveZMQ) and
RFC 27 (ZAP).
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from asyncade_runtime.transport.admitted import PUBLIC, Admitted

LEARNER: Final = "learner"
ACTOR: Final = "actor"

Options: TypeAlias = dict[zmq.SocketOption, int | bytes]

_DOMAIN: Final = "asyncade"
_SECRET: Final = ".key_secret"


class KeysError(ValueError):
    """A folder of keys is unusable. The message names it and the cure."""


@dataclass(frozen=True, slots=True)
class LearnerKeys:
    """Keys of the binding side.

    Attributes:
        public: 40 characters of Z85 (RFC 32).
        secret: 40 characters of Z85.
        admitted: public keys to admit.
    """

    public: bytes
    secret: bytes
    admitted: Admitted

    def options(self) -> Options:
        """Returns socket options to set before binding."""
        return {
            zmq.CURVE_SERVER: 1,
            zmq.CURVE_PUBLICKEY: self.public,
            zmq.CURVE_SECRETKEY: self.secret,
            # CURVE without an authenticator admits every key; with this domain enforced, none.
            zmq.ZAP_DOMAIN: _DOMAIN.encode(),
            zmq.ZAP_ENFORCE_DOMAIN: 1,
        }


@dataclass(frozen=True, slots=True)
class ActorKeys:
    """Keys of the connecting side.

    Attributes:
        public: 40 characters of Z85.
        secret: 40 characters of Z85.
        learner: the learner's public key, the only one accepted.
    """

    public: bytes
    secret: bytes
    learner: bytes

    def options(self) -> Options:
        """Returns socket options to set before connecting."""
        return {
            zmq.CURVE_SERVERKEY: self.learner,
            zmq.CURVE_PUBLICKEY: self.public,
            zmq.CURVE_SECRETKEY: self.secret,
        }


def load_learner_keys(folder: Path) -> LearnerKeys:
    """Reads the learner's folder.

    Raises:
        KeysError: a key is missing or malformed, or others can read the secret one.
    """
    public, secret = _pair(folder, LEARNER)
    admitted = sorted(folder.glob(f"*{PUBLIC}"))
    if not admitted:
        raise KeysError(
            f"{folder} holds no actor's {PUBLIC} file, so no actor could connect; {_CURE}"
        )
    for path in admitted:
        _read(path)
    return LearnerKeys(public=public, secret=secret, admitted=Admitted(folder))


def load_actor_keys(folder: Path) -> ActorKeys:
    """Reads the actors' folder.

    Raises:
        KeysError: a key is missing or malformed, or others can read the secret one.
    """
    public, secret = _pair(folder, ACTOR)
    learner, _ = _read(folder / f"{LEARNER}{PUBLIC}")
    return ActorKeys(public=public, secret=secret, learner=learner)


@contextmanager
def authenticating(context: zmq.SyncContext, keys: LearnerKeys | None) -> Iterator[None]:
    """Authenticates the peers of this context's CURVE sockets for the duration of a ``with`` block.

    Public keys that are added to the folder, or removed, take effect within seconds.
    """
    if keys is None:
        yield
        return
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    try:
        authenticator.configure_curve_callback(_DOMAIN, keys.admitted)
        yield
    finally:
        authenticator.stop()


def make_keys(folder: Path) -> bool:
    """Creates both folders of keys unless they are complete.

    Args:
        folder: parent of both folders.

    Returns:
        True if keys were created, False if all existed.

    Raises:
        OSError: a folder cannot be written.
    """
    parts = {LEARNER: folder / LEARNER, ACTOR: folder / ACTOR}
    other = {LEARNER: ACTOR, ACTOR: LEARNER}
    secrets = {name: part / f"{name}{_SECRET}" for name, part in parts.items()}
    publics = {name: parts[other[name]] / f"{name}{PUBLIC}" for name in parts}
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
    path.touch(mode, exist_ok=False)  # the mode first, so that the secret is never readable
    path.write_bytes(source.read_bytes())


def _pair(folder: Path, name: str) -> tuple[bytes, bytes]:
    path = folder / f"{name}{_SECRET}"
    public, secret = _read(path)
    _check_private(path)
    if secret is None:
        raise KeysError(f"{path} holds no secret key; {_CURE}")
    return public, secret


def _check_private(path: Path) -> None:
    """Refuses a secret key that others can read, as OpenSSH does.

    Of a file that another user owns, such as root, its group may be how this process reads it:
    Kubernetes mounts Secrets so.
    """
    status = path.stat()
    mine = status.st_uid == os.geteuid()
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO if mine else stat.S_IRWXO):
        mode = stat.S_IMODE(status.st_mode)
        raise KeysError(
            f"{path} can be read by others (mode {mode:04o}); chmod 600 {path} (in Kubernetes,"
            " defaultMode: 0440 and an fsGroup), and make new keys if others could log in"
        )


def _read(path: Path) -> tuple[bytes, bytes | None]:
    try:
        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise KeysError(f"{path} cannot be read ({error}); {_CURE}") from error
    for key in (public, secret):
        if key is not None and len(key) != 40:
            raise KeysError(f"{path} holds a key of {len(key)} characters, not 40; {_CURE}")
    return public, secret
