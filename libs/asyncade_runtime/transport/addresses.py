"""Binding and connecting, with errors that name the address and the cure.

libzmq itself accepts ``tcp://host:99999`` and uses port 34463, and connects to port 0 for ever.
"""

from __future__ import annotations

import errno
import re

import zmq

_TCP = re.compile(r"tcp://(?P<host>.+):(?P<port>[^:]*)")

_CURES = {
    errno.EADDRINUSE: (
        "the port is taken; stop the process that has it, or choose another port"
        " (tcp://127.0.0.1:* takes a free one)"
    ),
    errno.EADDRNOTAVAIL: "this machine has no such IP address; tcp://*:PORT binds all it has",
    errno.ENODEV: "this machine has no such interface or name; tcp://*:PORT binds all it has",
    errno.EACCES: "not allowed; choose a port above 1023",
}


class SocketAddressError(ValueError):
    """An address that cannot be bound or connected to. The message names it and the cure."""


def bind(socket: zmq.SyncSocket, address: str) -> str:
    """Binds and returns the address really bound.

    Args:
        socket: with all its options set: later ones would not take effect.
        address: such as ``tcp://*:5555``; the port ``*`` takes a free one.

    Raises:
        SocketAddressError: the address is wrong, taken or not this machine's.
    """
    _check_tcp("bind", address, any_port=True)
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        raise _explained("bind", address, error) from error
    return socket.get_string(zmq.LAST_ENDPOINT)


def connect(socket: zmq.SyncSocket, address: str) -> str:
    """Connects and returns the address.

    Connecting only says whom to look for: the peer need not exist yet.

    Args:
        socket: with all its options set: later ones would not take effect.
        address: such as ``tcp://learner:5555``.

    Raises:
        SocketAddressError: the address is wrong as written. An unknown host name is no error.
    """
    _check_tcp("connect", address, any_port=False)
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        raise _explained("connect", address, error) from error
    return address


def _check_tcp(verb: str, address: str, *, any_port: bool) -> None:
    if not address.startswith("tcp://"):
        return  # ipc:// and inproc:// have no port; libzmq judges them
    match = _TCP.fullmatch(address)
    port = match["port"] if match else ""
    if any_port and port == "*":
        return
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        cure = "write it as tcp://HOST:PORT, with a port from 1 to 65535"
        raise SocketAddressError(f"cannot {verb} {address!r}: {cure}")


def _explained(verb: str, address: str, error: zmq.ZMQError) -> SocketAddressError:
    cure = _CURES.get(
        error.errno or 0, f"{zmq.strerror(error.errno or 0)}; write it like tcp://127.0.0.1:5555"
    )
    return SocketAddressError(f"cannot {verb} {address!r}: {cure}")
