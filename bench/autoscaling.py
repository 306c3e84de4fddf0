"""Does the number of actors settle? The signal and the HPA's rules, on measured unit costs.

python -m bench.autoscaling            write the table into k8s/README.md
python -m bench.autoscaling --check    exit with 1 if the one there is out of date

A model, not a measurement: unit costs are those of `results/ceiling.json`, and how they add up to a
pipeline is written here. It measures nothing and needs no cluster.
"""

from __future__ import annotations

import math
import random
import re
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from asyncade_learner.settings import LearnerSettings, Mode
from asyncade_rl.schedule import SMALLEST_SHARE
from asyncade_runtime.settings import load
from bench.report import RESULTS, markdown_table, read_result

AUTOSCALER: Final = Path(__file__).parents[1] / "k8s/components/autoscaling-hpa/autoscaler.yaml"
ENVS: Final = 8
STEP_S: Final = 5
SYNC_S: Final = 15  # kube-controller-manager's --horizontal-pod-autoscaler-sync-period
TOLERANCE: Final = 0.1  # its --horizontal-pod-autoscaler-tolerance
WINDOW_S: Final = 300  # the range of the recording rule
START_S: Final = 30  # from a new replica to its first unroll: a guess


@cache
def defaults(mode: Mode) -> LearnerSettings:
    """Returns the learner's own settings in a mode."""
    return load(LearnerSettings, ["--mode", mode], {})


@dataclass(frozen=True)
class Share:
    """Of the time, with a number of actors.

    Attributes:
        actors_busy: the mean share in which an actor neither waits nor sends.
        learner_busy: the share in which the learner does not wait.
        env_steps_per_second: of all actors together.
    """

    actors_busy: float
    learner_busy: float
    env_steps_per_second: float


@dataclass(frozen=True)
class Pipeline:
    """One learner and N actors, each with a core of its own, by measured unit costs.

    Attributes:
        mode: data or gradients.
        costs: core-seconds per env step by piece, as `bench.ceiling` measures them.
        learner_speed: how many times as fast as one core the learner improves: its cores or GPU.
        in_flight: messages that an actor may have on their way.
        actor_cores: that all actors share; more actors than that slow each other down.
    """

    mode: Mode
    costs: Mapping[str, float]
    learner_speed: float = 1.0
    in_flight: int = 1
    actor_cores: float = math.inf

    def at(self, actors: int) -> Share:
        """Returns where the time goes."""
        slowed = max(1.0, actors / self.actor_cores)
        play, gradient, env_steps = self._actor(actors)
        play, gradient = play * slowed, gradient * slowed
        learner = self._learner(actors)
        if self.mode == "gradients":
            # The gradient needs the newest weights; the actor plays ahead while those are made.
            cycle = gradient + max(play, learner)
        elif self.in_flight == 1:
            cycle = play + learner  # they take turns: an unroll is played by the newest weights
        else:
            cycle = max(play, learner)
        return Share((play + gradient) / cycle, learner / cycle, actors * env_steps / cycle)

    def _actor(self, actors: int) -> tuple[float, float, float]:
        """Seconds of play and of gradients, and env steps, of one message."""
        costs, settings = self.costs, defaults(self.mode)
        play = costs["environment"] + costs["inference"]
        unroll = ENVS * settings.unroll_length
        if self.mode == "data":
            return unroll * (play + costs["encode"]), 0.0, unroll
        share = max(settings.samples_per_update() / actors, SMALLEST_SHARE)
        env_steps = share / settings.passes
        encode = costs["encode"] * self._measured_env_steps(settings)
        return env_steps * play, env_steps * costs["gradient"] + encode, env_steps

    def _learner(self, actors: int) -> float:
        """Seconds for one message of every actor, and the weights that come of them."""
        costs, settings = self.costs, defaults(self.mode)
        messages = self._measured_env_steps(settings)
        publish = 2 * messages * costs["weights"]  # its actors' part is in it: two were measured
        if self.mode == "data":
            improve = actors * messages * costs["update"] / self.learner_speed
        else:
            improve = 2 * messages * costs["update"] / self.learner_speed
        return actors * messages * costs["decode"] + improve + publish

    def _measured_env_steps(self, settings: LearnerSettings) -> float:
        """Env steps of a message of the measurement: the costs are per env step of such."""
        if self.mode == "data":
            return ENVS * settings.unroll_length
        return settings.samples_per_update() / 2 / settings.passes


def wanted(actors_busy_seconds: float, learner_busy_seconds: float) -> float:
    """Returns what the recording rule says: docker/prometheus/rules/autoscaling.yml."""
    return max(1.0, actors_busy_seconds / learner_busy_seconds)


@dataclass(frozen=True)
class Bounds:
    """What the autoscaler's manifest says."""

    minimum: int
    maximum: int
    behaviour: Mapping[str, Any]


def bounds(path: Path = AUTOSCALER) -> Bounds:
    """Reads the manifest that is deployed."""
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]
    return Bounds(spec["minReplicas"], spec["maxReplicas"], spec["behavior"])


