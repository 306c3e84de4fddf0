"""proto/SPEC.md against the code: every row of its tables is tested."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from asyncade_proto import limits, messages, ports
from asyncade_proto.arrays import DTYPES
from asyncade_proto.codec import MAGIC, PROTOCOL_VERSION
from asyncade_proto.errors import DECODE_REASONS
from asyncade_proto.messages import REQUESTS, Assignment, Gradients, Objective, Trajectory, Weights
from rigs.wire import FRAMES, reason_of, split, with_header

PROTO = Path(__file__).parents[2] / "proto"
SPEC = (PROTO / "SPEC.md").read_text()

Rows = dict[str, dict[str, str]]


def section(title: str) -> str:
    """Returns the text under a heading."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", SPEC, re.M | re.S)
    assert found, f"SPEC.md has no section {title}"
    return found[1]


def table(title: str, first_column: str) -> Rows:
    """Returns a table of that section by its first column, without backquotes."""
    lines = iter(section(title).splitlines())
    for line in lines:
        columns = cells(line)
        if columns[0] == first_column:
            next(lines)
            rows = [cells(row) for row in iter(lambda: next(lines, ""), "")]
            return {row[0]: dict(zip(columns, row, strict=True)) for row in rows}
    raise AssertionError(f"section {title} has no table of {first_column}")


def cells(line: str) -> list[str]:
    split = re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
    return [re.sub("^`([^`]*)`$", r"\1", cell.strip()).replace("\\|", "|") for cell in split]


RECORDS: dict[str, type] = {
    "trajectory": Trajectory,
    "gradients": Gradients,
    "weights": Weights,
    "assignment": Assignment,
    "objective": Objective,
}
WITH_BUFFERS = ("trajectory", "gradients", "weights")
FIELDS = [(kind, row) for kind in RECORDS for row in table(kind, "Field").values()]
VECTOR = {"trajectory": "trajectory", "gradients": "gradients-float32"}  # others are in weights


# --- the tables of numbers -------------------------------------------------------------------


def test_the_limits_are_those_of_the_code() -> None:
    written = {name: int(row["Value"]) for name, row in table("Limits", "Limit").items()}
    assert written == {n: v for n, v in vars(limits).items() if n.startswith("MAX_")}


def test_every_named_limit_exists() -> None:
    for name in re.findall(r"`(MAX_[A-Z_]+)`", SPEC):
        assert hasattr(limits, name)


def test_the_reasons_are_those_of_the_code() -> None:
    assert tuple(table("What a receiver must check", "Reason")) == DECODE_REASONS
    for row in table("Limits", "Limit").values():
        assert set(re.findall("`([a-z_]+)`", f"`{row['Reason when over']}`")) & {*DECODE_REASONS}


def test_the_dtypes_are_those_of_the_code() -> None:
    written = table("The frame", "Dtype")
    assert {name: int(row["Bytes per element"]) for name, row in written.items()} == DTYPES


def test_the_ports_are_those_of_the_code() -> None:
    rows = table("Sockets and delivery", "Socket")
    written = {name: int(row["TCP port today"]) for name, row in rows.items()}
    assert written == {"upstream": ports.UPSTREAM, "weights": ports.WEIGHTS}


def test_the_description_of_a_buffer_has_these_keys() -> None:
    used: set[str] = set()
    for frame in FRAMES.values():
        for description in split(frame)[0]["buffers"]:
            used |= description.keys()
    assert used == set(table("The frame", "Key"))


def test_the_version_is_that_of_the_code() -> None:
    assert SPEC.startswith(f"# The wire between actors and learner, version {PROTOCOL_VERSION}\n")
    rows = table("The frame", "Offset")
    assert rows["0"]["Content"].startswith(f"`{MAGIC.hex(' ')}`")
    assert rows["3"]["Content"] == f"version of the wire: `{PROTOCOL_VERSION:02x}`"
    assert (rows["0"]["Size"], rows["3"]["Size"], rows["4"]["Size"]) == ("3", "1", "4")


# --- the tables of fields --------------------------------------------------------------------


def written_type(annotation: Any) -> str:
    """Returns a Python type in the words of the tables."""
    if annotation == messages.Request:
        return " or ".join(REQUESTS)
    if isinstance(annotation, types.UnionType):
        return " or ".join(written_type(inner) for inner in typing.get_args(annotation))
    if typing.get_origin(annotation) is not None:  # Mapping[str, float]
        key, value = map(written_type, typing.get_args(annotation))
        return f"map of {key} to {value}"
    names = {str: "text", int: "integer", float: "number", bool: "flag", types.NoneType: "nil"}
    return names.get(annotation, "map")


def zero_or_empty_by_default(record: type) -> set[str]:
    """Returns the maps and numbers that may be left out."""
    return {
        field.name
        for field in dataclasses.fields(record)
        if field.default_factory is dict or field.default == 0.0
    }


