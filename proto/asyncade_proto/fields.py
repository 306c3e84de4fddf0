"""Typed reading of an untrusted msgpack map: every value is checked before use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from asyncade_proto.errors import DecodeError
from asyncade_proto.limits import MAX_TEXT_LENGTH

Choice = TypeVar("Choice", bound=str)


class Fields:
    """A map whose values are read by name and type.

    Unknown keys are ignored: a newer peer may send more (proto/SPEC.md, Evolution). Every method
    raises `DecodeError` with the field's name if the value is missing or invalid: reason ``limit``
    for too many bytes or entries, ``not_finite`` for NaN and infinity, otherwise ``malformed``.
    Errors never show values, which may be long or nested too deeply to print.

    Args:
        values: the unpacked map.
        where: prefix of field names in errors.
    """

    def __init__(self, values: Mapping[Any, Any], where: str = "") -> None:
        self._values = values
        self._where = where

    def text(self, name: str) -> str:
        """Returns a string of printable characters, 1 to `MAX_TEXT_LENGTH` bytes in UTF-8."""
        value = self._values.get(name)
        if not isinstance(value, str) or not value:
            raise DecodeError("malformed", f"{self._where}{name} is not a text")
        if not value.isprintable():
            raise DecodeError("malformed", f"{self._where}{name} holds unprintable characters")
        if len(value.encode()) > MAX_TEXT_LENGTH:
            raise DecodeError("limit", f"{self._where}{name} is over {MAX_TEXT_LENGTH} bytes")
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        """Returns an integer in [low, high]; bools are refused."""
        value = self._values.get(name)
        if type(value) is not int or not low <= value <= high:
            raise DecodeError(
                "malformed", f"{self._where}{name} is not an integer from {low} to {high}"
            )
        return value

    def number(self, name: str, low: float, high: float) -> float:
        """Returns a finite number in [low, high]; integers count as numbers, bools do not."""
        value = self._finite(name, self._values.get(name))
        if not low <= value <= high:
            raise DecodeError("malformed", f"{self._where}{name} is not within {low} to {high}")
        return value

    def numbers(self, name: str, *, at_most: int) -> dict[str, float]:
        """Returns a map of text to finite numbers."""
        inner = self.map(name)
        if len(inner._values) > at_most:
            raise DecodeError("limit", f"{self._where}{name} has {len(inner._values)} entries")
        return {
            Fields({"key": key}, inner._where).text("key"): self._finite(name, value)
            for key, value in inner._values.items()
        }

    def integers(self, name: str, low: int, high: int, *, at_most: int) -> dict[str, int]:
        """Returns a map of text to integers in [low, high]."""
        inner = self.map(name)
        if len(inner._values) > at_most:
            raise DecodeError("limit", f"{self._where}{name} has {len(inner._values)} entries")
        return {
            Fields({"key": key}, inner._where).text("key"): inner.integer(key, low, high)
            for key in inner._values
        }

    def sizes(self, name: str, *, at_most: int) -> tuple[int, ...]:
        """Returns a list of at most `at_most` non-negative integers."""
        value = self._values.get(name)
        if not isinstance(value, list) or not all(type(n) is int and n >= 0 for n in value):
            raise DecodeError("malformed", f"{self._where}{name} is not a list of sizes")
        if len(value) > at_most:
            raise DecodeError("limit", f"{self._where}{name} has {len(value)} entries")
        return tuple(value)

    def flag(self, name: str) -> bool:
        """Returns a bool."""
        value = self._values.get(name)
        if not isinstance(value, bool):
            raise DecodeError("malformed", f"{self._where}{name} is neither true nor false")
        return value

    def choice(self, name: str, choices: tuple[Choice, ...]) -> Choice:
        """Returns the text if it is one of the choices."""
        value = self._values.get(name)
        for choice in choices:
            if value == choice:
                return choice
        raise DecodeError("malformed", f"{self._where}{name} is not one of {', '.join(choices)}")

    def map(self, name: str) -> Fields:
        """Returns a nested map."""
        value = self._values.get(name)
        if not isinstance(value, dict):
            raise DecodeError("malformed", f"{self._where}{name} is not a map")
        return Fields(value, f"{self._where}{name}.")

    def maps(self, name: str, *, at_most: int) -> list[Fields]:
        """Returns a list of nested maps."""
        value = self._values.get(name)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise DecodeError("malformed", f"{self._where}{name} is not a list of maps")
        if len(value) > at_most:
            raise DecodeError("limit", f"{self._where}{name} has {len(value)} entries")
        return [Fields(item, f"{self._where}{name}[{i}].") for i, item in enumerate(value)]

    def absent(self, name: str) -> bool:
        """Returns true if the value is missing or nil."""
        return self._values.get(name) is None

    def _finite(self, name: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DecodeError("malformed", f"{self._where}{name} is not a number")
        if not math.isfinite(value):
            raise DecodeError("not_finite", f"{self._where}{name} is not finite")
        return float(value)
