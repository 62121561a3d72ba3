"""Every example does on the real dev server what its own tests say, with a scripted model and its own services."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.testing.report import render_file
from engine.testing.suite import Options, run_file
from tests.support.example_server import EXAMPLES, ExampleServer, ServerRunner, case_files, example_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleServer]:
    with example_server(tmp_path_factory.mktemp("examples")) as running:
        yield running


@pytest.mark.parametrize("file", case_files(), ids=lambda file: str(file.relative_to(EXAMPLES)))
def test_an_example_does_on_the_server_what_its_tests_say(server: ExampleServer, file: Path) -> None:
    server.load(file.parent)
    runner = ServerRunner(server, file.parent)
    report = run_file(file, Options(runner=runner))
    assert report.ok, render_file(report)
    assert runner.ran, "no case of it takes less than three seconds"
