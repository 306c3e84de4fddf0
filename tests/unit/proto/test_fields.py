"""Text in header fields, and errors that name the field.

Other types of fields: tests/contract/test_wire_spec.py tries every field of every message.
"""

from __future__ import annotations

from typing import Any

import pytest

from asyncade_proto.errors import DecodeError
from asyncade_proto.fields import Fields

DEEP: Any = 1
for _ in range(5000):
    DEEP = [DEEP]  # too deep for repr(), so an error must not show it


@pytest.mark.parametrize("value", ["pong", "x" * 128, "🕹" * 32, "Ünï 🕹"])
def test_printable_text_up_to_128_bytes_is_returned(value: str) -> None:
    assert Fields({"x": value, "unknown": 1}).text("x") == value


@pytest.mark.parametrize(
    ("reason", "values"),
    [
        ("malformed", ["", 1, b"word", "a\nb", "\x00", "\u202e", "\ue000", "a\x7f", "\ud800"]),
        ("malformed", ["\n" * 129, DEEP, None, object()]),
        ("limit", ["x" * 129, "é" * 65, "🕹" * 33]),
    ],
)
def test_other_text_is_refused(reason: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(DecodeError, match="x") as caught:
            Fields({"x": value}).text("x")
        assert caught.value.reason == reason
        assert len(caught.value.detail) < 100
        assert caught.value.detail.isprintable()


@pytest.mark.parametrize(
    ("reason", "values"),
    [("malformed", [[-1], [1.0], [True], ["1"], [[1]], 1, (1,), {}, DEEP]), ("limit", [[1] * 3])],
)
def test_other_sizes_are_refused(reason: str, values: list[Any]) -> None:
    assert Fields({"x": [0, 2**64 - 1]}).sizes("x", at_most=2) == (0, 2**64 - 1)
    for value in values:
        with pytest.raises(DecodeError, match="x") as caught:
            Fields({"x": value}).sizes("x", at_most=2)
        assert caught.value.reason == reason


def test_an_integer_counts_as_a_number() -> None:
    fields = Fields({"x": 1, "y": {"a": 1}})
    assert type(fields.number("x", 0, 1)) is float
    assert type(fields.numbers("y", at_most=1)["a"]) is float


@pytest.mark.parametrize(("values", "absent"), [({}, True), ({"x": None}, True), ({"x": 0}, False)])
def test_nil_and_missing_are_absent(values: dict[str, Any], absent: bool) -> None:
    assert Fields(values).absent("x") is absent


def test_an_error_names_the_path_of_the_field() -> None:
    fields = Fields({"a": {"b": [{}, {"c": 1}]}})
    with pytest.raises(DecodeError, match=r"malformed: a\.b\[1\]\.c "):
        fields.map("a").maps("b", at_most=2)[1].text("c")
