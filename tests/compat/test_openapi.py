"""The OpenAPI document against the real API: generated requests, documented statuses, answers that fit."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from schemathesis.checks import CHECKS, load_all_checks

from engine.client import Client as EverstepClient
from engine.edge.http.services import Services
from engine.edge.native.documents import DOCS
from engine.edge.native.examples import ANSWERS
from engine.edge.server import create_app
from tests.compat.apiserver import api_server, settings_for
from tests.support.patience import PATIENCE_S, START_S

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
        # there is no worker, and no request is to wait long for one
        async with api_server(settings_for(folder), temporal=temporal_address, answer_timeout_s=0.05) as opened:
            found.append(opened.url)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(START_S)
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
            "status_code_conformance",
            "content_type_conformance",
            "response_schema_conformance",
        )
    ]

    def no_bug(context: Any, response: Any, case: Any) -> None:
        """There is no worker, so what only one can decide or make is pending; nothing else is a server's error."""
        pending = response.status_code in (503, 504) and response.json()["code"].endswith((".pending", ".no_worker"))
        assert response.status_code < 500 or pending, response.text

    checks.append(no_bug)

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


def test_every_route_of_the_app_is_documented_but_the_document_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_of(tmp_path, monkeypatch)
    found = list(iter_route_contexts(app.routes))
    routes = {
        (method, re.sub(r":\w+}", "}", route.path or ""), route.endpoint)
        for route in found
        for method in route.methods or ()
    }
    assert all(route.methods for route in found), "nothing but plain routes"
    assert len(routes) > len(DOCS)
    endpoints = {(method, endpoint) for method, path, endpoint in routes if (method, path) in DOCS}
    # what is outside of /api too is the same there
    hidden = {(method, path) for method, path, endpoint in routes if (method, endpoint) not in endpoints}
    assert hidden == {("GET", "/api/openapi.json"), ("HEAD", "/api/openapi.json")}
    assert {path for _, path, _ in routes if not path.startswith("/api/")} == {"/metrics", "/healthz", "/readyz"}


def app_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """Return the app as the server makes it; it never serves."""
    made: list[FastAPI] = []

    def make(services: Services, **more: Any) -> FastAPI:
        made.append(create_app(services, **more))
        return made[0]

    async def serve() -> None:
        async with api_server(settings_for(folder), temporal="127.0.0.1:1"):
            pass

    monkeypatch.setattr("engine.edge.server.create_app", make)
    asyncio.run(serve())
    return made[0]


def test_the_document_is_openapi_3_1_and_every_body_and_answer_has_an_example(schema: Any) -> None:
    raw = schema.raw_schema
    assert raw["openapi"].startswith("3.1")
    for path, methods in raw["paths"].items():
        for method, operation in methods.items():
            assert operation.get("summary"), (method, path)
            contents = [operation.get("requestBody", {}).get("content", {})]
            contents += [
                answer.get("content", {}) for status, answer in operation["responses"].items() if int(status) < 400
            ]
            for content in contents:
                for media, kind in content.items():
                    # the text of a task is shown as YAML; streams and metrics are no JSON
                    plain = media.startswith("text/") or kind["schema"] == {"type": "object"}
                    assert plain or "example" in kind, (method, path, media)


@pytest.mark.parametrize("shape", ANSWERS, ids=lambda shape: shape.__name__)
def test_an_example_fits_its_shape_and_has_no_member_that_the_shape_does_not_know(shape: type[BaseModel]) -> None:
    shape.model_validate(ANSWERS[shape])


BAD_TIMES = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1e9", "yesterday", "\x00")
HOSTILE: list[tuple[str, str, dict[str, Any]]] = [
    *(("GET", "/api/usage", {"params": {"from": moment}}) for moment in BAD_TIMES),
    *(("GET", "/api/usage", {"params": {"to": moment}}) for moment in BAD_TIMES),
    *(("GET", "/api/executions", {"params": {"created_after": moment}}) for moment in BAD_TIMES),
    *(("GET", "/api/executions", {"params": {"cursor": text}}) for text in ("x", "e30=", "W10=", "\x00", "A" * 9_000)),
    ("GET", "/api/executions", {"params": {"metadata_filter": '{"a": 1e999}'}}),
    ("GET", "/api/executions", {"params": {"metadata_filter." + "a." * 3_000 + "a": "1"}}),
    ("GET", "/api/executions", {"params": {"metadata_filter": "[" * 3_000}}),
    ("GET", "/api/executions", {"params": {"label": "\x00", "task_name": "\ud800".encode("utf-8", "surrogatepass")}}),
    ("GET", "/api/executions", {"params": {"offset": str(2**70)}}),
    ("GET", "/api/executions", {"params": {"cost_min": "NaN"}}),
    ("GET", "/api/tasks/greet", {"params": {"version": str(2**40)}}),
    ("GET", "/api/tasks/greet@99999999999999999999", {}),
    ("POST", "/api/tasks/greet/executions", {"content": '{"input": {}, "metadata": {"x": 1e400}}'}),
    ("POST", "/api/tasks/greet/executions", {"content": '{"input": {"name": "\\u0000"}, "labels": ["\\u0000"]}'}),
    ("POST", "/api/tasks/greet/executions", {"content": '{"metadata": ' + '{"a":' * 300 + "1" + "}" * 301}),
    ("POST", "/api/tasks/greet/executions", {"content": '{"input": ' + "[" * 100_000}),
    ("POST", "/api/tasks/greet/executions", {"content": '{"input": {"n": ' + "9" * 5_000 + "}}"}),
    ("POST", "/api/agents", {"content": '{"name": "\\u0000"}'}),
    ("POST", "/api/agents", {"content": '{"name": "' + "n" * 70_000 + '"}'}),
    ("POST", "/api/keys", {"content": '{"name": "a", "expires_at": "9999-12-31T23:59:59-14:00"}'}),
    ("PUT", "/api/tasks/greet/aliases/prod", {"content": '{"version": 9999999999999}'}),
]


@pytest.mark.parametrize(("method", "path", "request_"), HOSTILE)
def test_hostile_requests_are_answered_and_break_nothing(
    server: str, known: dict[str, str], method: str, path: str, request_: dict[str, Any]
) -> None:
    headers = {"content-type": "application/json"} if "content" in request_ else {}
    with httpx.Client(base_url=server, headers=headers, timeout=PATIENCE_S, trust_env=False) as http:
        answer = http.request(method, path, **request_)
        assert answer.status_code < 500, answer.text[:500]
        # on the same connection: an answer must not take it down
        assert http.get("/healthz").status_code == 200
