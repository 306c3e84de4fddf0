"""What an env step costs in each mode, and what follows for a cluster. Arithmetic only.

Per mode, from the medians of the runs:

    c_L   core-seconds of the learner per env step
    c_A   core-seconds of an actor per env step
    u     bytes up per env step
    w     bytes down per env step, to all actors together

With a core to every actor and K cores (or a device K times as fast as one) to the learner,

    rate(N) = min(N / c_A, K / c_L, B / u, B / w)        env steps/s with N actors

where B is the learner's network rate in bytes/s each way. A mode's *progress* is its rate divided
by the env steps it needs to the target, where both are known: g = S_gradients / S_data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from asyncade_cli.compare_seeds import ModeFigures

LINKS: Final = {"1 Gbit/s": 125e6, "10 Gbit/s": 1.25e9, "100 Gbit/s": 12.5e9}
"""Network rates in bytes/s."""

ACTORS: Final = (1, 2, 4, 8, 16, 32, 64, 128)

ASSUMPTIONS: Final = (
    "Every actor has a core like this machine's to itself, and the learner K of them (K = 1 in the"
    " numbers) or a device K times as fast; CPU time per env step stays what it was here, where the"
    " processes shared the cores.",
    "Batches grow with the number of actors, as the defaults have it (half an unroll per actor in"
    " data mode, one gradient of every actor in gradient mode), so versions per env step fall as"
    " 1/N and bytes down to all actors per env step stay constant.",
    "A gradient carries as many env steps as here. The learner's work per gradient is taken as"
    " constant; its work per update is shared by more gradients with more actors, so the gradient"
    " learner's ceiling is a lower bound.",
    "The learner's link is the narrowest, and carries B each way at once. Round trips are not in"
    " the formulae: an actor has one message on its way, so a round trip as long as its work for"
    " one message halves its rate.",
    "The env steps to the target do not depend on the number of actors.",
)


@dataclass(frozen=True, kw_only=True)
class UnitCosts:
    """What an env step costs.

    Attributes:
        mode: ``data`` or ``gradients``.
        learner: c_L, core-seconds.
        actor: c_A, core-seconds.
        bytes_up: u.
        bytes_down: w, to all actors together.
        bytes_down_per_version: of one weights message to one actor.
        env_steps_per_message: that a message up stands for.
    """

    mode: str
    learner: float
    actor: float
    bytes_up: float
    bytes_down: float
    bytes_down_per_version: float
    env_steps_per_message: float

    @property
    def saturating_actors(self) -> float:
        """Actors at which a learner of one core is busy all the time: c_A / c_L."""
        return self.actor / self.learner

    @property
    def learner_ceiling(self) -> float:
        """Env steps/s that a learner of one core takes in: 1 / c_L."""
        return 1 / self.learner

    @property
    def seconds_per_message(self) -> float:
        """Core-seconds of an actor's work for one message up."""
        return self.actor * self.env_steps_per_message

    def network_ceiling(self, link: float) -> float:
        """Returns the env steps/s that a link of so many bytes/s each way carries."""
        return link / max(self.bytes_up, self.bytes_down)

    def rate(self, actors: float, link: float | None = None) -> float:
        """Returns env steps/s with so many actors and one learner core; None is no limit."""
        rate = min(actors / self.actor, self.learner_ceiling)
        return rate if link is None else min(rate, self.network_ceiling(link))


def unit_costs(figures: ModeFigures) -> UnitCosts | None:
    """Returns a mode's unit costs; None when one was not measured or is zero."""
    values = {
        "learner": figures.median("learner_core_seconds"),
        "actor": figures.median("actor_core_seconds"),
        "bytes_up": figures.median("bytes_up_per_env_step"),
        "bytes_down": figures.median("bytes_down_per_env_step"),
        "bytes_down_per_version": figures.median("bytes_down_per_version"),
        "env_steps_per_message": figures.median("env_steps_per_message"),
    }
    known = {name: value for name, value in values.items() if value}
    return UnitCosts(mode=figures.mode, **known) if len(known) == len(values) else None


Winner = Literal["data", "gradients", "data then gradients", "gradients then data"]


