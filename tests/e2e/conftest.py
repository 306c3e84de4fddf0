"""Images for the container tests, built once."""

from __future__ import annotations

import pytest

from e2e.stack import TAG, Stack


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Service to image, built from this checkout."""
    one = Stack(tmp_path_factory.mktemp("images"), "images")
    one.compose("--profile=*", "config", "--quiet")
    services = ("learner", "actor", "relay")
    one.compose("build", *services)
    return {name: f"asyncade-{name}:{TAG}" for name in services}
