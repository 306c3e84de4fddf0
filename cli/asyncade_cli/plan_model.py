"""How fast a number of actors goes, from what each piece of work costs. Arithmetic only.

The pipeline is taken as a *round*: every actor makes one message, the learner makes of them one
batch (data mode) or one update (gradient mode), and the new weights go to everybody. With

    A   seconds that an actor works for one message, and of them
    H   that it works while its message is under way (gradient mode plays ahead; data mode waits)
    u   seconds in which all messages come in, by the links, and relays average them
    l   seconds that the learner works on them
    d   seconds in which the weights go out, by its link or by the sending core, whichever is slower
    k   messages that an actor may have on their way

a round takes the longest of A, u, l, d (each is busy with one round at a time) and of
(A - H + u + l + d) / k (a message must have come back as weights before the k-th one after it):

    seconds = max(A, u, l, d, (A - H + u + l + d) / k)
    rate = N x env steps of a message / seconds

With k = 1, the default, data mode's round is the sum: actors wait while the learner trains.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final, Literal

from asyncade_cli.compare_costs import UnitCosts
from asyncade_cli.plan_costs import Costs, amdahl
from asyncade_learner.settings import LearnerSettings

Mode = Literal["data", "gradients"]
Limit = Literal["actors", "learner", "link", "publish", "relays", "cores"]

MAX_ACTORS: Final = 16_384
"""The search for a number of actors ends here."""

SAMPLE_BYTES: Final = 4 * 84 * 84 * 2
"""Memory of a learner's batch per sample: its stack of frames, cut into patches, in bfloat16."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a plan is made for.

    Attributes:
        mode: what actors send.
        envs: games of an actor.
        unroll_length: steps of an unroll.
        minibatch_size: samples of an update in gradient mode; None: the learner's default.
        in_flight: k.
        learner_cores: that torch's threads of the learner have; data mode.
        device_speedup: cores that a device is worth in updates, in place of the learner's cores.
        link: bytes/s each way of the learner's and of each relay's network; infinite: no limit.
        actors_per_relay: None: no relays.
        shared_cores: of one machine that actors and learner share, as in asyncade train; None:
            every actor has a core of its own.
    """

    mode: Mode
    envs: int = 8
    unroll_length: int = 64
    minibatch_size: int | None = None
    in_flight: int = 1
    learner_cores: int = 1
    device_speedup: float | None = None
    link: float = math.inf
    actors_per_relay: int | None = None
    shared_cores: int | None = None

    @property
    def unroll(self) -> int:
        """Env steps of one actor's unroll."""
        return self.envs * self.unroll_length

    def relays(self, actors: int) -> int:
        """Returns how many relays so many actors have."""
        return math.ceil(actors / self.actors_per_relay) if self.actors_per_relay else 0

    def gradients_per_unroll(self, actors: int) -> int:
        """Returns how many gradients an actor makes of an unroll: they share an update's samples.

        The learner's own rule, so a gradient gets smaller with more actors, down to 32 samples;
        from 8 actors on, by default, updates grow instead.
        """
        return _gradients_per_unroll(self.minibatch_size, self.unroll, actors)

    def env_steps_per_message(self, actors: int) -> float:
        """Returns the env steps that one message of an actor stands for."""
        return self.unroll / (self.gradients_per_unroll(actors) if self.mode == "gradients" else 1)


@functools.cache
def _gradient_settings(minibatch_size: int | None) -> LearnerSettings:
    return LearnerSettings.model_validate({"mode": "gradients", "minibatch_size": minibatch_size})