@dataclass(frozen=True, kw_only=True)
class Crossover:
    """Which mode makes more progress, by the number of actors, on a network without limits.

    Attributes:
        winner: with few actors, and then with many.
        actors: where the lead changes, with one learner core; None if it never does.
        env_steps_per_second: that gradient mode must reach to pass a saturated data learner.
        bytes_up_per_second: that it then sends to the learner.
        bytes_down_per_second: that the learner then sends to all actors.
        step_ratio: g, env steps to the target in gradient mode over those in data mode.
        step_ratio_known: False where the target was not reached in both modes and 1 was taken.
    """

    winner: Winner
    actors: float | None
    env_steps_per_second: float
    bytes_up_per_second: float
    bytes_down_per_second: float
    step_ratio: float
    step_ratio_known: bool

    @property
    def link_needed(self) -> float:
        """Bytes/s each way that gradient mode needs to pass a saturated data learner."""
        return max(self.bytes_up_per_second, self.bytes_down_per_second)


def step_ratio(data: ModeFigures, gradients: ModeFigures) -> float | None:
    """Returns g: env steps to the target in gradient mode over those in data mode, if known."""
    one, other = data.median("env_steps_to_target"), gradients.median("env_steps_to_target")
    return None if not one or not other else other / one


def crossover(data: UnitCosts, gradients: UnitCosts, ratio: float | None) -> Crossover:
    """Returns who wins with few actors, who with many, and where that changes.

    Few actors: progress is N / c_A and N / (g c_A'); many: 1 / c_L and 1 / (g c_L'), primes for
    gradient mode. Data mode leads with few and gradient mode with many when c_A < g c_A' and
    c_L > g c_L'; they meet at N = g c_A' / c_L, where data mode's learner is saturated.

    Args:
        data: unit costs of data mode.
        gradients: unit costs of gradient mode.
        ratio: g; None where not known.
    """
    g = 1.0 if ratio is None else ratio
    few = "gradients" if g * gradients.actor < data.actor else "data"
    many = "gradients" if g * gradients.learner < data.learner else "data"
    winner: Winner
    actors: float | None
    match few, many:
        case "data", "gradients":
            winner, actors = "data then gradients", g * gradients.actor / data.learner
        case "gradients", "data":
            winner, actors = "gradients then data", data.actor / (g * gradients.learner)
        case "gradients", _:
            winner, actors = "gradients", None
        case _:
            winner, actors = "data", None
    rate = g * data.learner_ceiling
    return Crossover(
        winner=winner,
        actors=actors,
        env_steps_per_second=rate,
        bytes_up_per_second=rate * gradients.bytes_up,
        bytes_down_per_second=rate * gradients.bytes_down,
        step_ratio=g,
        step_ratio_known=ratio is not None,
    )


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Env steps/s by the formula, with one learner core.

    Attributes:
        actors: N.
        data: of data mode without a network limit; link name to the rate on that link.
        gradients: the same of gradient mode.
    """

    actors: int
    data: dict[str, float]
    gradients: dict[str, float]


def forecasts(
    data: UnitCosts, gradients: UnitCosts, actors: Sequence[int] = ACTORS
) -> list[Forecast]:
    """Returns the env steps/s that the unit costs foretell for several numbers of actors."""
    return [
        Forecast(
            actors=count,
            data={name: data.rate(count, link) for name, link in LINKS.items()},
            gradients={name: gradients.rate(count, link) for name, link in LINKS.items()},
        )
        for count in actors
    ]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """All that is foretold."""

    data: UnitCosts
    gradients: UnitCosts
    crossover: Crossover
    forecasts: list[Forecast]


def cluster(data: ModeFigures, gradients: ModeFigures) -> Cluster | None:
    """Returns what the measured costs foretell; None when they were not measured in both modes."""
    one, other = unit_costs(data), unit_costs(gradients)
    if one is None or other is None:
        return None
    return Cluster(
        data=one,
        gradients=other,
        crossover=crossover(one, other, step_ratio(data, gradients)),
        forecasts=forecasts(one, other),
    )
