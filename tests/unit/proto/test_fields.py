"""Readers of header fields: values they return, and values they refuse with a reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from asyncade_proto.errors import DecodeError
from asyncade_proto.fields import Fields

Read = Callable[[Fields], object]

DEEP: Any = 1
for _ in range(5000):
    DEEP = [DEEP]  # too deep for repr(), so an error must not show it

READERS: dict[str, Read] = {
    "text": lambda fields: fields.text("x"),
    "integer": lambda fields: fields.integer("x", -1, 2**53),
    "number": lambda fields: fields.number("x", 0, 1),
    "numbers": lambda fields: fields.numbers("x", at_most=2),
    "counts": lambda fields: fields.counts("x", at_most=2),
    "sizes": lambda fields: fields.sizes("x", at_most=2),
    "flag": lambda fields: fields.flag("x"),
    "choice": lambda fields: fields.choice("x", ("a", "b")),
    "map": lambda fields: fields.map("x"),
    "maps": lambda fields: fields.maps("x", at_most=2),
}


@pytest.mark.parametrize(
    ("reader", "value", "expected"),
    [
        ("text", "pong", "pong"),
        ("text", "x" * 128, "x" * 128),
        ("text", "🕹" * 32, "🕹" * 32),
        ("text", "Ünï 🕹", "Ünï 🕹"),
        ("integer", -1, -1),
        ("integer", 2**53, 2**53),
        ("number", 0, 0.0),
        ("number", 1, 1.0),
        ("number", 0.5, 0.5),
        ("number", 5e-324, 5e-324),
        ("numbers", {}, {}),
        ("numbers", {"a": 1, "b": -1e300}, {"a": 1.0, "b": -1e300}),
        ("counts", {}, {}),
        ("counts", {"a": 0, "b": 2**53}, {"a": 0, "b": 2**53}),
        ("sizes", [], ()),
        ("sizes", [0, 2**64 - 1], (0, 2**64 - 1)),
        ("flag", False, False),
        ("choice", "b", "b"),
    ],
)
def test_valid_values_are_returned(reader: str, value: Any, expected: Any) -> None:
    found = READERS[reader](Fields({"x": value, "unknown": 1}))
    assert found == expected
    assert type(found) is type(expected)


def wrong(reader: str, reason: str, *values: Any) -> list[tuple[str, str, Any]]:
    return [(reader, reason, value) for value in values]


@pytest.mark.parametrize(
    ("reader", "reason", "value"),
    [
        *(case for reader in READERS for case in wrong(reader, "malformed", DEEP, None, object())),
        *(wrong("text", "malformed", "", 1, b"word", "a\nb", "\x00", "\u202e", "\ue000", "a\x7f")),
        *(wrong("text", "malformed", "\ud800", "\n" * 129)),
        *(wrong("text", "limit", "x" * 129, "é" * 65, "🕹" * 33)),
        *(wrong("integer", "malformed", -2, 2**53 + 1, 2**64, 1.0, True, False, "1")),
        *(wrong("number", "malformed", -5e-324, 1.0000001, 2, -(2**63), 2**64, True, "1", [1.0])),
        *(wrong("number", "not_finite", math.nan, math.inf, -math.inf)),
        *(wrong("numbers", "malformed", {"": 1}, {1: 1}, {"a": "1"}, {"a": True}, {"a\n": 1}, [1])),
        *(wrong("numbers", "limit", {"a": 1, "b": 2, "c": 3}, {"a" * 129: 1})),
        *(wrong("numbers", "not_finite", {"a": math.inf})),
        *(wrong("counts", "malformed", {"": 1}, {1: 1}, {"a": 1.0}, {"a": True}, {"a": -1}, [1])),
        *(wrong("counts", "malformed", {"a": 2**53 + 1}, {"a": None}, {"a\n": 1})),
        *(wrong("counts", "limit", {"a": 1, "b": 2, "c": 3}, {"a" * 129: 1})),
        *(wrong("sizes", "malformed", [-1], [1.0], [True], ["1"], [None], [[1]], 1, (1,), {})),
        *(wrong("sizes", "limit", [1, 1, 1])),
        *(wrong("flag", "malformed", 0, 1, "true")),
        *(wrong("choice", "malformed", "c", "", "ab", 1, ["a"])),
        *(wrong("map", "malformed", [], "x", [["a", 1]])),
        *(wrong("maps", "malformed", {}, [1], [{}, None], "x")),
        *(wrong("maps", "limit", [{}, {}, {}])),
    ],
    ids=lambda value: ascii(value)[:30] if not isinstance(value, list) else "list",
)
def test_invalid_values_are_refused(reader: str, reason: str, value: Any) -> None:
    with pytest.raises(DecodeError, match="x") as caught:
        READERS[reader](Fields({"x": value}))
    assert caught.value.reason == reason
    assert len(caught.value.detail) < 100
    assert caught.value.detail.isprintable()


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_value_is_refused(reader: str) -> None:
    with pytest.raises(DecodeError, match="malformed: x "):
        READERS[reader](Fields({"y": 1}))


@pytest.mark.parametrize(("values", "absent"), [({}, True), ({"x": None}, True), ({"x": 0}, False)])
def test_nil_and_missing_are_absent(values: dict[str, Any], absent: bool) -> None:
    assert Fields(values).absent("x") is absent


def test_an_error_names_the_path_of_the_field() -> None:
    fields = Fields({"a": {"b": [{}, {"c": 1}]}})
    with pytest.raises(DecodeError, match=r"malformed: a\.b\[1\]\.c "):
        fields.map("a").maps("b", at_most=2)[1].text("c")
