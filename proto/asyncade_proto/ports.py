"""Default TCP ports. Tests hold the Compose and Kubernetes files to them."""

from __future__ import annotations

from typing import Final

UPSTREAM: Final = 5555
"""The learner's PULL socket, for trajectories and gradients."""

WEIGHTS: Final = 5556
"""The learner's XPUB socket, for weights."""

LEARNER_HTTP: Final = 9101
"""The learner's /metrics, /healthz and /readyz."""

ACTOR_HTTP: Final = 9102
"""An actor's /metrics, /healthz and /readyz."""

EVALUATOR_HTTP: Final = 9104
"""An evaluator's /metrics, /healthz and /readyz."""

RELAY_UPSTREAM: Final = 5557
"""A relay's PULL socket, for trajectories and gradients of its actors."""

RELAY_WEIGHTS: Final = 5558
"""A relay's XPUB socket, for weights to its actors."""

RELAY_HTTP: Final = 9103
"""A relay's /metrics, /healthz and /readyz."""

WATCH: Final = 9105
"""The live page."""
