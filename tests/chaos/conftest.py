"""What the crash tests share: whether they run in their long form, a factory of laboratories, tables at the end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.chaos.tables import PROPERTY
from tests.support.lab import Lab, open_lab


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests counted, also when pytest is told to be quiet."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    for report in reports:
        if isinstance(report, pytest.TestReport) and report.when == "call":
            for text in (value for name, value in report.user_properties if name == PROPERTY):
                terminalreporter.write_line(f"\n{text}")


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
