"""Parameters as bytes, fingerprints, gradients as arrays, and the optimiser."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from asyncade_rl.network import ActorCritic, make_network
from asyncade_rl.optimiser import Optimiser
from asyncade_rl.params import (
    ModelMismatchError,
    copies_of_parameters,
    copy_into,
    fingerprint,
    load_safetensors,
    move,
    to_safetensors,
)


class Tiny(nn.Module):
    """A network of a few parameters and a buffer."""

    scale: Tensor

    def __init__(self, seed: int, inputs: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, 2)
        self.head = nn.Linear(2, 1)
        self.register_buffer("scale", torch.tensor(float(seed)))
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)


def values(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


# --- safetensors ---------------------------------------------------------------------------------


def test_safetensors_are_loaded_into_the_existing_tensors() -> None:
    one, other = make_network(6, "small", seed=1), make_network(6, "small", seed=2)
    one.frame_mean.fill_(87.0)
    one.frame_scale.fill_(10.0)
    before = dict(other.named_parameters()) | dict(other.named_buffers())
    before_saving = values(one)
    load_safetensors(other, to_safetensors(one))
    assert same(values(one), before_saving)
    assert same(values(other), rounded(one))
    assert fingerprint(one) == fingerprint(other)
    after = dict(other.named_parameters()) | dict(other.named_buffers())
    assert all(after[name] is tensor for name, tensor in before.items())
    assert all(parameter.requires_grad for parameter in other.parameters())


def rounded(network: ActorCritic) -> dict[str, Tensor]:
    """Its state as it is published: bfloat16 in the layers that are multiplied."""
    return {
        name: tensor.bfloat16().float() if name in network.multiplied() else tensor
        for name, tensor in values(network).items()
    }


@pytest.mark.parametrize("name", ["small", "nature"])
def test_published_weights_are_half_as_large_and_play_the_same_in_bfloat16(name: str) -> None:
    one, other = make_network(6, name, seed=1), make_network(6, name)
    generator = torch.Generator().manual_seed(2)
    for parameter in one.parameters():  # biases and the policy too
        parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    one.frame_mean.copy_(255 * torch.rand((84, 84), generator=generator))
    one.frame_scale.fill_(37.3)
    blob = to_safetensors(one)
    assert len(blob) < 0.54 * sum(t.nbytes for t in one.state_dict().values())
    load_safetensors(other, blob)
    one.precision = other.precision = "bfloat16"
    frames = torch.randint(256, (5, 4, 84, 84), generator=generator, dtype=torch.uint8)
    with torch.no_grad():
        for found, expected in zip(other(frames), one(frames), strict=True):
            assert torch.equal(found, expected)
    assert not same(values(one), values(other))  # so something was rounded


def edited(edit: Callable[[dict[str, Tensor]], object]) -> bytes:
    tensors = values(Tiny(2))
    edit(tensors)
    return safetensors.torch.save(tensors)


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", "no safetensors"),
        (b"\xff" * 64, "no safetensors"),
        (edited(lambda t: None)[:-1], "no safetensors"),
        (edited(lambda t: t.pop("scale")), "one side only: scale"),
        (edited(lambda t: t.update(more=torch.zeros(1))), "one side only: more"),
        (
            safetensors.torch.save(values(Tiny(2, inputs=4))),
            r"layer.weight is \[2, 4\], this network's \[2, 3\]",
        ),
        # copy_ would broadcast these:
        (
            edited(lambda t: t.update({"head.weight": torch.zeros(1, 1)})),
            r"head.weight is \[1, 1\]",
        ),
        (edited(lambda t: t.update({"head.bias": torch.zeros(())})), r"head.bias is \[\]"),
    ],
)
def test_other_tensors_are_refused_and_change_nothing(blob: bytes, message: str) -> None:
    network = Tiny(1)
    before = values(network)
    with pytest.raises(ModelMismatchError, match=message):
        load_safetensors(network, blob)
    assert same(before, values(network))


def test_copying_is_all_or_nothing() -> None:
    state = {"a": torch.zeros(2), "b": torch.zeros(2)}
    with pytest.raises(ModelMismatchError):
        copy_into(state, {"a": torch.ones(2), "b": torch.ones(3)})
    assert not state["a"].any()


# --- fingerprints --------------------------------------------------------------------------------


def test_a_fingerprint_depends_on_shapes_and_not_on_values() -> None:
    found = fingerprint(Tiny(1))
    assert found == fingerprint(Tiny(2))
    assert len(found) == 16
    assert int(found, 16) >= 0


def test_every_structural_difference_changes_the_fingerprint() -> None:
    renamed = Tiny(1)
    renamed.heel = renamed.head  # sorts to the same place
    del renamed.head
    more = Tiny(1)
    more.register_buffer("shift", torch.zeros(()))
    networks = [
        *[make_network(actions, name) for actions in (4, 6) for name in ("small", "nature")],
        *[Tiny(1), Tiny(1, inputs=4), renamed, more, Tiny(1).double()],
    ]
    assert len({fingerprint(network) for network in networks}) == len(networks)


# --- moving ---------------------------------------------------------------------------------------


def test_parameters_move_against_the_arrays() -> None:
    network = Tiny(1)
    before = copies_of_parameters(network)
    given = {n: np.full(p.shape, 3.0, np.float32) for n, p in network.named_parameters()}
    for array in given.values():
        array.flags.writeable = False  # as from the wire
    move(network, given, 0.5)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] - 1.5)


@pytest.mark.parametrize("bad", [np.zeros((1, 1)), np.zeros(2), np.zeros((2, 1)), None])
def test_arrays_of_another_network_are_refused(bad: np.ndarray | None) -> None:
    network = Tiny(1)
    before = copies_of_parameters(network)
    given = {n: np.ones(p.shape, np.float32) for n, p in network.named_parameters()}
    if bad is None:
        del given["head.weight"]
    else:
        given["head.weight"] = bad.astype(np.float32)
    with pytest.raises(ModelMismatchError, match=r"head\.weight"):
        move(network, given, 1.0)
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name])


# --- the optimiser -------------------------------------------------------------------------------


def give(network: nn.Module, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for parameter in network.parameters():
        drawn = rng.normal(size=parameter.shape).astype(np.float32)
        parameter.grad = torch.from_numpy(drawn)


def gradients_of(network: nn.Module) -> dict[str, np.ndarray]:
    return {
        name: parameter.grad.numpy().copy()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


def make_optimiser(network: nn.Module, max_gradient_norm: float = 1.0) -> Optimiser:
    return Optimiser(network, max_gradient_norm=max_gradient_norm, epsilon=1e-5)


def test_a_restored_optimiser_makes_the_same_steps() -> None:
    one = Tiny(1)
    first = make_optimiser(one)
    for seed in range(3):
        give(one, seed)
        first.step(0.1)
    other = copy.deepcopy(one)
    second = make_optimiser(other)
    state = first.state()
    second.load_state(state)
    for seed in range(3, 6):
        for network, optimiser in ((one, first), (other, second)):
            give(network, seed)
            optimiser.step(0.1)
        assert same(values(one), values(other))
    # The state is copied both ways: the steps since have not changed it.
    third = make_optimiser(Tiny(1))
    third.load_state(state)
    assert same(state, third.state())
    assert not same(state, first.state())


@pytest.mark.parametrize("odd", ["missing", "extra", "shape", "dtype"])
def test_the_state_of_another_optimiser_is_refused_and_changes_nothing(odd: str) -> None:
    one = Tiny(1)
    optimiser = make_optimiser(one)
    give(one, 0)
    optimiser.step(0.1)
    before, state = optimiser.state(), optimiser.state()
    name = next(name for name in state if name.startswith("exp_avg."))
    match odd:
        case "missing":
            del state[name]
        case "extra":
            state["max_exp_avg_sq.more"] = torch.zeros(1)
        case "shape":
            state[name] = torch.zeros(9, 9)
        case "dtype":
            state[name] = state[name].to(torch.float64)
    with pytest.raises(ModelMismatchError):
        optimiser.load_state(state)
    assert same(before, optimiser.state())


def test_numbers_of_another_kind_are_refused() -> None:
    state = {"weight": torch.zeros(2)}
    with pytest.raises(ModelMismatchError, match="weight"):
        copy_into(state, {"weight": torch.ones(2, dtype=torch.complex64)})
    assert not state["weight"].any()


def test_an_optimiser_without_its_state_makes_other_steps() -> None:
    one = Tiny(1)
    first = make_optimiser(one)
    give(one, 0)
    first.step(0.1)
    other = copy.deepcopy(one)
    for network, optimiser in ((one, first), (other, make_optimiser(other))):
        give(network, 1)
        optimiser.step(0.1)
    assert not same(values(one), values(other))


def test_a_new_optimiser_has_an_empty_state() -> None:
    optimiser = make_optimiser(Tiny(1))
    assert optimiser.state() == {}
    optimiser.load_state({})
    assert optimiser.state() == {}


def test_the_state_is_named_by_parameter() -> None:
    network = make_network(6, "small", seed=0)
    optimiser = make_optimiser(network)
    give(network, 0)
    optimiser.step(0.1)
    kinds = ("step", "exp_avg", "exp_avg_sq")
    names = {f"{kind}.{name}" for kind in kinds for name, _ in network.named_parameters()}
    assert optimiser.state().keys() == names


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_non_finite_gradient_changes_nothing(poison: float) -> None:
    network = Tiny(1)
    optimiser = make_optimiser(network)
    give(network, 0)
    assert math.isfinite(optimiser.step(0.1))
    before, state = values(network), optimiser.state()
    give(network, 1)
    assert network.head.bias.grad is not None
    network.head.bias.grad[0] = poison
    assert not math.isfinite(optimiser.step(0.1))
    assert same(before, values(network))
    assert same(state, optimiser.state())
    give(network, 2)
    assert math.isfinite(optimiser.step(0.1))
    assert not same(before, values(network))


@pytest.mark.parametrize(("max_norm", "shrunk"), [(0.5, True), (100.0, False)])
def test_gradients_are_clipped_to_the_norm(max_norm: float, shrunk: bool) -> None:
    """Checked in Adam's first moment: the size of its first step does not depend on the norm."""
    network = Tiny(1)
    optimiser = make_optimiser(network, max_norm)
    give(network, 0)
    given = gradients_of(network)
    norm = math.sqrt(sum(float(np.square(g).sum()) for g in given.values()))
    assert optimiser.step(0.1) == pytest.approx(norm)
    factor = max_norm / norm if shrunk else 1.0
    for name, gradient in given.items():
        moment = optimiser.state()[f"exp_avg.{name}"].numpy()
        np.testing.assert_allclose(moment, 0.1 * factor * gradient, rtol=1e-4)


def test_moments_forget_as_much_per_batch_however_its_steps_are_shared_out() -> None:
    alone, one_of_four = Tiny(1), Tiny(1)
    optimisers = [make_optimiser(network) for network in (alone, one_of_four)]
    give(alone, 0)
    give(one_of_four, 0)
    for _ in range(4):
        optimisers[0].step(0.0)
    optimisers[1].step(0.0, steps_side_by_side=4.0)
    other = optimisers[1].state()
    for name, moment in optimisers[0].state().items():
        if not name.startswith("step."):
            torch.testing.assert_close(moment, other[name], rtol=1e-4, atol=1e-8)


def test_the_first_step_has_the_size_of_the_learning_rate() -> None:
    network = Tiny(1)
    optimiser = make_optimiser(network)
    before = values(network)
    give(network, 0)
    gradients = gradients_of(network)
    optimiser.step(0.01)
    for name, gradient in gradients.items():
        moved = values(network)[name] - before[name]
        np.testing.assert_allclose(moved, -0.01 * np.sign(gradient), rtol=1e-2)
