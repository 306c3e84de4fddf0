"""Builds a learner and its actors on the virtual clock, and runs them to a target."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import structlog
import torch
from prometheus_client import CollectorRegistry

from asyncade_actor.actor import Actor
from asyncade_actor.metrics import ActorMetrics
from asyncade_learner.learner import Learner
from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.settings import LearnerSettings
from asyncade_learner.wiring import make_learner
from asyncade_rl.devices import fastest_precision
from asyncade_runtime.lifecycle import Health
from asyncade_runtime.run_folder import RunFolder
from asyncade_runtime.stages import Stages
from bench.cluster.costs import Record, Table, WatchedStages, cost
from bench.cluster.network import Inbox, Network, Publisher, Subscriber
from bench.cluster.simulation import Process, Simulation

RUN_ID = 1
"""Every start of the learner adds one."""

Wrap: TypeAlias = Callable[[str, Stages], Stages]


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong, at virtual times in seconds, by number of the actor.

    Attributes:
        slow: how many times as long an actor's work takes.
        stopped: (actor, from, to) between which it stands still.
        killed: (actor, time, seconds until a new one takes its place).
        joining: when an actor starts; 0 by default.
        restarts: (time, seconds until the learner is back, from its last checkpoint).
        handovers: times after which, between two batches, the learner saves a checkpoint and ends,
            and another continues at once; messages and actors live on.
        lost: share of the frames that are lost, in either direction.
        seed: of which frames these are.
    """

    slow: Mapping[int, float] = field(default_factory=dict)
    stopped: tuple[tuple[int, float, float], ...] = ()
    killed: tuple[tuple[int, float, float], ...] = ()
    joining: Mapping[int, float] = field(default_factory=dict)
    restarts: tuple[tuple[float, float], ...] = ()
    handovers: tuple[float, ...] = ()
    lost: float = 0.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A cluster.

    Attributes:
        actors: number of them, each with a core of its own.
        envs: games that an actor has.
        settings: of the learner.
        costs: role (``actor``, ``learner``), then as in `Table`; None records what the stages
            really cost, and virtual time stands still.
        rate: of every link, in bytes per second.
        latency: one way, in seconds.
        faults: what goes wrong.
    """

    actors: int
    envs: int = 8
    settings: Mapping[str, Any] = field(default_factory=dict)
    costs: Mapping[str, Table] | None = None
    rate: float = 1.25e9
    latency: float = 1e-4
    faults: Faults = field(default_factory=Faults)


class Cluster:
    """A learner and its actors in one simulation.

    Args:
        plan: the cluster.
        folder: of the run.

    Attributes:
        simulation: its clock.
        network: counts what travels.
        learner: the present one.
        record: what the stages cost, if the plan has no costs.
        stages: role, then the time spent by each actor and learner that there has been.
        repeated_env_steps: played and learned from, then lost with a learner that was restarted.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.simulation = Simulation()
        chance = random.Random(plan.faults.seed)
        self.network = Network(
            self.simulation,
            plan.rate,
            plan.latency,
            loses=lambda: chance.random() < plan.faults.lost,
        )
        self.repeated_env_steps = 0
        self.record = Record()
        self.stages: dict[str, list[Stages]] = {"actor": [], "learner": []}
        self._folder = folder
        self._log = structlog.wrap_logger(None, processors=[_drop])
        self._precision = fastest_precision(torch.device("cpu"))
        self._starts = 0
        self._actors: dict[int, Process] = {}
        self._names: dict[int, int] = {}
        self.learner = self._make_learner()

    def run(self, over: Callable[[Learner], bool]) -> None:
        """Runs until `over`, which is asked after every step of the learner."""
        for number in range(self.plan.actors):
            self._start_actor(number, self.plan.faults.joining.get(number, 0.0))
        process = self._start_learner(over)
        for time, down in self.plan.faults.restarts:
            self.simulation.at(time, lambda down=down: self._restart(down, over))  # type: ignore[misc]
        for number, time, down in self.plan.faults.killed:
            self.simulation.at(time, lambda n=number, d=down: self._replace(n, d))  # type: ignore[misc]
        for number, since, until in self.plan.faults.stopped:
            self.simulation.at(since, lambda n=number, u=until: self._pause(n, u))  # type: ignore[misc]
        self._learner_process = process
        self.simulation.run()
        for one in (*self._actors.values(), self._learner_process):
            self.simulation.kill(one)

    def _start_learner(self, over: Callable[[Learner], bool]) -> Process:
        handovers = list(self.plan.faults.handovers)

        def work() -> None:
            self.learner.begin()
            while not over(self.learner):
                version = self.learner.progress.policy_version
                self.learner.step()
                published = self.learner.progress.policy_version > version
                if published and handovers and self.simulation.now >= handovers[0]:
                    del handovers[0]
                    self.learner.finish()
                    self.learner = self._make_learner(messages_live_on=True)
                    self.learner.begin()
            self.simulation.stop()

        return self.simulation.start("learner", work, self.simulation.now)

    def _restart(self, down: float, over: Callable[[Learner], bool]) -> None:
        self.simulation.kill(self._learner_process)
        self.network.open = False
        self.network.received.clear()

        def back() -> None:
            before = self.learner.progress.env_steps
            self.learner = self._make_learner()
            self.repeated_env_steps += before - self.learner.progress.env_steps
            self.network.open = True
            self.network.joined += len(self.network.subscribers)
            self._learner_process = self._start_learner(over)

        self.simulation.at(self.simulation.now + down, back)

    def _start_actor(self, number: int, at: float) -> None:
        def work() -> None:
            subscriber = self.network.subscriber()
            actor = self._make_actor(number, subscriber)
            try:
                while True:
                    actor.step()
            finally:
                actor.close()
                subscriber.close()

        self._actors[number] = self.simulation.start(f"actor-{number}", work, at)
        self._actors[number].slowness = self.plan.faults.slow.get(number, 1.0)

    def _replace(self, number: int, down: float) -> None:
        self.simulation.kill(self._actors[number])
        self._start_actor(number, self.simulation.now + down)

    def _pause(self, number: int, until: float) -> None:
        self.simulation.pause(self._actors[number], until)

    def _make_actor(self, number: int, subscriber: Subscriber) -> Actor:
        clock = self.simulation.clock
        metrics = ActorMetrics(CollectorRegistry(), clock)
        metrics.stages = self._stages("actor", metrics.stages)
        incarnation = self._names[number] = self._names.get(number, 0) + 1
        return Actor(
            actor_id=f"actor-{number}-{incarnation}",
            envs=self.plan.envs,
            env_threads=1,
            precision=self._precision,
            outbox=self.network.outbox(),
            subscriber=subscriber,
            metrics=metrics,
            health=Health(60.0, clock),
            log=self._log,
        )

    def _make_learner(self, *, messages_live_on: bool = False) -> Learner:
        clock = self.simulation.clock
        metrics = LearnerMetrics(CollectorRegistry(), clock)
        metrics.stages = self._stages("learner", metrics.stages)
        self._starts += 1
        return make_learner(
            LearnerSettings(**{"report_seconds": 10.0, **self.plan.settings, "device": "cpu"}),
            inbox=Inbox(self.network),
            publisher=Publisher(self.network),
            folder=RunFolder.create(self._folder),
            metrics=metrics,
            health=Health(60.0, clock),
            log=self._log,
            run_id=RUN_ID + self._starts,
            clock=clock,
            wall_clock=clock,
            messages_live_on=messages_live_on,
        )

    def _stages(self, role: str, stages: Stages) -> Stages:
        self.stages[role].append(stages)
        if self.plan.costs is None:
            return WatchedStages(stages, lambda name, n: self.record.enter(f"{role}/{name}", n))
        table = self.plan.costs.get(role, {})
        return WatchedStages(stages, lambda name, n: self.simulation.sleep(cost(table, name, n)))


def _drop(logger: Any, method: str, event: Any) -> Any:
    raise structlog.DropEvent


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Returns a folder for the files of one run, which are not kept."""
    return tempfile.TemporaryDirectory(prefix="cluster-")
