"""The run that the tests of the virtual cluster play."""

from __future__ import annotations

from typing import Any

CATCH: dict[str, Any] = {
    "game": "catch",
    "seed": 1,
    "unroll_length": 8,
    "batch_samples": 64,
    "minibatch_size": 16,
    "passes": 1,
}
"""Settings of a learner: small batches, so that there are many."""
