"""Tests of the command line's HTTP client against real servers on loopback: errors, streams, silence."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from engine.core.errors import (
    Conflict,
    DefinitionError,
    InvalidInput,
    NotAllowed,
    NotFound,
    RequestError,
    Unavailable,
)
from engine.edge.cli.api import READ_TIMEOUT_S, Api
from engine.edge.cli.exits import Exit, exit_of

Answer = tuple[int, str, bytes]
Script = Callable[[str, dict[str, str]], Answer]


class StubServer(ThreadingHTTPServer):
    daemon_threads = True
    script: Script
    is_everstep = True


class Handler(BaseHTTPRequestHandler):
    server: StubServer

    def do_GET(self) -> None:
        status, kind, body = self.server.script(self.path, dict(self.headers.items()))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        if self.server.is_everstep:
            self.send_header("X-Everstep", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def serve() -> Iterator[Callable[[Script], str]]:
    servers: list[StubServer] = []

    def start(script: Script) -> str:
        server = StubServer(("127.0.0.1", 0), Handler)
        server.script = script
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def problem(status: int, **body: Any) -> Script:
    return lambda path, headers: (status, "application/problem+json", json.dumps(body).encode())


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NotFound), (401, NotAllowed), (409, Conflict), (400, InvalidInput), (422, InvalidInput), (503, Unavailable)],
)
def test_a_problem_becomes_the_error_its_status_means(
    serve: Callable[[Script], str], status: int, kind: type[Exception]
) -> None:
    address = serve(problem(status, code="some.code", detail="what is wrong", hint="what to do"))
    with pytest.raises(kind) as caught:
        Api(address).get("/executions/x")
    error = caught.value
    assert (error.code, error.message, error.hint) == ("some.code", "what is wrong", "what to do")  # type: ignore[attr-defined]


def test_diagnostics_of_the_api_become_a_definition_error(serve: Callable[[Script], str]) -> None:
    finding = {"code": "E206", "severity": "error", "message": "no step", "line": 3, "column": 5, "file": "a.yaml"}
    address = serve(problem(400, code="definition.invalid", detail="bad", diagnostics=[finding]))
    with pytest.raises(DefinitionError) as caught:
        Api(address).get("/tasks")
    (item,) = caught.value.diagnostics
    assert (item.code, item.position.line, item.position.column) == ("E206", 3, 5)


def test_nobody_at_the_address_is_unreachable_without_a_pause_and_with_the_command_that_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("engine.edge.cli.api.time.sleep", pauses.append)
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(Unavailable) as caught:
            Api(address).get("/executions")
    assert pauses == []
    assert caught.value.code == "unreachable"
    assert "everstep dev" in caught.value.hint


def test_a_server_that_never_answers_is_unreachable_within_five_seconds() -> None:
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(Unavailable, match="did not answer in time"):
            Api(f"http://127.0.0.1:{silent.getsockname()[1]}").get("/executions")
        # it was asked once, and the limit of one question is below five seconds
        silent.accept()[0].close()
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert READ_TIMEOUT_S < 5.0


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "text/html", b"<html>"),
        (200, "application/json", b"[]"),
        (301, "text/html", b""),
        (404, "text/html", b"<html>"),
        (404, "application/json", b'{"detail": "Not Found"}'),
        (404, "application/json", b'{"error": "not found"}'),
        (401, "text/plain", b"who are you"),
        (500, "text/plain", b"oh"),
    ],
)
def test_something_else_at_the_address_is_no_everstep(
    serve: Callable[[Script], str], monkeypatch: pytest.MonkeyPatch, status: int, kind: str, body: bytes
) -> None:
    monkeypatch.setattr(StubServer, "is_everstep", False)
    address = serve(lambda path, headers: (status, kind, body))
    with pytest.raises(
        Unavailable, match=f"what answers at {address} is not Everstep .*{status} to GET /api/executions"
    ) as caught:
        Api(address).get("/executions")
    assert caught.value.code == "api.foreign"
    assert exit_of(caught.value) is Exit.UNREACHABLE


def test_a_gateway_in_front_may_say_that_nobody_is_behind_it(
    serve: Callable[[Script], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StubServer, "is_everstep", False)
    address = serve(lambda path, headers: (502, "text/html", b"<html>"))
    with pytest.raises(Unavailable, match="the API answered 502"):
        Api(address).get("/executions")


def test_an_error_as_everstep_writes_it_needs_no_mark(
    serve: Callable[[Script], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StubServer, "is_everstep", False)
    address = serve(problem(500, detail="it broke", error={"code": "bug", "message": "it broke"}))
    with pytest.raises(RequestError) as caught:
        Api(address).get("/executions")
    assert caught.value.code == "bug"


def test_the_key_is_sent(serve: Callable[[Script], str]) -> None:
    seen: dict[str, str] = {}

    def script(path: str, headers: dict[str, str]) -> Answer:
        seen.update(headers)
        return 200, "application/json", b"{}"

    Api(serve(script), "secret").get("/executions")
    assert seen["Authorization"] == "Bearer secret"


def test_an_address_that_is_none_is_a_usage_error() -> None:
    with pytest.raises((InvalidInput, Unavailable)):
        Api("http://[").get("/executions")


def test_a_broken_stream_is_taken_up_after_the_last_known_event(serve: Callable[[Script], str]) -> None:
    asked: list[str] = []

    def script(path: str, headers: dict[str, str]) -> Answer:
        asked.append(headers.get("Last-Event-ID", ""))
        if len(asked) == 1:
            return 200, "text/event-stream", b'retry: 10\n\nid: 1\ndata: {"seq": 1}\n\nid: 2\ndata: {"seq": 2}\n\n'
        if len(asked) == 2:
            return 503, "application/json", b"{}"
        return 200, "text/event-stream", b': keep-alive\n\nid: 3\ndata: {"seq": 3}\n\n'

    api = Api(serve(script))
    first = list(api.follow("/executions/x/events.stream"))
    second = list(api.follow("/executions/x/events.stream", last_id=first[-1].id))
    assert [event.data["seq"] for event in first + second] == [1, 2, 3]
    assert asked == ["", "2", "2"]


def test_a_stream_of_an_unknown_execution_is_not_found(serve: Callable[[Script], str]) -> None:
    address = serve(problem(404, code="execution.not_found", detail="there is no execution x"))
    with pytest.raises(NotFound):
        list(Api(address).follow("/executions/x/events.stream"))
