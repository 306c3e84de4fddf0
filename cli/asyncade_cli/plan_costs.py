"""The file of unit costs that a plan is made from: the one of this package, or the user's own."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from asyncade_cli.plan_model import Costs

SHIPPED: Final = Path(__file__).with_name("plan_costs.json")
"""A copy of bench/results/unit-costs.json; `python -m bench.table` makes it, a test compares."""

_CURE: Final = "make one with `python -m bench.unit_costs`, or leave out --costs"


class CostsError(ValueError):
    """A file of costs that cannot be used. The message names the cure."""


@dataclass(frozen=True, kw_only=True)
class MeasuredCosts:
    """Costs, and where they come from.

    Attributes:
        costs: of each piece of work.
        origin: file, commit, machine, command, in words.
    """

    costs: Costs
    origin: str


def read_costs(path: Path = SHIPPED) -> MeasuredCosts:
    """Reads a file of unit costs.

    Raises:
        CostsError: it is not there, not JSON, or a cost is missing or no positive number.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CostsError(f"--costs {path} cannot be read ({error.strerror}): {_CURE}") from error
    except ValueError as error:
        raise CostsError(f"--costs {path} is not JSON ({error}): {_CURE}") from error
    given = found.get("costs") if isinstance(found, dict) else None
    if not isinstance(given, dict):
        raise CostsError(f"--costs {path} has no object `costs`: {_CURE}")
    names = [field.name for field in fields(Costs)]
    wrong = [name for name in names if not _positive(given.get(name))]
    if wrong:
        raise CostsError(
            f"--costs {path}: no positive number for {', '.join(wrong)} in `costs`: {_CURE}"
        )
    costs = Costs(**{name: float(given[name]) for name in names})
    return MeasuredCosts(costs=costs, origin=_origin(found, path))


def _positive(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


def _origin(found: dict[str, Any], path: Path) -> str:
    def of(name: str) -> str:
        return str(found.get(name, "not told"))

    return (
        f"{path.name}: {of('game')}, {of('processor')}, {of('cores')} cores, commit {of('commit')},"
        f" `{of('command')}`"
    )
