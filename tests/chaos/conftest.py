"""Fixtures of the crash tests: whether they run in their long form, and a factory of laboratories."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.lab import Lab, open_lab

OpenLab = Callable[[str], Awaitable[Lab]]


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the long form was asked for: `--chaos=full`."""
    return bool(request.config.getoption("--chaos") == "full")


@pytest.fixture
async def new_lab(temporal_address: str, tmp_path: Path) -> AsyncIterator[OpenLab]:
    """Opens further laboratories by name, each with a store, a queue and a folder of its own."""
    async with contextlib.AsyncExitStack() as opened:

        async def open_one(name: str) -> Lab:
            folder = tmp_path / name
            folder.mkdir()
            return await opened.enter_async_context(open_lab(temporal_address, folder))

        yield open_one
