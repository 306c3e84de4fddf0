"""Reads /metrics pages: histograms, their differences and quantiles."""

from __future__ import annotations

import math
import urllib.request
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from prometheus_client.parser import text_string_to_metric_families

Histogram: TypeAlias = Mapping[float, float]
"""Upper bound of a bucket (``le``, the last one infinite) to the observations at or below it."""

_TIMEOUT_S = 5.0


def read_page(url: str) -> str:
    """Returns a page's text.

    Raises:
        OSError: nobody answers.
    """
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
        text: str = answer.read().decode()
    return text


def histogram(text: str, name: str) -> dict[float, float] | None:
    """Returns a histogram of a page, all its label sets together; None if the page has none."""
    found: dict[float, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == f"{name}_bucket":
                bound = float(sample.labels["le"])
                found[bound] = found.get(bound, 0.0) + sample.value
    return dict(sorted(found.items())) or None


def since(before: Histogram | None, after: Histogram) -> dict[float, float]:
    """Returns the observations made between two readings of one histogram."""
    return {bound: count - (before or {}).get(bound, 0.0) for bound, count in after.items()}


def together(histograms: Iterable[Histogram]) -> dict[float, float] | None:
    """Returns the sum of histograms with the same buckets; None of none."""
    total: dict[float, float] = {}
    for one in histograms:
        for bound, count in one.items():
            total[bound] = total.get(bound, 0.0) + count
    return dict(sorted(total.items())) or None


def quantile(buckets: Histogram | None, q: float) -> float | None:
    """Returns a quantile, in the unit of the bounds, linear within a bucket as Prometheus does.

    Args:
        buckets: cumulative.
        q: in [0, 1].

    Returns:
        None without observations. In the last, unbounded bucket its lower bound, which is then
        only the least that it can be.
    """
    if not buckets:
        return None
    bounds = sorted(buckets)
    total = buckets[bounds[-1]]
    if total <= 0:
        return None
    rank = q * total
    lower, below = 0.0, 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= rank and count > below:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower


def counts(buckets: Histogram) -> dict[str, float]:
    """Returns how many observations fell into each bucket that has any, by its upper bound."""
    found: dict[str, float] = {}
    below = 0.0
    for bound in sorted(buckets):
        if buckets[bound] > below:
            found[f"{bound:g}"] = buckets[bound] - below
        below = max(below, buckets[bound])
    return found
