"""The kernel's count of bytes sent from a listening TCP port of this process."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_BYTES_ACKED: Final = 120  # offset of tcpi_bytes_acked in Linux's struct tcp_info (linux/tcp.h)
_SETTLED_S: Final = 0.2


def bytes_sent_from(endpoint: str) -> int:
    """Returns the bytes acknowledged on all open connections of an endpoint, once stable.

    Args:
        endpoint: endpoint of a bound socket, such as ``tcp://127.0.0.1:5556``.
    """
    port, before = int(endpoint.rpartition(":")[2]), -1
    while True:
        now = sum(_acknowledged(connection) for connection in _connections_from(port))
        if now == before:
            return now
        before = now
        time.sleep(_SETTLED_S)


def _connections_from(port: int) -> Iterator[socket.socket]:
    for name in Path("/proc/self/fd").iterdir():
        try:
            if not name.is_socket():
                continue
            one = socket.socket(fileno=os.dup(int(name.name)))
        except OSError:
            continue  # closed meanwhile
        with one:
            if one.family == socket.AF_INET and one.getsockname()[1] == port:
                yield one


def _acknowledged(connection: socket.socket) -> int:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
    return int(struct.unpack_from("<Q", info, _BYTES_ACKED)[0])
