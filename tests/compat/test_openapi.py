"""The OpenAPI document against the real API: generated requests, documented statuses, answers that fit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import CHECKS, load_all_checks

from engine.client import Client as EverstepClient
from engine.edge.native.documents import DOCS
from tests.compat.apiserver import api_server, settings_for

EXAMPLES = 8
GREET = """\
name: greet
input_schema: {type: object, properties: {name: {type: string}}}
main:
  - wait_for_input: {info: {text: sure?}}
    label: sure
"""


@pytest.fixture(scope="module")
def server(temporal_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real API in a loop of its own, since the generated requests come from an ordinary thread."""
    folder = tmp_path_factory.mktemp("openapi")
    ready, done = threading.Event(), threading.Event()
    found: list[str] = []

    async def serve() -> None:
        async with api_server(settings_for(folder), temporal=temporal_address) as opened:
            found.append(opened.url)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(20)
    try:
        yield found[0]
    finally:
        done.set()
        thread.join()


@pytest.fixture(scope="module")
def known(server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Things that exist, so that generated requests get beyond 404."""
    file = tmp_path_factory.mktemp("tasks") / "greet.yaml"
    file.write_text(GREET, encoding="utf-8")
    with EverstepClient(server) as client:
        task = client.apply(file)
        started = client.start("greet", {"name": "Ada"}, labels=["vip"], metadata={"order": 17})
    return {"task_id": task.id, "execution_id": started.id}


@pytest.fixture(scope="module")
def schema(server: str) -> Any:
    return schemathesis.openapi.from_url(f"{server}/api/openapi.json")


def operations(schema: Any) -> list[Any]:
    return [found.ok() for found in schema.get_all_operations()]


def send(operation: Any, fixed: dict[str, str]) -> None:
    """Send generated requests to an operation and check every answer; `fixed` names things that exist."""
    load_all_checks()
    checks = [
        CHECKS.get_one(name)
        for name in (
            "not_a_server_error",
            "status_code_conformance",
            "content_type_conformance",
            "response_schema_conformance",
        )
    ]

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy())
    def check(case: Any) -> None:
        for name, value in fixed.items():
            if name in (case.path_parameters or {}):
                case.path_parameters[name] = value
        case.call_and_validate(checks=checks)

    check()


OPERATIONS = sorted((path, method) for method, path in DOCS if not path.endswith(".stream"))
KEPT = [(path, method) for path, method in OPERATIONS if method != "DELETE" and "{" in path]
"""What removes things would leave nothing for the others."""


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_generated_requests_get_documented_answers(schema: Any, path: str, method: str) -> None:
    send(schema[path][method], {})


@pytest.mark.parametrize(("path", "method"), KEPT)
def test_requests_about_things_that_exist_get_documented_answers(
    schema: Any, known: dict[str, str], path: str, method: str
) -> None:
    send(schema[path][method], known)


def test_every_operation_is_documented_and_nothing_else_is(schema: Any) -> None:
    found = {(operation.method.upper(), operation.path) for operation in operations(schema)}
    assert found == DOCS.keys()


def test_the_document_is_openapi_3_1_and_has_examples_of_every_body(schema: Any) -> None:
    raw = schema.raw_schema
    assert raw["openapi"].startswith("3.1")
    for path, methods in raw["paths"].items():
        for method, operation in methods.items():
            assert operation.get("summary"), (method, path)
            for kind in operation.get("requestBody", {}).get("content", {}).values():
                assert "example" in kind or kind["schema"] == {"type": "object"}, (method, path)
