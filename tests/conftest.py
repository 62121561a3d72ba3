"""Fixtures of the whole suite: one real Temporal dev server a session, a laboratory a test, a clean environment."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import structlog

from tests.support.lab import Lab, open_lab
from tests.support.postgres import PostgresServer, on_postgres, postgres_server
from tests.support.servers import temporal_process
from tests.support.temporal_cli import QUICK_DELETES

LONGEST_S = 300.0
"""A test of the short form, or the end of any test, that takes longer hangs."""
GRACE_S = 60.0
"""How long a test may take to end when its time is over."""
STDERR = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the suite."""
    parser.addoption("--temporal", default="", help="address of a Temporal server to use instead of an own one")
    parser.addoption("--chaos", default="short", choices=["short", "full"], help="length of the crash tests")


def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes `-n auto` means: more than processors, since tests wait for a third of their time."""
    count = os.cpu_count() or 1
    return count + (count + 1) // 2


def pytest_configure(config: pytest.Config) -> None:
    """Log to the real standard error: one that a test has captured is closed when others log; with short tracebacks.

    The default shows every variable of every frame of an error, and takes seconds for it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # a shell lets what it starts in the background ignore it, and so all that tests start
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # tests get another one in its place
    config.stash[STDERR] = os.dup(2)
    *processors, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure([*processors, plain], logger_factory=structlog.WriteLoggerFactory(file=sys.__stderr__))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give no test of the short form the hours that the long form may take: it hangs, and the others have to wait."""
    if config.getoption("--chaos") == "short":
        for item in items:
            marker = item.get_closest_marker("timeout")
            if marker is not None and marker.args[0] > LONGEST_S:
                item.add_marker(pytest.mark.timeout(LONGEST_S), append=False)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the garbage collector leave alone what was collected: thirteen thousand tests that live until the end."""
    del session
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End the process, and so the run, and say where it stands, if a test does not end when its time is over.

    The time limit is an exception at the place where the process is, and a callback of the event loop may swallow it.
    """
    marker = item.get_closest_marker("timeout")
    limit = float(marker.args[0] if marker else item.config.getini("timeout"))
    with _ended_after(limit + GRACE_S, item.config):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """The same for what a test awaits at its end, when the time limit has been used up; a failure stops the clock."""
    with _ended_after(LONGEST_S, item.config):
        return (yield)


@contextlib.contextmanager
def _ended_after(seconds: float, config: pytest.Config) -> Iterator[None]:
    faulthandler.dump_traceback_later(seconds, file=config.stash[STDERR], exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def clean_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the machine must not change what tests see."""
    for name in list(os.environ):
        if name.startswith(("EVERSTEP_", "TEMPORAL_", "OPENAI_", "OTEL_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def certificates_read_once() -> Iterator[None]:
    """Each client of httpx reads all certificates of the machine, for plain HTTP too: a fiftieth of a second a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx._transports.default, "create_ssl_context", functools.cache(httpx.create_ssl_context))
        yield


@pytest.fixture(scope="session")
def temporal_address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real Temporal server with the dev profile."""
    given = request.config.getoption("--temporal")
    if given:
        yield given
        return
    with temporal_process(tmp_path_factory.mktemp("temporal"), QUICK_DELETES) as server:
        yield server.address


@pytest.fixture
async def lab(temporal_address: str, tmp_path: Path) -> AsyncIterator[Lab]:
    """A laboratory of the test's own at the session's server."""
    async with open_lab(temporal_address, tmp_path) as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL server, started when the first test wants one."""
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def both_stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Run a test twice: with its stores in SQLite files, and with its stores in PostgreSQL.

    Everything that asks `store_url` for a path in the test's folder follows: laboratories, APIs, workers as processes.
    """
    if request.param == "sqlite":
        yield "sqlite"
        return
    with on_postgres(request.getfixturevalue("postgres"), tmp_path):
        yield "postgresql"
