"""The pytest plugin: fixtures for an engine in memory, with scripted replies or with recorded ones.

It is loaded by pytest itself wherever Everstep is installed; what it needs is imported when a fixture is used.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from engine.testing.memory import MemoryClient

RECORD = "--everstep-record"
SUFFIX = ".cassette.json"
FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--everstep-record`."""
    group = parser.getgroup("everstep")
    group.addoption(
        RECORD,
        action="store_true",
        help="make the calls of `everstep_recorded` for real and keep the replies beside the test file",
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    """Keep whether the test itself failed: then its fixtures need not say why once more."""
    del call
    made = yield
    report = made.get_result()
    if report.when == "call":
        item.stash[FAILED] = report.failed


@pytest.fixture
def everstep_memory() -> Iterator[MemoryClient]:
    """A client whose tasks run in memory; set its `replies` before a task is started."""
    from engine.testing.memory import MemoryClient

    with MemoryClient() as client:
        yield client


@pytest.fixture
def everstep_recorded(request: pytest.FixtureRequest) -> Iterator[MemoryClient]:
    """A client whose calls are answered from `TEST_FILE.cassette.json`; made for real with `--everstep-record`.

    A call whose prompt, model or arguments are not those of the recording fails the test where it is made.
    """
    from engine.testing.memory import MemoryClient
    from engine.testing.recording import CallProcess, Player, Recorder, load_cassette

    cassette = load_cassette(request.path.with_suffix(SUFFIX))
    name = request.node.nodeid.partition("::")[2]
    if request.config.getoption(RECORD):
        with CallProcess() as process, MemoryClient(sources=[recorder := Recorder(process)]) as client:
            yield client
        cassette.cases[name] = {"": recorder.calls}
        cassette.save()
        return
    recorded = cassette.cases.get(name, {}).get("")
    if recorded is None:
        pytest.fail(f"nothing is recorded for {name} in {cassette.path.name}; record it with {RECORD}", pytrace=False)
    player = Player(recorded)
    with MemoryClient(sources=[player]) as client:
        yield client
    # the code under test may have taken the error for one of its own
    if player.problems and not request.node.stash.get(FAILED, False):
        pytest.fail("\n".join(player.problems), pytrace=False)
