"""The unavoidable work of the pipeline, each piece alone: what `bench.ceiling` puts a clock on.

Every piece goes through the code that the services run, so that it gets faster when they do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from asyncade_learner.phases import Trainer, learning_phase
from prometheus_client import CollectorRegistry

from asyncade_actor.metrics import ActorMetrics
from asyncade_actor.modes import DataParallel, make_mode, next_message
from asyncade_actor.player import Header, Player
from asyncade_cli.replay import record_messages
from asyncade_cli.settings import TrainSettings
from asyncade_learner.metrics import LearnerMetrics
from asyncade_learner.settings import LearnerSettings
from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Assignment, Request, Upstream, Weights
from asyncade_rl.choices import Mode
from asyncade_rl.devices import fastest_precision, prepare_processor
from asyncade_rl.envs import Step, make_environments
from asyncade_rl.games import num_actions
from asyncade_rl.network import ActorCritic, make_network
from asyncade_rl.params import fingerprint, load_safetensors, to_safetensors
from asyncade_runtime.settings import load

RECORDED_UNROLLS: Final = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of work.

    Attributes:
        run: does it once.
        env_steps: that one run serves.
    """

    run: Callable[[], object]
    env_steps: float


class StandingEnvironments:
    """Environments that answer at once, always the same: what is left is the player's own work."""

    def __init__(self, observations: npt.NDArray[np.uint8], actions: int) -> None:
        self._actions = actions
        envs = len(observations)
        self._step = Step(
            observations=observations,
            rewards=np.zeros(envs, np.float32),
            terminated=np.zeros(envs, bool),
            truncated=np.zeros(envs, bool),
            final_observations=None,
        )

    @property
    def num_envs(self) -> int:
        return len(self._step.observations)

    @property
    def num_actions(self) -> int:
        return self._actions

    def protocol(self) -> dict[str, Any]:
        return {}

    def reset(self, seed: int) -> npt.NDArray[np.uint8]:
        return self._step.observations

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        return self._step

    def close(self) -> None:
        pass


