"""docs/reliability.md promises nothing without a test, and leaves none of tests/faults out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/reliability.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| Fault or attack")
]
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
TEST = re.compile(r"^def (test_\w+)", re.MULTILINE)


def test_every_promise_is_in_five_columns() -> None:
    assert ROWS
    assert {len(row) for row in ROWS} == {5}
    assert all(fault and promise for fault, promise, *_ in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_every_promise_names_tests_that_exist(row: list[str]) -> None:
    named = NAMED.findall(row[2])
    assert named
    assert NAMED.sub("", row[2]).strip() == ""  # nothing else, such as a name with a typing error
    for path, test in named:
        assert test in TEST.findall((TESTS / path).read_text(encoding="utf-8")), path


def test_every_fault_that_is_tried_is_in_the_table() -> None:
    named = {test for row in ROWS for path, test in NAMED.findall(row[2]) if "faults/" in path}
    tried = {
        test
        for path in (TESTS / "faults").glob("test_*.py")
        for test in TEST.findall(path.read_text(encoding="utf-8"))
    }
    assert named == tried
