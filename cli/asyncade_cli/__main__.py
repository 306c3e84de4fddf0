"""The entry of ``asyncade``: Ctrl-C is one line from here on, also before there is a handler."""

import sys

try:
    from asyncade_cli.entry import main
except KeyboardInterrupt:
    sys.stderr.write("interrupted\n")
    sys.exit(130)

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
