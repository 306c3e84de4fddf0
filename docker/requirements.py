"""Prints what pyproject.toml asks for, as lines for pip: all services, or one extra's.

With it the images install dependencies before the code is there, in a layer that a change of the
code does not touch.

    python requirements.py            what both services need
    python requirements.py actor      what the actor needs besides
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
wanted = [line for name in sys.argv[1:] for line in extras[name]]
print("\n".join(wanted or project["dependencies"]))