@pytest.mark.parametrize("kind", RECORDS)
def test_the_fields_are_those_of_the_record(kind: str) -> None:
    hints = typing.get_type_hints(RECORDS[kind])
    arrays = {"tensors": "tensors/NAME", "safetensors": "safetensors"}
    scalars, buffers = {}, []
    for name, hint in hints.items():
        if name == "episodes":
            buffers += ["episode_returns", "episode_lengths"]
        elif name in arrays or "ndarray" in str(hint):
            buffers.append(arrays.get(name, name))
        else:
            optional = " or nil" if name in zero_or_empty_by_default(RECORDS[kind]) else ""
            scalars[name] = written_type(hint) + optional
    rows = {name: row["Type"].replace("`", "") for name, row in table(kind, "Field").items()}
    if kind in WITH_BUFFERS:
        assert rows.pop("type") == kind
        assert list(table(kind, "Buffer")) == buffers
    assert rows == scalars


def test_the_example_is_a_golden_vector() -> None:
    literal = re.search(r"```python\n(.*?)```", section("Example"), re.S)
    assert literal
    header, body = split(FRAMES["gradients-float32"])
    example = ast.literal_eval(literal[1])
    assert example == header
    sizes = [buffer["bytes"] for buffer in example["buffers"]]
    assert " + ".join(map(str, sizes)) in section("Example")
    assert sum(sizes) == len(body)


# --- every row of the tables of fields -------------------------------------------------------


ABSENT: Any = object()


def outcome(kind: str, field: str, value: Any) -> str:
    """Returns why a golden vector with this field is refused; "taken" if it is not."""
    header, body = split(FRAMES[VECTOR.get(kind, "weights")])
    places = {"assignment": ["assignment"], "objective": ["assignment", "objective"]}
    place = header
    for key in places.get(kind, []):
        place = place[key]
    place[field] = value
    if value is ABSENT:
        del place[field]
    return reason_of(with_header(msgpack.packb(header), body)) or "taken"


def number(text: str) -> float:
    """Reads 1024, 1e6, 2^53 or 2^64 - 1."""
    power, _, less = text.partition(" - ")
    base, _, exponent = power.partition("^")
    if exponent:
        return int(2 ** int(exponent)) - int(less or "0")
    return int(base) if base.isdigit() else float(base)


def bounds(row: dict[str, str]) -> Iterator[tuple[float, float]]:
    """Yields the last number inside and the first one outside, at both ends of the range."""
    for column, sign, outwards in (("From", ">", -math.inf), ("To", "<", math.inf)):
        end = number(row[column].removeprefix(sign).strip())
        if "integer" in row["Type"]:
            yield end, end + round(math.copysign(1, outwards))
        elif row[column].startswith(sign):
            yield math.nextafter(end, -outwards), end
        else:
            yield end, math.nextafter(end, outwards)


@pytest.mark.parametrize(
    ("kind", "row"), [pytest.param(k, r, id=f"{k}.{r['Field']}") for k, r in FIELDS]
)
def test_a_field_is_checked_as_specified(kind: str, row: dict[str, str]) -> None:
    field, written = row["Field"], row["Type"].replace("`", "")
    or_nil = written.endswith(" or nil")
    for nothing in (None, ABSENT):
        assert outcome(kind, field, nothing) == ("taken" if or_nil else "malformed")
    good: list[Any] = []
    bad: list[Any] = [[], {"x": "y"}, "\n", "", "no such word \x7f"]
    match written.removesuffix(" or nil"):
        case "text":
            good, bad = ["x", "Ü" * 64], [*bad, 1, True]
            assert outcome(kind, field, "x" * 129) == "limit"
        case "integer" | "number" as type_:
            for inside, outside in bounds(row):
                good.append(inside)
                if outside < 2**64:  # the limit of msgpack
                    bad.append(outside)
            bad += [True, False, "1"]
            bad += [1.0] if type_ == "integer" else []
            assert type_ == "integer" or outcome(kind, field, math.nan) == "not_finite"
        case "flag":
            good, bad = [True, False], [*bad, 0, 1, "true"]
        case "map of text to number":
            good, bad = [{}, {"x": 1}, {"x": -1e300}], [1, [], {"x": "1"}, {"x": True}, {"": 1}]
        case "map of text to integer":
            good, bad = [{}, {"x": 1}], [1, [], {"x": "1"}, {"x": 1.0}, {"": 1}, {"x": True}]
            for inside, outside in bounds(row):
                good.append({"x": inside})
                bad.append({"x": outside})
        case "map":
            bad += [1, {}]
        case choices:
            words = choices.split(" or ")
            good, bad = words, [*bad, 1, True, f"{words[0]} "]
            good = [] if field == "type" else good
    assert [value for value in good if outcome(kind, field, value) != "taken"] == []
    assert [value for value in bad if outcome(kind, field, value) != "malformed"] == []
