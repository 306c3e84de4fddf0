"""The unavoidable work of the pipeline, one piece at a time, through the code of the services.

Only this module of the benchmarks uses the services' internals.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import torch
from prometheus_client import CollectorRegistry

from asyncade_actor.metrics import ActorMetrics
from asyncade_actor.modes import GradientParallel
from asyncade_actor.player import Header, Player
from asyncade_cli.replay import record_messages
from asyncade_cli.settings import TrainSettings
from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.modes import make_mode
from asyncade_learner.settings import LearnerSettings
from asyncade_learner.trainer import Trainer
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Assignment, Request, Trajectory, UInt8, Upstream, Weights
from asyncade_rl.batch import batch_of
from asyncade_rl.choices import Mode
from asyncade_rl.devices import fastest_precision, prepare_processor
from asyncade_rl.envs import Step, make_environments
from asyncade_rl.games import num_actions
from asyncade_rl.network import ActorCritic, make_network
from asyncade_rl.params import fingerprint, load_safetensors, to_safetensors
from asyncade_runtime.settings import load

RECORDED_UNROLLS: Final = 4


class Recorded(Player):
    """A player that has always just played the same unroll."""

    def __init__(self, unroll: Trajectory) -> None:
        self._unroll = unroll

    def trajectory(self, header: Header) -> Trajectory:
        """Returns the unroll."""
        return self._unroll


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of work.

    Attributes:
        run: does the work once.
        env_steps: env steps that one run serves.
    """

    run: Callable[[], object]
    env_steps: float


class Pieces:
    """Makes the pieces of one mode, with the default settings of `asyncade train`.

    Args:
        mode: data or gradients.
        game: ALE game id.
        seed: seed of games and weights.
    """

    def __init__(self, mode: Mode, game: str, seed: int) -> None:
        prepare_processor(1)
        self.mode = mode
        self.game = game
        self.seed = seed
        flags = [f"--mode={mode}", f"--game={game}", f"--seed={seed}"]
        train = load(TrainSettings, flags, {})
        self.actors, self.envs = train.actors, train.envs
        self.settings = load(LearnerSettings, flags, {})
        self.unroll = self.envs * self.settings.unroll_length
        request: Request = "gradients" if mode == "gradients" else "trajectories"
        self.assignment = self.settings.assignment(request, 1.0, self.actors)

    @functools.cached_property
    def messages(self) -> list[Upstream]:
        """Messages of the mode's kind, recorded from nearly random play."""
        return self._record(self.assignment, RECORDED_UNROLLS)

    def weights_message(self, network: ActorCritic | None = None) -> Weights:
        """Returns a weights message as the learner publishes it."""
        network = network or self._network()
        return Weights(
            run=1,
            policy_version=1,
            model=fingerprint(network),
            assignment=self.assignment,
            received={f"actor-{number}": 10**6 for number in range(self.actors)},
            safetensors=to_safetensors(network),
        )

    def environment(self) -> Piece:
        """Returns one step of the emulators with random actions."""
        environments = make_environments(self.game, self.envs)
        environments.reset(self.seed)
        generator = np.random.default_rng(self.seed)
        size = (1024, self.envs)
        actions = itertools.cycle(generator.integers(num_actions(self.game), size=size))
        return Piece(lambda: environments.step(next(actions)), self.envs)

    def inference(self) -> Piece:
        """Returns one unroll of the player with environments that answer at once."""
        network = self._network()
        network.hold_for_inference()
        environments = make_environments(self.game, self.envs)
        observations = environments.reset(self.seed).copy()  # may be the emulators' own memory
        environments.close()
        stages = ActorMetrics(CollectorRegistry()).stages
        player = Player(_standing(observations), self.seed, stages)
        header = Header(actor_id="bench", sequence=0, policy_version=1, model=fingerprint(network))

        def run() -> None:
            for _ in player.play(network, self.settings.unroll_length):
                pass
            player.trajectory(header)

        return Piece(run, self.unroll)

    def encode(self) -> Piece:
        """Returns the encoding of one message."""
        turn = itertools.cycle(self.messages)
        return Piece(lambda: encode(next(turn)), self.unroll)

    def decode(self) -> Piece:
        """Returns the decoding of one message."""
        turn = itertools.cycle([encode(message) for message in self.messages])
        return Piece(lambda: decode(next(turn)), self.unroll)

    def rebuild(self) -> Piece:
        """Returns the decoding of one trajectory and the rebuilding of its frame stacks."""
        turn = itertools.cycle([encode(message) for message in self.messages])

        def run() -> None:
            message = decode(next(turn))
            assert isinstance(message, Trajectory)
            batch_of([message], self.assignment.objective.discount)

        return Piece(run, self.unroll)

    def update(self) -> Piece:
        """Returns the learner's improvement with one batch.

        Data mode: all passes over a batch of the default number of actors. Gradient mode: the mean
        of the actors' steps.
        """
        stages = LearnerMetrics(CollectorRegistry()).stages
        mode = make_mode(Trainer(self._network(), self.settings, stages))
        turn = itertools.cycle(self.messages)
        taken = 0
        while mode.gathered < mode.wanted(self.actors):
            mode.add(next(turn))
            taken += 1

        def run() -> None:
            mode.improve(1.0)
            for _ in range(taken):
                mode.add(next(turn))

        return Piece(run, taken * self.unroll)

    def gradient(self) -> Piece:
        """Returns an actor's work on one unroll, without playing it."""
        network = self._network()
        network.hold_for_inference()
        (trajectory,) = self._record(replace(self.assignment, request="trajectories"), 1)
        assert isinstance(trajectory, Trajectory)
        stages = ActorMetrics(CollectorRegistry()).stages
        mode = GradientParallel(Recorded(trajectory), network, stages, self.seed)
        header = Header(actor_id="bench", sequence=0, policy_version=1, model=fingerprint(network))
        return Piece(lambda: mode.message(self.assignment, header), self.unroll)

    def publish(self) -> Piece:
        """Returns the learner's part of a publication: from parameters to an encoded message."""
        network = self._network()
        env_steps = self.actors * self.unroll
        return Piece(lambda: encode(self.weights_message(network)), env_steps)

    def take_over(self) -> Piece:
        """Returns an actor's part of a publication: from a message to parameters for inference."""
        network = self._network()
        frame = encode(self.weights_message(network))

        def run() -> None:
            message = decode(frame)
            assert isinstance(message, Weights)
            load_safetensors(network, message.safetensors)
            network.hold_for_inference()

        return Piece(run, self.unroll)

    def _record(self, assignment: Assignment, unrolls: int) -> list[Upstream]:
        return record_messages(
            assignment, game=self.game, envs=self.envs, count=unrolls, seed=self.seed
        )

    def _network(self) -> ActorCritic:
        network = make_network(num_actions(self.game), self.settings.network, self.seed)
        network.precision = fastest_precision(torch.device("cpu"))
        return network


def _standing(observations: UInt8) -> Any:
    """Returns environments that answer at once: only the player's own work is left."""
    envs = len(observations)
    step = Step(
        observations=observations,
        rewards=np.zeros(envs, np.float32),
        terminated=np.zeros(envs, bool),
        truncated=np.zeros(envs, bool),
        final_observations=None,
    )
    return SimpleNamespace(
        num_envs=envs, reset=lambda seed: observations, step=lambda actions: step
    )
