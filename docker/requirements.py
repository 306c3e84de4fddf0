"""Prints dependencies from pyproject.toml as lines for pip: the common ones, or those of an extra.

The images install dependencies before they copy the code, in a layer that a change of the code
does not invalidate.

    python requirements.py            dependencies of all services
    python requirements.py actor      the actor's own dependencies
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
wanted = [line for name in sys.argv[1:] for line in extras[name]]
print("\n".join(wanted or project["dependencies"]))
