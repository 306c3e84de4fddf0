"""Frames that the codec refuses, and the reason for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest

from asyncade_proto.codec import decode, encode
from asyncade_proto.messages import Episodes
from rigs.wire import (
    FRAMES,
    GRADIENTS,
    MESSAGES,
    TRAJECTORY,
    WEIGHTS,
    Header,
    forged,
    reason_of,
    same,
    with_header,
    without_buffers,
)

# --- the preamble and the header -------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "not_ours"),
        (b"A3C", "not_ours"),
        (b"A3D\x01\x00\x00\x00\x00", "not_ours"),
        (b"a3c\x01\x01\x00\x00\x00\x80", "not_ours"),
        (b"GET / HTTP/1.1\r\n\r\n", "not_ours"),
        # A later version may look otherwise from the fifth byte on.
        (b"A3C\x00", "protocol_version"),
        (b"A3C\x01", "protocol_version"),
        (b"A3C\xff\xff\xff\xff\xff", "protocol_version"),
        (b"A3C\x02", "malformed"),
        (b"A3C\x02\x00\x00\x00", "malformed"),
        (b"A3C\x02\x00\x00\x00\x00", "malformed"),
        (b"A3C\x02\x02\x00\x00\x00\x80", "malformed"),
        (b"A3C\x02\x01\x00\x03\x00" + bytes(196609), "limit"),
        (b"A3C\x02\xff\xff\xff\xff\x80", "limit"),
    ],
)
def test_a_wrong_preamble_is_refused(frame: bytes, reason: str) -> None:
    assert reason_of(frame) == reason


def test_a_header_longer_than_the_frame_is_refused() -> None:
    frame = encode(replace(WEIGHTS, safetensors=b""))  # nothing follows its header
    assert reason_of(frame) is None
    assert reason_of(frame[:4] + bytes([frame[4] + 1]) + frame[5:]) == "malformed"


@pytest.mark.parametrize(
    "raw",
    [b"\x90", b"\x01", b"\xc0", b"\xc1", b"\x80\x80", b"\x81\xa1a", b"\xdb\xff\xff\xff\xff"],
)
def test_a_header_other_than_a_map_is_refused(raw: bytes) -> None:
    assert reason_of(with_header(raw)) == "malformed"


@pytest.mark.parametrize(
    ("entry", "reason"),
    {
        "fine": (b"\xa1a\x01", None),
        "existing key": (b"\xa5model\xa1m", "malformed"),
        "key twice inside": (b"\xa1a\x82\xa1a\x01\xa1a\x02", "malformed"),
        "integer key": (b"\x01\x01", "malformed"),
        "boolean key": (b"\xc3\x01", "malformed"),
        "list key": (b"\x90\x01", "malformed"),
        "binary key": (b"\xc4\x01a\x01", "limit"),
        "binary": (b"\xa1a\xc4\x01a", "limit"),
        "extension": (b"\xa1a\xd4\x01\x00", "limit"),
        "timestamp": (b"\xa1a\xd6\xff\x00\x00\x00\x00", "limit"),
        "invalid utf-8": (b"\xa1a\xa1\xff", "malformed"),
        "half a surrogate pair": (b"\xa1a\xa3\xed\xa0\x80", "malformed"),
        "unused msgpack byte": (b"\xa1a\xc1", "malformed"),
        "nested too deeply": (b"\xa1a" + b"\x91" * 60000 + b"\x01", "malformed"),
        "list too long": (b"\xa1a\xdd\xff\xff\xff\xff", "limit"),
        "map too long": (b"\xa1a\xdf\xff\xff\xff\xff", "limit"),
        "string past the end": (b"\xa1a\xdb\xff\xff\xff\xff", "malformed"),
        "trailing bytes": (b"\xa1a\x01\x80", "malformed"),
        "key without a value": (b"\xa1a", "malformed"),
    }.values(),
)
def test_a_bad_entry_of_the_header_is_refused(entry: bytes, reason: str | None) -> None:
    frame = FRAMES["weights"]
    end = len(without_buffers(frame))
    assert 0x80 <= frame[8] < 0x8F  # a map of that many entries less 0x80
    raw = bytes([frame[8] + 1]) + frame[9:end] + entry
    assert reason_of(with_header(raw, frame[end:])) == reason


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("where", ["type", "actor_id", "sequence", "buffers", "losses", "dtype"])
@pytest.mark.parametrize("depth", [1, 400, 1000])
def test_nesting_in_any_field_is_refused(where: str, depth: int) -> None:
    # Packed by hand: msgpack itself packs no more than 511 levels.
    marker = "the marker"

    def mark(header: Header) -> None:
        (header if where in header else header["buffers"][0])[where] = marker

    frame = forged(FRAMES["gradients-float32"], mark)
    end = len(without_buffers(frame))
    deep = b"\x91" * depth + b"\x01"
    raw = frame[8:end].replace(msgpack.packb(marker), deep)
    assert reason_of(with_header(raw, frame[end:])) == "malformed"


# --- buffers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "reason"),
    {
        "no buffers": (lambda h: h.pop("buffers"), "malformed"),
        "a map of buffers": (lambda h: h.update(buffers={}), "malformed"),
        "a list of names": (lambda h: h.update(buffers=["frames"]), "malformed"),
        "no descriptions": (lambda h: h.update(buffers=[]), "malformed"),
        "no name": (lambda h: h["buffers"][0].pop("name"), "malformed"),
        "one name twice": (lambda h: h["buffers"][1].update(name="frames"), "malformed"),
        "one too few": (lambda h: h["buffers"].pop(), "malformed"),
        "another name": (lambda h: h["buffers"][0].update(name="images"), "malformed"),
        "no size": (lambda h: h["buffers"][0].pop("bytes"), "malformed"),
        "negative size": (lambda h: h["buffers"][0].update(bytes=-1), "malformed"),
        "huge size": (lambda h: h["buffers"][0].update(bytes=2**64 - 1), "malformed"),
        "past the end": (lambda h: h["buffers"][0].update(bytes=2**20), "malformed"),
        "short of the end": (lambda h: h["buffers"][-1].update(bytes=7), "malformed"),
        "another order": (lambda h: h["buffers"].reverse(), "malformed"),
        "transposed": (lambda h: h["buffers"][0].update(shape=[9, 2, 3, 4]), "malformed"),
        "another dtype": (lambda h: h["buffers"][5].update(dtype="<i4"), "malformed"),
        "seven axes": (lambda h: h["buffers"][0].update(shape=[1] * 7), "limit"),
    }.values(),
)
def test_bad_descriptions_of_buffers_are_refused(
    edit: Callable[[Header], object], reason: str
) -> None:
    assert reason_of(forged(FRAMES["trajectory"], edit)) == reason


def test_an_unknown_buffer_may_be_there_once() -> None:
    sound = {"name": "sound", "bytes": 0}
    for buffers, reason in ([sound], None), ([sound, sound], "malformed"):
        frame = forged(FRAMES["weights"], lambda h, b=buffers: h["buffers"].extend(b))
        assert reason_of(frame) == reason


def test_bytes_behind_the_last_buffer_are_refused() -> None:
    assert all(reason_of(frame + b"\x00") == "malformed" for frame in FRAMES.values())


@pytest.mark.parametrize("kind", ["trajectory", "gradients-float32", "weights"])
def test_unknown_fields_and_buffers_are_ignored(kind: str) -> None:
    def newer(header: Header) -> None:
        for place in (header, header["buffers"][0], *header.get("assignment", {}).values()):
            if isinstance(place, dict):
                place["colour"] = {"red": [1, None, 0.5, "x" * 512]}
        header["buffers"].append({"name": "sound", "bytes": 3, "dtype": "f16", "shape": nested(9)})

    assert same(decode(forged(FRAMES[kind], newer, b"abc")), MESSAGES[kind])


# --- fields of the messages ------------------------------------------------------------------


def with_element(array: Any, value: float) -> Any:
    changed = array.copy()
    changed[(0,) * array.ndim] = value
    return changed


PER_STEP = ("actions", "behaviour_log_probs", "rewards", "ends")
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("field", "change", "reason"),
    [
        *((name, lambda a: a.astype(np.int32), "malformed") for name in ("frames", "rewards")),
        *((name, lambda a: a[:-1], "malformed") for name in PER_STEP),
        ("actions", lambda a: a[:, :-1], "malformed"),
        ("actions", lambda a: a[:0], "malformed"),
        ("actions", lambda a: a.reshape(-1), "malformed"),
        ("frames", lambda a: a[:, :-1], "malformed"),
        ("frames", lambda a: a[:1], "malformed"),
        ("frames", lambda a: a[..., 0], "malformed"),
        ("frames", lambda a: a[..., :0], "malformed"),
        ("ends", lambda a: with_element(a, 3), "malformed"),
        (
            "ends",
            lambda a: with_element(a, 2),
            "malformed",
        ),  # truncated without a value
        ("bootstrap_values", lambda a: a[:0], "malformed"),
        ("behaviour_log_probs", lambda a: with_element(a, 1e-45), "malformed"),
        *(
            (name, lambda a, bad=bad: with_element(a, bad), "not_finite")
            for name in ("rewards", "bootstrap_values", "behaviour_log_probs")
            for bad in (NAN, INF, -INF)
        ),
    ],
)
def test_an_inconsistent_trajectory_is_refused(
    field: str, change: Callable[[Any], Any], reason: str
) -> None:
    changed: dict[str, Any] = {field: change(getattr(TRAJECTORY, field))}
    assert reason_of(encode(replace(TRAJECTORY, **changed))) == reason


def test_an_unroll_without_steps_or_environments_is_refused() -> None:
    for cut, frames in ((np.s_[:0], np.s_[:, :4]), (np.s_[:, :0], np.s_[:0])):
        changed = {name: getattr(TRAJECTORY, name)[cut] for name in PER_STEP}
        changed |= {"frames": TRAJECTORY.frames[frames], "bootstrap_values": np.zeros(0, "<f4")}
        assert reason_of(encode(replace(TRAJECTORY, **changed))) == "malformed"


@pytest.mark.parametrize("kind", ["trajectory", "gradients-float8"])
@pytest.mark.parametrize(
    ("returns", "lengths", "reason"),
    [
        ([1.0], [], "malformed"),
        ([1.0], [0], "malformed"),
        ([1.0, 2.0], [5, -1], "malformed"),
        ([NAN], [1], "not_finite"),
        ([[1.0]], [[1]], "malformed"),
    ],
)
def test_wrong_episodes_are_refused(kind: str, returns: Any, lengths: Any, reason: str) -> None:
    wrong = Episodes(returns=np.array(returns, np.float32), lengths=np.array(lengths, np.int32))
    changed: dict[str, Any] = {"episodes": wrong}
    assert reason_of(encode(replace(MESSAGES[kind], **changed))) == reason


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"tensors": {}}, "malformed"),
        ({"tensors": {"": np.ones(1, np.float32)}}, "malformed"),
        ({"tensors": {"a\nb": np.ones(1, np.float32)}}, "malformed"),
        ({"tensors": {"a": np.ones(1, np.int32)}}, "malformed"),
        ({"tensors": {"a": np.array([1, NAN], np.float32)}}, "not_finite"),
        ({"tensors": {"a": np.array(-INF, np.float32)}}, "not_finite"),
        ({"losses": {"policy": NAN}}, "not_finite"),
        ({"losses": {"policy": "1"}}, "malformed"),
        ({"losses": {"policy": True}}, "malformed"),
        ({"losses": {"a\nb": 1.0}}, "malformed"),
    ],
    ids=str,
)
def test_wrong_gradients_are_refused(changed: dict[str, Any], reason: str) -> None:
    assert reason_of(encode(replace(GRADIENTS, **changed))) == reason


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0x7F7FFFFF])
def test_float8_hides_neither_nan_nor_overflow(bits: int) -> None:
    tensors = {"a": np.array([bits], "<u4").view("<f4")}
    assert reason_of(encode(replace(GRADIENTS, tensors=tensors))) == "not_finite"


@pytest.mark.parametrize("blob", [np.zeros((2, 2), np.uint8), np.zeros(4, np.float32)], ids=str)
def test_weights_other_than_one_row_of_bytes_are_refused(blob: Any) -> None:
    shape = {"dtype": blob.dtype.str, "shape": list(blob.shape), "bytes": blob.nbytes}
    buffers = [{"name": "safetensors"} | shape]
    frame = without_buffers(FRAMES["weights"])
    frame = forged(frame, lambda h: h.update(buffers=buffers), blob.tobytes())
    assert reason_of(frame) == "malformed"


@pytest.mark.parametrize("kind", ["", "Trajectory", "weights\n", "x", 5, None, ["weights"]])
def test_an_unknown_type_is_refused(kind: Any) -> None:
    assert reason_of(forged(FRAMES["weights"], lambda h: h.update(type=kind))) == "malformed"


@pytest.mark.parametrize("one", ["trajectory", "gradients-float32", "weights"])
@pytest.mark.parametrize("other", ["trajectory", "gradients", "weights"])
def test_a_message_of_the_wrong_type_is_refused(one: str, other: str) -> None:
    if not one.startswith(other):
        assert reason_of(forged(FRAMES[one], lambda h: h.update(type=other))) == "malformed"