class Autoscaler:
    """The replica count of a HorizontalPodAutoscaler with one metric of target AverageValue 1.

    After kubernetes/kubernetes, pkg/controller/podautoscaler: tolerance, then stabilisation (a
    window's least recommendation upwards, its greatest downwards), then the policies' rates.
    """

    def __init__(self, limits: Bounds) -> None:
        self._limits = limits
        self._recommended: list[tuple[float, int]] = []
        self._changes: list[tuple[float, int]] = []

    def replicas(self, now: float, current: int, value: float | None) -> int:
        """Returns the new number, given the metric's value; None is no answer."""
        if value is None:
            return current
        within = abs(value / current - 1.0) <= TOLERANCE
        self._recommended.append((now, current if within else math.ceil(value)))
        up, down = (self._limits.behaviour[word] for word in ("scaleUp", "scaleDown"))
        least = min(self._since(now - up["stabilizationWindowSeconds"]))
        most = max(self._since(now - down["stabilizationWindowSeconds"]))
        stable = min(max(current, least), most)
        if stable > current:
            stable = min(stable, max(self._reach(now, current, up["policies"], 1)))
        elif stable < current:
            stable = max(stable, min(self._reach(now, current, down["policies"], -1)))
        new = min(max(stable, self._limits.minimum), self._limits.maximum)
        self._changes.append((now, new - current))
        return new

    def _since(self, when: float) -> list[int]:
        return [number for at, number in self._recommended if at >= when]

    def _reach(
        self, now: float, current: int, policies: Sequence[Mapping[str, Any]], sign: int
    ) -> list[int]:
        """How far each policy lets the number go, from where its period began."""
        found = []
        for policy in policies:
            since = now - policy["periodSeconds"]
            begun = current - sum(change for at, change in self._changes if at > since)
            step = policy["value"]
            if policy["type"] == "Percent":
                exact = begun * (1 + sign * step / 100)
                found.append(math.ceil(exact) if sign > 0 else math.floor(exact))
            else:
                found.append(begun + sign * step)
        return found


def simulate(
    pipeline: Pipeline,
    start: int,
    limits: Bounds,
    *,
    minutes: float = 90,
    noise: float = 0.0,
    seed: int = 1,
    answers: Callable[[float], bool] = lambda now: True,
) -> list[int]:
    """Returns the number of replicas at every sync.

    Args:
        pipeline: what is scaled.
        start: replicas at the beginning.
        limits: what the autoscaler may do.
        minutes: how long.
        noise: deviation of what each step measures, as a share of it.
        seed: of the noise.
        answers: whether Prometheus does, at a time in seconds.
    """
    scaler, chance = Autoscaler(limits), random.Random(seed)
    busy: deque[tuple[float, float]] = deque(maxlen=WINDOW_S // STEP_S)
    replicas, ready_at = start, [0.0] * start
    found: list[int] = []
    for now in range(0, int(minutes * 60), STEP_S):
        working = sum(at <= now for at in ready_at[:replicas])
        if working:
            share = pipeline.at(working)
            factor = max(0.0, chance.gauss(1.0, noise))
            busy.append(
                (working * share.actors_busy * factor * STEP_S, share.learner_busy * STEP_S)
            )
        if now % SYNC_S or len(busy) < 2:
            continue
        totals = [sum(column) for column in zip(*busy, strict=True)]
        value = wanted(*totals) if answers(now) else None
        new = scaler.replicas(now, replicas, value)
        # The youngest go first: they are the last of the list.
        ready_at = ready_at[:new] + [now + START_S] * (new - replicas)
        replicas = new
        found.append(replicas)
    return found


def pipelines(costs: Mapping[str, Mapping[str, Any]]) -> dict[str, Pipeline]:
    """Returns the pipelines of the table, by a phrase for each."""
    data = costs["data"]["core_seconds_per_env_step"]
    gradients = costs["gradients"]["core_seconds_per_env_step"]
    found = {
        f"data, {flight} in flight, learner {speed:g} times a core": Pipeline(
            "data", data, speed, flight
        )
        for speed in (1, 8, 64)
        for flight in (1, 2)
    }
    return found | {"gradients": Pipeline("gradients", gradients)}


def rows(limits: Bounds) -> list[list[object]]:
    """Returns a line for each pipeline: where the number settles, and what that gives."""
    costs = read_result("ceiling", RESULTS)
    assert costs is not None
    found: list[list[object]] = []
    for name, pipeline in pipelines(costs["modes"]).items():
        ends = [simulate(pipeline, start, limits) for start in (1, limits.maximum)]
        settled = [end[-1] for end in ends]
        share = pipeline.at(settled[0])
        most = pipeline.at(10_000).env_steps_per_second
        found.append(
            [
                name,
                " and ".join(map(str, settled)),
                f"{share.learner_busy:.0%}",
                f"{share.actors_busy:.0%}",
                f"{share.env_steps_per_second:,.0f}",
                f"{share.env_steps_per_second / most:.0%}",
            ]
        )
    return found


HEAD: Final = (
    "pipeline",
    "actors, from 1 and from the maximum",
    "learner busy",
    "actors busy",
    "env steps/s",
    "of what 10,000 actors give",
)


README: Final = AUTOSCALER.parents[2] / "README.md"
MARKED: Final = re.compile(r"(<!-- simulation -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Writes the table, or checks it; returns the exit code."""
    table = markdown_table(HEAD, rows(bounds()))
    text = README.read_text(encoding="utf-8")
    wanted_text = MARKED.sub(lambda found: found[1] + table + found[2], text)
    if "--check" in sys.argv[1:]:
        if text != wanted_text:
            print("k8s/README.md is out of date: python -m bench.autoscaling", file=sys.stderr)
        return int(text != wanted_text)
    README.write_text(wanted_text, encoding="utf-8")
    print(table, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
