"""Writes the rules of docker/prometheus as a PrometheusRule, or checks that it is up to date.

    python k8s/prometheus_rule.py            write it
    python k8s/prometheus_rule.py --check    exit with 1 if it is out of date

The Prometheus operator reads rules only from fields of its own resource, and kustomize can copy
files into ConfigMaps, not into fields. So this file is generated: do not edit it.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
RULES = ROOT / "docker/prometheus/rules"
WRITTEN = ROOT / "k8s/components/monitoring/prometheus-rule.yaml"

HEADER = """\
# Generated from docker/prometheus/rules by k8s/prometheus_rule.py (make docs). Do not edit.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: asyncade
  namespace: asyncade
spec:
  groups:
"""


def prometheus_rule(folder: Path) -> str:
    """Returns a PrometheusRule as YAML, with the groups and comments of all rule files in a folder.

    Args:
        folder: rule files for Prometheus; each holds only comments and ``groups:``.

    Raises:
        ValueError: a file contains anything else.
    """
    parts = []
    for file in sorted(folder.glob("*.yml")):
        comment, found, groups = file.read_text(encoding="utf-8").partition("groups:\n")
        if not found or any(line[:1] not in ("#", "") for line in comment.splitlines()):
            raise ValueError(f"{file} does not begin with comments and `groups:`")
        parts.append(textwrap.indent(comment, "    ") + textwrap.indent(groups, "  "))
    return HEADER + "".join(parts)


def main() -> int:
    """Writes or checks the file; returns the exit code."""
    wanted = prometheus_rule(RULES)
    current = WRITTEN.exists() and WRITTEN.read_text(encoding="utf-8") == wanted
    if "--check" in sys.argv[1:]:
        if not current:
            print(f"{WRITTEN.relative_to(ROOT)} is out of date: run `make docs`", file=sys.stderr)
        return 0 if current else 1
    if not current:
        WRITTEN.write_text(wanted, encoding="utf-8")
        print(f"wrote {WRITTEN.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
