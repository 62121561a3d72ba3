"""Examples on the real bundled model: whatever words it finds, what comes out has the form that the task promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine.core.schemas import value_problems
from tests.support.example_server import EXAMPLES, ExampleServer, example_server, run_on_server, service_of

TEXT = {"type": "string", "minLength": 1}

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # folder: task, input, schema of the output
    "welcome_note": (
        "welcome-note",
        {"name": "Ada", "plants": ["roses"]},
        # the text that stands in for a model that fails would fit as well, but it is known
        {**TEXT, "not": {"const": "Welcome to the club, Ada!"}},
    ),
    "translate_menu": (
        "translate-menu",
        {"dishes": ["Zwiebelsuppe", "Apfelkuchen"]},
        {
            "type": "object",
            "required": ["menu", "missing"],
            "properties": {
                "menu": {"type": "object", "required": ["Zwiebelsuppe", "Apfelkuchen"], "additionalProperties": TEXT},
                "missing": {"const": []},
            },
        },
    ),
    "photo_crop": (
        "photo-crop",
        {"photo": "cat.jpg", "width": 1600, "height": 1200, "description": "A cat sleeps at the bottom."},
        {
            "type": "object",
            "required": ["file", "cut", "pixels"],
            "properties": {
                "file": {"const": "cat-wide.jpg"},
                "cut": {"pattern": r"^1600x900\+0\+(0|150|300)$"},
                "pixels": {"const": 1_440_000},
            },
        },
    ),
    "trip_plan": (
        "trip-plan",
        {"towns": ["Lisbon", "Oslo"]},
        {"type": "string", "pattern": r"(?s)^Lisbon\n.+\n\nOslo\n.+"},
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleServer]:
    with example_server(tmp_path_factory.mktemp("bundled"), bundled=True) as running:
        yield running


@pytest.mark.timeout(400)
@pytest.mark.parametrize("example", CASES)
def test_an_example_gives_on_the_bundled_model_what_its_form_promises(server: ExampleServer, example: str) -> None:
    task, given, schema = CASES[example]
    server.load(EXAMPLES / example)
    with service_of(EXAMPLES / example) as service:
        run = run_on_server(server.api, task, given if service is None else {**given, "service": service.url})
    assert run.status == "succeeded", run.error
    assert value_problems(run.output, schema) == []
    assert any(call["kind"] == "prompt" for call in run.calls)
