"""The networks: shapes, initial values, input normalisation, precision."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from asyncade_rl import network as network_module
from asyncade_rl.choices import NETWORKS, Precision
from asyncade_rl.network import make_network, patches_of
from asyncade_rl.normalisation import MIN_SCALE, FrameStatistics
from asyncade_rl.params import copy_into

A = 6
BUFFERS = {"frame_mean", "frame_scale"}


def some_frames(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 4, 84, 84), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("count", "actions"), [(1, 3), (5, 18)])
def test_outputs_have_their_shapes_and_dtypes(name: str, count: int, actions: int) -> None:
    logits, values = make_network(actions, name, seed=0)(some_frames(count))
    assert (logits.shape, logits.dtype) == ((count, actions), torch.float32)
    assert (values.shape, values.dtype) == ((count,), torch.float32)


@pytest.mark.parametrize(("name", "millions"), [("small", 0.68), ("nature", 1.69)])
def test_networks_have_the_sizes_of_the_papers(name: str, millions: float) -> None:
    """Mnih et al. 2016 and 2015, with 6 actions and a value."""
    count = sum(parameter.numel() for parameter in make_network(A, name).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_first_policy_is_nearly_uniform(name: str) -> None:
    with torch.no_grad():
        logits, _ = make_network(A, name, seed=0)(some_frames(32))
    assert (logits.softmax(-1) - 1 / A).abs().max() < 0.01
    assert logits.std() > 0  # but depends on the frames


def test_weights_are_orthogonal_and_biases_zero() -> None:
    network = make_network(A, "small", seed=0)
    gains = {
        "convolutions.0": 2.0,
        "convolutions.1": 2.0,
        "fully_connected": 2.0,
        "policy": 1e-4,
        "value": 1.0,
    }
    for name, squared_gain in gains.items():
        weight = network.state_dict()[f"{name}.weight"].flatten(1)
        torch.testing.assert_close(weight @ weight.T, squared_gain * torch.eye(len(weight)))
        assert not network.state_dict()[f"{name}.bias"].any()
    assert {f"{n}.{kind}" for n in gains for kind in ("weight", "bias")} == {
        name for name, _ in network.named_parameters()
    }


def test_statistics_are_part_of_the_weights_but_not_trained() -> None:
    network = make_network(A, "small", seed=0)
    names = {name for name, _ in network.named_parameters()}
    assert network.state_dict().keys() - names == BUFFERS


def test_a_seed_determines_the_network() -> None:
    one, same, other = (make_network(A, "small", seed) for seed in (1, 1, 2))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name])
        if name.endswith("weight"):
            assert not torch.equal(tensor, other.state_dict()[name])


def test_a_seeded_network_does_not_depend_on_torchs_generator() -> None:
    torch.manual_seed(0)
    one = make_network(A, "small", seed=1).state_dict()
    torch.manual_seed(1)
    other = make_network(A, "small", seed=1).state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'large'.*small, nature"):
        make_network(A, "large")


def test_input_is_normalised_by_mean_and_scale() -> None:
    """With zero biases the network is homogeneous: outputs scale with the input."""
    network = make_network(A, "small", seed=0)
    frames = some_frames(1)[:, :1].expand(3, 4, 84, 84)
    with torch.no_grad():
        plain, _ = network(frames)
        network.frame_scale.fill_(25.5)
        torch.testing.assert_close(network(frames)[0], 10 * plain)
        network.frame_mean.copy_(frames[0, 0])  # the input is zero
        assert all(not output.any() for output in network(frames))


@pytest.mark.parametrize("name", NETWORKS)
def test_convolutions_over_patches_equal_the_papers_layers(name: str) -> None:
    """Mnih et al.'s first layer has stride 4 over 84x84x4."""
    network = make_network(A, name, seed=0)
    network.frame_mean.copy_(255 * torch.rand(84, 84))
    network.frame_scale.fill_(10.0)
    frames = some_frames(3)
    hidden = (frames - network.frame_mean) / network.frame_scale
    for layer in network.convolutions:
        hidden = torch.relu(layer(hidden))
    hidden = hidden.permute(0, 2, 3, 1)  # the order of the dense layer's inputs
    hidden = torch.relu(network.fully_connected(hidden.flatten(1)))
    logits, values = network(frames)
    torch.testing.assert_close(logits, network.policy(hidden), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(values, network.value(hidden).squeeze(-1), rtol=1e-4, atol=1e-4)


def test_patches_equal_torchs_pixel_unshuffle() -> None:
    frames = some_frames(5)
    expected = torch.nn.functional.pixel_unshuffle(frames, 4).permute(0, 2, 3, 1)
    assert torch.equal(patches_of(frames), expected)
    assert torch.equal(patches_of(frames[::2]), expected[::2])  # with other strides


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_inputs_are_patches_less_the_mean(
    monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    monkeypatch.setattr(network_module, "_PIECE", 2)
    network = make_network(A, "small", seed=0)
    network.precision = precision
    network.frame_mean.copy_(torch.randint(256, (84, 84)))  # exact in bfloat16 too
    frames = some_frames(5)
    expected = frames.float() - network.frame_mean
    expected = torch.nn.functional.pixel_unshuffle(expected, 4).permute(0, 2, 3, 1)
    inputs = network.inputs_of(frames)
    assert inputs.dtype == getattr(torch, precision)
    assert torch.equal(inputs.float(), expected)
    for ours, theirs in zip(network.of_inputs(inputs), network(frames), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_held_parameters_are_used_for_inference_only(precision: Precision) -> None:
    network, other = make_network(A, "small", seed=0), make_network(A, "small", seed=1)
    network.precision = other.precision = precision
    frames = some_frames(2)
    network.hold_for_inference()
    copy_into(network.state_dict(), other.state_dict())
    with torch.inference_mode():
        assert not torch.equal(network(frames)[0], other(frames)[0])  # holds the old parameters
    assert torch.equal(network(frames)[0], other(frames)[0])
    logits, _ = network(frames)
    logits.sum().backward()  # not through the held ones
    assert network.fully_connected.weight.grad is not None
    network.hold_for_inference()
    with torch.inference_mode():
        assert torch.equal(network(frames)[0], other(frames)[0])


def test_bfloat16_is_close_to_float32() -> None:
    network = make_network(A, "small", seed=0)
    network.frame_scale.fill_(100.0)
    frames = some_frames(8)
    exact = network(frames)
    network.precision = "bfloat16"
    for value, expected in zip(network(frames), exact, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected, rtol=0.05, atol=0.05)
        assert not torch.equal(value, expected)  # so bfloat16 was used


def test_uncalibrated_input_is_between_0_and_1() -> None:
    network = make_network(A, "small")
    assert not network.frame_mean.any()
    assert float(network.frame_scale) == 255.0


def test_statistics_match_numpy_for_any_division_of_the_frames() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(256, size=(3, 10, 84, 84), dtype=np.uint8)
    frames[..., 0, 0] = 255  # constant and bright: no overflow, no cancellation
    whole, parts = FrameStatistics(), FrameStatistics()
    whole.add(frames)
    for env, time in itertools.product(range(3), (slice(0, 1), slice(1, 10))):
        parts.add(frames[env, time])
    for statistics in (whole, parts):
        assert statistics.count == 30
        np.testing.assert_allclose(statistics.mean(), frames.mean(axis=(0, 1)))
        deviation = frames.std(axis=(0, 1)).max()
        assert statistics.scale() == pytest.approx(deviation / 2)


def test_statistics_are_written_to_the_networks_buffers() -> None:
    network = make_network(A, "small", seed=0)
    mean, scale = network.frame_mean, network.frame_scale
    statistics = FrameStatistics()
    statistics.add(some_frames(10).numpy())
    statistics.apply_to(network)
    assert network.frame_mean is mean  # in place
    assert network.frame_scale is scale
    np.testing.assert_allclose(mean.numpy(), statistics.mean(), rtol=1e-6)
    assert float(scale) == pytest.approx(statistics.scale())


@pytest.mark.parametrize("grey", [0, 77, 255])
def test_constant_frames_have_the_minimum_scale(grey: int) -> None:
    statistics = FrameStatistics()
    statistics.add(np.full((1000, 84, 84), grey, dtype=np.uint8))
    assert statistics.scale() == MIN_SCALE
    np.testing.assert_array_equal(statistics.mean(), grey)
