"""Reads histograms from /metrics pages."""

from __future__ import annotations

import math
import urllib.request
from collections import Counter
from collections.abc import Iterable
from typing import Final, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

Histogram: TypeAlias = Counter[float]
"""Upper bound of a bucket (``le``, the last one infinite) to observations at or below it."""

_TIMEOUT_S: Final = 5.0


def histogram(urls: Iterable[str], name: str) -> Histogram:
    """Returns the sum of a histogram over pages and labels.

    Pages that do not answer are left out: an actor that restarted has another address.
    """
    found: Histogram = Counter()
    for url in urls:
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
                text = answer.read().decode()
        except OSError:
            continue
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == f"{name}_bucket":
                    found[float(sample.labels["le"])] += int(sample.value)
    return found


def quantile(buckets: Histogram, q: float) -> float | None:
    """Returns a quantile in the unit of the bounds, linear within a bucket, as Prometheus does.

    None without observations. In the unbounded bucket, the highest finite bound.
    """
    rank = q * max(buckets.values(), default=0.0)
    lower = below = 0.0
    for bound, count in sorted(buckets.items()):
        if rank > 0 and count >= rank:
            share = (rank - below) / (count - below)
            return lower if math.isinf(bound) else lower + (bound - lower) * share
        lower, below = bound, count
    return None


def counts(buckets: Histogram) -> dict[str, int]:
    """Returns the observations in each bucket that has any, by upper bound."""
    found: dict[str, int] = {}
    below = 0
    for bound, count in sorted(buckets.items()):
        if count > below:
            found[f"{bound:g}"] = count - below
        below = count
    return found
