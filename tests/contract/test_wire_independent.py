"""A second reader of the wire, written from proto/SPEC.md without asyncade_proto.

It reads the golden vectors, so the specification is complete.
"""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zstandard

VECTORS = Path(__file__).parents[2] / "proto" / "vectors"
EXPECTED: dict[str, Any] = json.loads((VECTORS / "vectors.json").read_text())

BYTES_PER_ELEMENT = {"|u1": 1, "<i4": 4, "<f4": 4, "float8_e5m2": 1}


def read_frame(frame: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads magic, version, header size, header, buffers."""
    magic, version, header_bytes = struct.unpack("<3sBI", frame[:8])
    assert magic == b"\x41\x33\x43"
    assert version == 2
    header = msgpack.unpackb(frame[8 : 8 + header_bytes])
    position, arrays = 8 + header_bytes, {}
    for description in header.pop("buffers"):
        data = frame[position : position + description["bytes"]]
        position += description["bytes"]
        arrays[description["name"]] = read_array(description, data)
    assert position == len(frame)
    return header, arrays


def read_array(description: dict[str, Any], data: bytes) -> dict[str, Any]:
    """Reads one array into the form of vectors.json."""
    dtype, shape = description["dtype"], description["shape"]
    count = math.prod(shape)
    if description.get("compression") == "zstd":
        assert zstandard.frame_content_size(data) == count * BYTES_PER_ELEMENT[dtype]
        data = zstandard.decompress(data)
    assert len(data) == count * BYTES_PER_ELEMENT[dtype]
    if dtype == "float8_e5m2":
        halves = struct.pack(f"<{count}H", *(byte << 8 for byte in data))
        data = struct.pack(f"<{count}f", *struct.unpack(f"<{count}e", halves))
        dtype = "<f4"
    return {"dtype": dtype, "shape": shape, "values": np.frombuffer(data, dtype).tolist()}


def read_message(frame: bytes) -> tuple[str, dict[str, Any]]:
    """Reads a message: assigns buffers to fields."""
    fields, arrays = read_frame(frame)
    kind = fields.pop("type")
    if kind == "weights":
        blob = arrays.pop("safetensors")
        assert (blob["dtype"], len(blob["shape"])) == ("|u1", 1)
        fields.setdefault("published_at", None)  # a nil field may also be left out
        fields.setdefault("unroll_lengths", {})
        fields["assignment"].setdefault("games", None)
        return kind, fields | {"safetensors": {"hex": bytes(blob["values"]).hex()}}
    episodes = {name: arrays.pop(f"episode_{name}") for name in ("returns", "lengths")}
    assert episodes["returns"]["shape"] == episodes["lengths"]["shape"]
    if kind == "gradients":
        fields.setdefault("points_won", 0.0)
        fields.setdefault("points_lost", 0.0)
        arrays = {"tensors": {name.removeprefix("tensors/"): a for name, a in arrays.items()}}
    else:
        check_trajectory(arrays)
    return kind, fields | arrays | {"episodes": episodes}


def check_trajectory(arrays: dict[str, Any]) -> None:
    """Checks dtypes and shapes against the tables."""
    envs, frames, height, width = arrays["frames"]["shape"]
    steps = frames - 4
    ends = arrays["ends"]["values"]
    tables = {
        "frames": ("|u1", [envs, steps + 4, height, width]),
        "actions": ("|u1", [steps, envs]),
        "behaviour_log_probs": ("<f4", [steps, envs]),
        "rewards": ("<f4", [steps, envs]),
        "ends": ("|u1", [steps, envs]),
        "bootstrap_values": ("<f4", [ends.count(2)]),
    }
    assert {name: (a["dtype"], a["shape"]) for name, a in arrays.items()} == tables


def as_text(value: Any) -> str:
    """Distinguishes -0.0 from 0.0 and 1 from 1.0, unlike ==."""
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_specification_is_enough_to_read_a_vector(name: str) -> None:
    kind, fields = read_message((VECTORS / f"{name}.a3c").read_bytes())
    assert kind == EXPECTED[name]["type"]
    assert as_text(fields) == as_text(EXPECTED[name]["decodes_to"])


def test_this_reader_does_not_import_asyncade() -> None:
    program = f"import runpy, sys; runpy.run_path({__file__!r}); print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120
    )
    assert "msgpack" in modules.stdout.split()
    assert "asyncade_proto" not in modules.stdout
