"""Fixtures of the property tests: whether they run in their long form."""

from __future__ import annotations

import pytest


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the long form was asked for: `--chaos=full`."""
    return bool(request.config.getoption("--chaos") == "full")
