"""Fixtures of this folder: one installation for all its tests, and for each test a client with a tenant of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.julep.installation import Installation, Key, installation
from tests.julep.sdk import Sdk, connected


@pytest.fixture(scope="package")
def installed(temporal_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation that runs as long as the tests of this folder."""
    with installation(tmp_path_factory.mktemp("julep"), temporal_address) as running:
        yield running


@pytest.fixture
def key(installed: Installation) -> Key:
    """A key for a tenant of the test's own."""
    return installed.new_key()


@pytest.fixture(params=["sync", "async"])
async def julep(request: pytest.FixtureRequest, installed: Installation, key: Key) -> AsyncIterator[Sdk]:
    """Julep's SDK, once with its sync and once with its async client."""
    async with connected(request.param, installed.url, key.text) as client:
        yield client
