"""The golden vectors, decoded and encoded by this project's code."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Assignment, Episodes, Gradients, Objective, Trajectory, Weights
from rigs.wire import FRAMES, MESSAGES, VECTORS

EXPECTED: dict[str, Any] = json.loads((VECTORS / "vectors.json").read_text())


@pytest.fixture(scope="module")
def make_vectors() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_vectors", VECTORS / "make_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_is(found: Any, expected: Any) -> None:
    """Compares a message with its description in vectors.json, arrays bit for bit."""
    match found:
        case np.ndarray():
            array = np.array(expected["values"], expected["dtype"]).reshape(expected["shape"])
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            assert found.tobytes() == array.tobytes()
        case bytes():
            assert found == bytes.fromhex(expected["hex"])
        case dict():
            assert found.keys() == expected.keys()
            for key in found:
                assert_is(found[key], expected[key])
        case Episodes() | Assignment() | Objective() | Trajectory() | Gradients() | Weights():
            names = [*type(found).__dataclass_fields__]
            assert sorted(names) == sorted(expected)
            for name in names:
                assert_is(getattr(found, name), expected[name])
        case _:
            assert (type(found), found) == (type(expected), expected)


def test_every_vector_is_described() -> None:
    assert sorted(FRAMES) == sorted(EXPECTED)
    assert sum(map(len, FRAMES.values())) < 30_000
    assert {entry["type"] for entry in EXPECTED.values()} == {"trajectory", "gradients", "weights"}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_vector_decodes_to_its_description(name: str) -> None:
    message = MESSAGES[name]
    assert type(message).__name__.lower() == EXPECTED[name]["type"]
    assert_is(message, EXPECTED[name]["decodes_to"])


@pytest.mark.parametrize("name", EXPECTED)
def test_encoding_the_message_gives_the_vector(name: str) -> None:
    again = encode(MESSAGES[name], **EXPECTED[name]["encode"])
    assert_is(decode(again), EXPECTED[name]["decodes_to"])
    if EXPECTED[name]["type"] != "trajectory":  # another zstd may compress differently
        assert again == FRAMES[name]


def test_the_script_makes_these_vectors(make_vectors: ModuleType, tmp_path: Path) -> None:
    make_vectors.write(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["vectors.json", *(f"{name}.a3c" for name in EXPECTED)]
    )
    for path in tmp_path.iterdir():
        if path.name != "trajectory.a3c":
            assert path.read_bytes() == (VECTORS / path.name).read_bytes()


def test_the_trajectory_has_every_kind_of_end() -> None:
    expected = EXPECTED["trajectory"]["decodes_to"]
    assert set(expected["ends"]["values"]) == {0, 1, 2}
    assert expected["bootstrap_values"]["shape"] == [1]
    assert expected["episodes"]["returns"]["shape"] == [2]


def test_the_weights_are_read_by_the_safetensors_library() -> None:
    message = MESSAGES["weights"]
    assert isinstance(message, Weights)
    tensors = safetensors.numpy.load(message.safetensors)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "policy.bias": (3,),
        "policy.weight": (3, 2),
    }
