"""A network and the environments it plays in: what an actor, an evaluator or a command holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from asyncade_proto.messages import Assignment, Weights
from asyncade_rl.choices import Precision
from asyncade_rl.envs import Environments, make_environments
from asyncade_rl.games import num_actions
from asyncade_rl.network import make_network
from asyncade_rl.params import ModelMismatchError, copy_into, fingerprint, load_safetensors


class Session:
    """A network for one game, and E environments of that game.

    The environments start on first use, so weights that do not fit start no emulators in vain.

    Args:
        game: an ALE id such as ``pong``, or ``catch``.
        network: a key of `asyncade_rl.choices.NETWORKS`.
        envs: E.
        repeat_action_probability: sticky actions, in [0, 1).
        env_threads: threads that step the games.
        precision: floating-point format of the network's matrix products.
        seed: of the initial weights; None if weights are loaded before the network is used.
        make_environments: replaceable in tests.

    Attributes:
        network: the policy and value network.
        model: fingerprint of `network`.

    Raises:
        UnknownGameError: no game has this id.
        ValueError: no network has this name.
    """

    def __init__(
        self,
        game: str,
        network: str,
        *,
        envs: int,
        repeat_action_probability: float = 0.0,
        env_threads: int = 1,
        precision: Precision = "float32",
        seed: int | None = None,
        make_environments: Callable[..., Environments] = make_environments,
    ) -> None:
        self.network = make_network(num_actions(game), network, seed)
        self.network.precision = precision
        self.model = fingerprint(self.network)
        self._played = (game, network, repeat_action_probability)
        self._environments: Environments | None = None
        self._start = partial(
            make_environments,
            game,
            envs,
            repeat_action_probability=repeat_action_probability,
            num_threads=env_threads,
        )

    @property
    def environments(self) -> Environments:
        """The E environments, started on first use."""
        if self._environments is None:
            self._environments = self._start()
        return self._environments

    def plays(self, assignment: Assignment) -> bool:
        """Returns whether the assignment asks for this game, network and sticky actions."""
        return self._played == (
            assignment.game,
            assignment.network,
            assignment.repeat_action_probability,
        )

    def load(self, weights: Weights) -> None:
        """Loads published weights for inference.

        Raises:
            ModelMismatchError: the weights are of another network; nothing has changed.
        """
        if weights.model != self.model:
            raise ModelMismatchError(
                f"the learner's network is {weights.model}, ours {self.model}: "
                "run the same release on both ends"
            )
        load_safetensors(self.network, weights.safetensors)
        self.network.hold_for_inference()

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Loads parameters and buffers by name for inference.

        Raises:
            ModelMismatchError: the tensors are of another network; nothing has changed.
        """
        copy_into(self.network.state_dict(), tensors)
        self.network.hold_for_inference()

    def close(self) -> None:
        """Closes the environments if they were started."""
        if self._environments is not None:
            self._environments.close()