class Workshop:
    """Makes the pieces of one mode, with the settings that `asyncade train` has by default.

    Args:
        mode: of the run.
        game: an ALE id.
        seed: of games and weights.
        actors: of the run; default: as `asyncade train` has it.
    """

    def __init__(self, mode: Mode, game: str, seed: int, actors: int | None = None) -> None:
        prepare_processor(1)
        self.mode = mode
        self.game = game
        self.seed = seed
        flags = [f"--mode={mode}", f"--game={game}", f"--seed={seed}"]
        train = load(TrainSettings, flags, {})
        self.actors, self.envs = actors or train.actors, train.envs
        self.settings = load(LearnerSettings, flags, {})
        self.unroll = self.envs * self.settings.unroll_length
        request: Request = "gradients" if mode == "gradients" else "trajectories"
        self.assignment = self.settings.assignment(request, 1.0, self.actors)
        objective = self.assignment.objective
        self.gradients_per_unroll = objective.passes * max(
            1, round(self.unroll / objective.minibatch_size)
        )

    @property
    def env_steps_per_message(self) -> float:
        """Env steps that one message stands for, on average."""
        return self.unroll / (self.gradients_per_unroll if self.mode == "gradients" else 1)

    def pieces(self) -> dict[str, Piece]:
        """Returns name to piece of everything that the mode cannot do without.

        The pieces share messages of the real game, recorded here.
        """
        messages = self.record()
        frames = [encode(message) for message in messages]
        per_message = self.env_steps_per_message
        turn: Iterator[Upstream] = itertools.cycle(messages)
        frame_turn: Iterator[bytes] = itertools.cycle(frames)
        found = {
            "environment": self.environment(),
            "inference": self.inference(),
            "encode": Piece(lambda: encode(next(turn)), per_message),
            "decode": Piece(lambda: decode(next(frame_turn)), per_message),
            "update": self.update(messages),
            "weights": self.weights(),
        }
        if self.mode == "gradients":
            found["gradient"] = self.gradient()
        return found

    def record(self) -> list[Upstream]:
        """Returns messages of the real game."""
        return record_messages(
            self.assignment,
            game=self.game,
            envs=self.envs,
            count=RECORDED_UNROLLS,
            seed=self.seed,
        )

    def environment(self, threads: int = 1) -> Piece:
        """The emulators alone, at random play."""
        environments = make_environments(self.game, self.envs, num_threads=threads)
        environments.reset(self.seed)
        generator = np.random.default_rng(self.seed)
        size = (1024, self.envs)
        actions = itertools.cycle(generator.integers(num_actions(self.game), size=size))
        return Piece(lambda: environments.step(next(actions)), self.envs)

    def inference(self) -> Piece:
        """The actor's own path, with environments that take no time."""
        network, player = self._network(), self._standing_player()
        network.hold_for_inference()
        return Piece(self._unrolls(player, network), self.unroll)

    def play(self, threads: int = 1) -> Piece:
        """An unroll with the emulators: they and the network take turns in the caches."""
        network = self._network()
        network.hold_for_inference()
        environments = make_environments(self.game, self.envs, num_threads=threads)
        player = Player(environments, self.seed, self._stages())
        return Piece(self._unrolls(player, network), self.unroll)

    def update(self, messages: list[Upstream]) -> Piece:
        """The learner's improvement by one batch: its passes over the data, or one gradient step.

        In data mode the batch is what a run of the default number of actors makes it.
        """
        stages = LearnerMetrics(CollectorRegistry()).stages
        phase = learning_phase(Trainer(self._network(), self.settings, stages))
        turn = itertools.cycle(messages)
        taken = 0
        while not phase.enough(self.actors):
            phase.add(next(turn))
            taken += 1

        def improve() -> None:
            phase.improve(1.0)
            for _ in range(taken):
                phase.add(next(turn))

        return Piece(improve, taken * self.env_steps_per_message)

    def gradient(self) -> Piece:
        """Gradient mode, the actor's part: targets and all gradients of one unroll, less its play.

        The time of play with standing environments is in it too: `bench.ceiling` takes it off.
        """
        network, player = self._network(), self._standing_player()
        network.hold_for_inference()
        mode = make_mode("gradients", player, network, self._stages(), self.seed)
        header = _header(network)

        def report() -> None:
            for _ in range(self.gradients_per_unroll):
                next_message(mode, self.assignment, header)

        return Piece(report, self.unroll)

    def turns(self) -> Piece:
        """Gradient mode, all of an actor's work for an unroll but its sockets.

        For each gradient it takes over weights, computes, and plays ahead with real emulators.
        """
        network = self._network()
        frame = self._frame_of(network)
        player = Player(make_environments(self.game, self.envs), self.seed, self._stages())
        mode = make_mode("gradients", player, network, self._stages(), self.seed)
        header = _header(network)

        def run() -> None:
            for _ in range(self.gradients_per_unroll):
                _take_over(frame, network)
                next_message(mode, self.assignment, header)
                for _ in mode.play_ahead(self.assignment):
                    pass

        return Piece(run, self.unroll)

    def weights(self) -> Piece:
        """One publication, and every actor's taking it over."""
        publish, take = self.publication(), self.takeover()

        def run() -> None:
            publish.run()
            for _ in range(self.actors):
                take.run()

        return Piece(run, self.actors * self.env_steps_per_message)

    def publication(self) -> Piece:
        """The learner's part: from parameters to a frame."""
        network = self._network()
        return Piece(lambda: self._frame_of(network), self.actors * self.env_steps_per_message)

    def takeover(self) -> Piece:
        """An actor's part: from a frame to parameters ready for inference."""
        network = self._network()
        frame = self._frame_of(network)
        return Piece(lambda: _take_over(frame, network), self.env_steps_per_message)

    def _frame_of(self, network: ActorCritic) -> bytes:
        model = fingerprint(network)
        return encode(weights_message(to_safetensors(network), model, self.assignment, {}))

    def _network(self) -> ActorCritic:
        network = make_network(num_actions(self.game), self.settings.network, self.seed)
        network.precision = fastest_precision(torch.device("cpu"))
        return network

    def _standing_player(self) -> Player:
        environments = make_environments(self.game, self.envs)
        observations = environments.reset(self.seed).copy()  # it may be the emulators' own memory
        environments.close()
        standing = StandingEnvironments(observations, num_actions(self.game))
        return Player(standing, self.seed, self._stages())

    def _unrolls(self, player: Player, network: ActorCritic) -> Callable[[], object]:
        """Returns what plays one more unroll."""
        mode, header = DataParallel(player, network), _header(network)
        return lambda: next_message(mode, self.assignment, header)

    def _stages(self) -> Any:
        return ActorMetrics(CollectorRegistry()).stages


def _header(network: ActorCritic) -> Header:
    return Header(actor_id="bench", sequence=0, policy_version=0, model=fingerprint(network))


def _take_over(frame: bytes, network: ActorCritic) -> None:
    message = decode(frame)
    assert isinstance(message, Weights)
    load_safetensors(network, message.safetensors)
    network.hold_for_inference()


def weights_message(
    safetensors: bytes,
    model: str,
    assignment: Assignment,
    received: Mapping[str, int],
    policy_version: int = 1,
) -> Weights:
    """Returns a weights message as a learner would publish it."""
    return Weights(
        run=1,
        policy_version=policy_version,
        model=model,
        assignment=assignment,
        received=received,
        safetensors=safetensors,
    )
