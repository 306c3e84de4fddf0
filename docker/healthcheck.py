"""Health check of a container: exit code 0 if the service's main loop runs.

Runs every few seconds beside a busy service, so it imports almost nothing: urllib would make it
take three times as long.

    python -IS healthcheck.py PORT
"""

import socket
import sys

TIMEOUT_S = 2.0

with socket.create_connection(("127.0.0.1", int(sys.argv[1])), TIMEOUT_S) as connection:
    connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
    status_line, _, rest = connection.makefile("rb").read().partition(b"\r\n")
print(rest.rpartition(b"\r\n")[2].decode(errors="replace"), end="")
sys.exit(b" 200 " not in status_line + b" ")
