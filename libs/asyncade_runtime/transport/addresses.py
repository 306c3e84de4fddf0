"""Binds and connects sockets; errors name the address and the cure.

libzmq itself accepts ``tcp://host:99999`` as port 34463 and connects to port 0 forever.
"""

from __future__ import annotations

import errno
import re

import zmq

_TCP = re.compile(r"tcp://(?P<host>.+):(?P<port>[^:]*)")

_CURES = {
    errno.EADDRINUSE: (
        "the port is in use; stop the process that uses it, or choose another port"
        " (tcp://127.0.0.1:* picks a free one)"
    ),
    errno.EADDRNOTAVAIL: "this machine has no such IP address; tcp://*:PORT binds all addresses",
    errno.ENODEV: "this machine has no such interface or name; tcp://*:PORT binds all addresses",
    errno.EACCES: "permission denied; choose a port above 1023",
}


class SocketAddressError(ValueError):
    """The address cannot be bound or connected to. The message names it and the cure."""


def bind(socket: zmq.SyncSocket, address: str) -> str:
    """Binds the socket and returns the bound address.

    Args:
        socket: with all options set: libzmq ignores options that are set later.
        address: such as ``tcp://*:5555``; the port ``*`` picks a free one.

    Raises:
        SocketAddressError: the address is malformed, in use, or not an address of this machine.
    """
    _check_tcp("bind", address, any_port=True)
    # Both families where all addresses are bound; an IPv4 address itself needs an IPv4 socket.
    socket.set(zmq.IPV6, int(address.startswith(("tcp://*:", "tcp://["))))
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        raise _explained("bind", address, error) from error
    return socket.get_string(zmq.LAST_ENDPOINT)


def connect(socket: zmq.SyncSocket, address: str) -> str:
    """Starts connecting in the background and returns the address. The peer need not exist yet.

    Args:
        socket: with all options set: libzmq ignores options that are set later.
        address: such as ``tcp://learner:5555``.

    Raises:
        SocketAddressError: the address is malformed. An unknown host name is not an error.
    """
    _check_tcp("connect", address, any_port=False)
    socket.set(zmq.IPV6, int(address.startswith("tcp://[")))
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        raise _explained("connect", address, error) from error
    return address


def _check_tcp(verb: str, address: str, *, any_port: bool) -> None:
    if not address.startswith("tcp://"):
        return  # ipc:// and inproc:// have no port; libzmq checks them
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