@functools.lru_cache(8 * MAX_ACTORS)
def _gradients_per_unroll(minibatch_size: int | None, unroll: int, actors: int) -> int:
    objective = _gradient_settings(minibatch_size).objective_at(1.0, actors)
    return objective.passes * max(1, round(unroll / objective.minibatch_size))


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round; times in seconds.

    Attributes:
        actors: N.
        env_steps: of all actors in a round.
        actor: A.
        hidden: H.
        up: u by the links.
        relaying: seconds in which each relay averages its actors' gradients; on the way up too.
        learner: l.
        link_down: d by the links.
        sending: d by the core that sends.
        in_flight: k.
        core_seconds: of all processes together; what `cores` must do.
        cores: of one machine that all share; None: nothing is shared.
        bytes_up: into the learner.
        bytes_down: out of the learner.
        bytes_down_all: to all actors together.
    """

    actors: int
    env_steps: float
    actor: float
    hidden: float
    up: float
    relaying: float
    learner: float
    link_down: float
    sending: float
    in_flight: int
    core_seconds: float
    cores: int | None
    bytes_up: float
    bytes_down: float
    bytes_down_all: float

    @property
    def down(self) -> float:
        """Returns d."""
        return max(self.link_down, self.sending)

    @property
    def seconds(self) -> float:
        """How long a round takes."""
        work = self.core_seconds / self.cores if self.cores else 0.0
        longest = max(self.parts.values())
        return max(longest, self._way / self.in_flight, work)

    @property
    def rate(self) -> float:
        """Env steps/s."""
        return self.env_steps / self.seconds

    @property
    def parts(self) -> dict[Limit, float]:
        """Returns the seconds of each of the things that may limit, none counted twice."""
        publish = self.sending if self.sending >= self.link_down else 0.0
        link = self.up + (0.0 if publish else self.link_down)
        found: dict[Limit, float] = {
            "actors": self.actor,
            "learner": self.learner,
            "link": link,
            "publish": publish,
            "relays": self.relaying,
        }
        return found

    @property
    def limit(self) -> Limit:
        """What limits first: the longest part, or the cores where they have no pause."""
        work = self.core_seconds / self.cores if self.cores else 0.0
        if work >= self.seconds:
            return "cores"
        return max(self.parts, key=lambda name: self.parts[name])

    @property
    def learner_share(self) -> float:
        """The part of its time that the learner works."""
        return self.learner / self.seconds

    @property
    def _way(self) -> float:
        return sum(self.parts.values()) - self.hidden


def round_of(costs: Costs, setup: Setup, actors: int) -> Round:
    """Returns a round of so many actors."""
    make = _data_round if setup.mode == "data" else _gradient_round
    return make(costs, setup, actors)


def _stretch(setup: Setup, actors: int) -> float:
    """Returns how many times as long an actor takes where processes outnumber the cores."""
    return max(1.0, actors / setup.shared_cores) if setup.shared_cores else 1.0


def _crowded(setup: Setup, actors: int) -> bool:
    """Whether learner and actors fill all cores of one machine: work takes longer there."""
    return setup.shared_cores is not None and actors + 1 >= setup.shared_cores


def _env_step(costs: Costs, setup: Setup, actors: int) -> float:
    """Returns the seconds of an env step's emulation, by the threads that asyncade train gives."""
    threads = max(1, min((setup.shared_cores or 0) // actors, setup.envs))
    return costs.environment / amdahl(threads, costs.threads, costs.environment_speedup)


def _fan_out(costs: Costs, setup: Setup, actors: int) -> tuple[float, float, int]:
    """Returns seconds by the links and by the sending core, and how many the learner sends to.

    A relay has the whole message before it sends it on, so its own fan-out comes on top.
    """
    size = costs.weights_bytes
    relays = setup.relays(actors)
    served = relays or actors
    below = math.ceil(actors / relays) if relays else 0
    link = 0.0 if setup.shared_cores else size / setup.link
    sending = costs.broadcasting(size, served)
    if relays:
        sending += costs.broadcasting(size, below)
    return (served + below) * link, sending, served


def _data_round(costs: Costs, setup: Setup, actors: int) -> Round:
    steps = setup.unroll
    size = steps * costs.trajectory_bytes
    play = steps * (_env_step(costs, setup, actors) + costs.inference + costs.encode)
    actor = play + costs.sending(size) + costs.takeover + costs.receiving(costs.weights_bytes)
    actor *= costs.actor_crowding if _crowded(setup, actors) else 1.0
    env_steps = float(actors * steps)
    cores = setup.shared_cores or setup.learner_cores
    speed = setup.device_speedup or costs.speedup(cores)
    # Relays forward trajectories as they are: intake grows with the actors either way.
    learner = env_steps * (costs.update / speed + costs.intake) + costs.publish
    link_down, sending, served = _fan_out(costs, setup, actors)
    work = env_steps * (costs.update + costs.intake) + costs.publish + actors * actor + sending
    return Round(
        actors=actors,
        env_steps=env_steps,
        actor=actor * _stretch(setup, actors),
        hidden=0.0,
        up=0.0 if setup.shared_cores else actors * size / setup.link,
        relaying=0.0,
        learner=learner,
        link_down=link_down,
        sending=sending,
        in_flight=setup.in_flight,
        core_seconds=work,
        cores=setup.shared_cores,
        bytes_up=actors * size,
        bytes_down=served * costs.weights_bytes,
        bytes_down_all=actors * costs.weights_bytes,
    )


def _gradient_round(costs: Costs, setup: Setup, actors: int) -> Round:
    steps = setup.env_steps_per_message(actors)
    size = costs.gradient_bytes
    crowding = costs.gradient_crowding if _crowded(setup, actors) else 1.0
    play = crowding * steps * (_env_step(costs, setup, actors) + costs.inference)
    gradient = steps * costs.gradient_work + costs.gradient_call + costs.gradient_send
    weights = costs.takeover + costs.receiving(costs.weights_bytes)
    actor = play + crowding * (gradient + weights)
    relays = setup.relays(actors)
    # A relay averages its actors' gradients into one, so the learner's intake is one per relay.
    taking = costs.gradient_intake + costs.average
    arriving = relays or actors
    learner = crowding * (arriving * taking + costs.optimise + costs.publish)
    below = math.ceil(actors / relays) if relays else 0
    averaging = below * taking + (costs.gradient_send if relays else 0.0)
    link_down, sending, served = _fan_out(costs, setup, actors)
    sending *= crowding
    stretch = _stretch(setup, actors)
    link = 0.0 if setup.shared_cores else size / setup.link
    return Round(
        actors=actors,
        env_steps=actors * steps,
        actor=actor * stretch,
        # An actor that plays ahead hides nothing where the learner has no core but an actor's.
        hidden=0.0 if setup.shared_cores and actors >= setup.shared_cores else play,
        up=(arriving + below) * link,
        relaying=averaging,
        learner=learner,
        link_down=link_down,
        sending=sending,
        in_flight=setup.in_flight,
        core_seconds=actors * actor + learner + sending,
        cores=setup.shared_cores,
        bytes_up=arriving * size,
        bytes_down=served * costs.weights_bytes,
        bytes_down_all=actors * costs.weights_bytes,
    )


def unit_costs(costs: Costs, setup: Setup, actors: int) -> UnitCosts:
    """Returns what an env step costs with so many actors, in the terms of asyncade compare."""
    one = round_of(costs, setup, actors)
    return UnitCosts(
        mode=setup.mode,
        learner=one.learner / one.env_steps,
        actor=one.actor * actors / one.env_steps,
        bytes_up=one.bytes_up / one.env_steps,
        bytes_down=one.bytes_down / one.env_steps,
        bytes_down_per_version=costs.weights_bytes,
        env_steps_per_message=setup.env_steps_per_message(actors),
    )


def batch_bytes(setup: Setup, actors: int) -> float | None:
    """Returns the learner's memory for the samples of one batch; None in gradient mode."""
    return float(actors * setup.unroll * SAMPLE_BYTES) if setup.mode == "data" else None


def actors_for(costs: Costs, setup: Setup, rate: float) -> int | None:
    """Returns the fewest actors that reach so many env steps/s; None if no number does.

    Every number is tried: with relays, and where gradients shrink, more actors can be slower.
    """
    numbers = range(1, MAX_ACTORS + 1)
    return next((n for n in numbers if round_of(costs, setup, n).rate >= rate), None)


def highest_rate(costs: Costs, setup: Setup) -> float:
    """Returns the env steps/s of the fastest number of actors, up to `MAX_ACTORS`."""
    return max(round_of(costs, setup, actors).rate for actors in range(1, MAX_ACTORS + 1))


def leads(costs: Costs, data: Setup, gradients: Setup) -> list[tuple[int, int]]:
    """Returns the ranges of actors, both ends included, in which gradient mode is faster."""
    ranges: list[tuple[int, int]] = []
    for actors in range(1, MAX_ACTORS + 1):
        if round_of(costs, gradients, actors).rate <= round_of(costs, data, actors).rate:
            continue
        if ranges and ranges[-1][1] == actors - 1:
            ranges[-1] = ranges[-1][0], actors
        else:
            ranges.append((actors, actors))
    return ranges
