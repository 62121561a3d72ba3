"""Secrets are searched for in all that an installation keeps and tells, after a task that tried to show them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse
from sqlalchemy import text

from engine.store.schema import projection, truth
from tests.backends.openapi_app import shop
from tests.support.apiprocess import ApiProcess, api_processes
from tests.support.dev_process import everstep
from tests.support.doors import HookReceiver, eventually
from tests.support.lab import Lab
from tests.support.otlp_receiver import OtlpReceiver
from tests.support.patience import PATIENCE_S
from tests.support.processes import WorkerProcess
from tests.support.servers import serve_app

STORED = "c4nary/stored+Zq=one two"
LOGIN = "c4nary-login-7Yx"
BACKEND = "sk-c4nary-backend-9Qw"
SERVICE = "c4nary/service+8Rt"
CANARIES = {"stored": STORED, "login": LOGIN, "backend": BACKEND, "service": SERVICE}

PROJECT = """
[backends.echo]
base_url = "{echo}/v1"
api_key_env = "ECHO_KEY"
models = ["echo"]
[tools.openapi.shop]
document = "{shop}/openapi.json"
auth = {{header = "X-Shop-Key", env = "SHOP_KEY"}}
"""

TASK = """
name: leaky
tools:
  - name: fetch
    effect: read
    api_call:
      method: POST
      url: "{echo}/things"
      headers: {{X-Key: "Key {{{{ secrets.stored }}}}"}}
main:
  - tool: fetch
    arguments:
      headers: {{Authorization: "$ 'Basic ' + base64.b64encode('ada:' + secrets.login)"}}
      params: {{q: $ secrets.stored}}
      json: {{deep: [$ secrets.stored]}}
  - tool: fetch
    arguments:
      url: "$ '{echo}/fail/' + secrets.stored"
      headers: {{Authorization: "Bearer {{{{ secrets.login }}}}"}}
    retry: {{attempts: 2, initial: 0.01}}
    on_error: {{evaluate: $ error}}
  - tool: fetch
    arguments: {{url: "{echo}/slow", json: $ secrets.stored}}
    timeout: 0.3
    retry: {{attempts: 1}}
    on_error: {{evaluate: $ error}}
  - tool: fetch
    arguments: {{url: "{echo}/away", follow_redirects: true, json: $ secrets.login}}
    on_error: {{evaluate: $ error}}
  - tool: fetch
    arguments: {{url: "$ '{echo}/x' + secrets.login", headers: {{X: "$ secrets.login + NEWLINE"}}}}
    retry: {{attempts: 1}}
    on_error: {{evaluate: $ error}}
  - tool: tell
    arguments: {{key: $ secrets.stored, how: output}}
  - tool: tell
    arguments: {{key: $ secrets.stored, how: error}}
    retry: {{attempts: 2, initial: 0.01}}
    on_error: {{evaluate: $ error}}
  - tool: tell
    arguments: {{key: $ secrets.stored, how: slow}}
    timeout: 2.5
    retry: {{attempts: 1}}
    on_error: {{evaluate: $ error}}
  - tool: shop_echo
    arguments: {{}}
  - tool: shop_fail
    arguments: {{status: 500}}
    retry: {{attempts: 1}}
    on_error: {{evaluate: $ error}}
  - prompt: hello
    model: echo
    retry: {{attempts: 1}}
    on_error: {{evaluate: $ error}}
  - tool: fetch
    arguments: {{headers: {{X-None: $ secrets.nowhere}}}}
    on_error: {{evaluate: $ error}}
  - evaluate: {{all: $ outputs}}
  - tool: tell
    arguments: {{key: $ secrets.login, how: error}}
    retry: {{attempts: 1}}
"""


def echo_app(seen: list[str]) -> FastAPI:
    """Return a service that shows what it is sent in its answers, errors, and headers."""
    app = FastAPI()

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def answer(request: Request, path: str) -> Any:
        body = (await request.body()).decode()
        sent = {"url": str(request.url), "headers": dict(request.headers), "body": body}
        told = json.dumps(sent)
        seen.append(told)
        headers = {"X-Echo": request.headers.get("authorization", "-"), "X-Key": request.headers.get("x-key", "-")}
        if path.startswith("v1/"):
            return JSONResponse(
                {"error": {"message": f"not authorized: {told}", "code": "invalid_api_key"}}, 401, headers
            )
        if path.startswith("fail/"):
            return JSONResponse({"detail": told}, 503, headers)
        if path == "away":
            return RedirectResponse(f"http://localhost:1/?{quote(body)}", 307)
        if path == "slow":
            await asyncio.sleep(2)
        return JSONResponse({"echo": sent, "coded": base64.b64encode(told.encode()).decode()}, 200, headers)

    return app


def forms_of(secret: str) -> set[str]:
    """Return all by which a secret would be found: as it is, its parts, and as it is written elsewhere."""
    encoded = {base64.b64encode(bytes(before) + secret.encode()).decode()[4:-4] for before in range(3)}
    return {secret, secret[:12], secret[-8:], quote(secret, safe=""), secret.encode().hex(), *encoded}


def found_in(haystacks: dict[str, str]) -> list[tuple[str, str]]:
    """Return (secret, place) wherever one is found."""
    return [
        (name, place)
        for place, told in haystacks.items()
        for name, secret in CANARIES.items()
        if any(form in told for form in forms_of(secret))
    ]


def files_in(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield every file of a folder: the store and its journal, logs, blobs, kept documents."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield f"file {path.name}", path.read_bytes().decode("latin-1")


async def rows_of(lab: Lab) -> dict[str, str]:
    """Return every row of every table."""
    found: dict[str, str] = {}
    async with lab.store.database.read() as connection:
        for table in (*truth.sorted_tables, *projection.sorted_tables):
            rows = (await connection.execute(text(f'SELECT * FROM "{table.name}"'))).all()
            found[f"table {table.name}"] = repr(rows)
    return found


async def replies_of(api: httpx.AsyncClient, execution: str) -> dict[str, str]:
    """Return what the API tells of an execution, by all that it offers to read, streams included."""
    paths = ["/api/secrets", "/api/secrets/stored", "/api/tasks", "/api/tasks/leaky", "/api/tasks/leaky/versions"]
    paths += ["/api/executions", "/api/usage", "/api/overview", "/api/metrics", "/api/readyz", "/api/webhooks"]
    own = f"/api/executions/{execution}"
    steps = [item["path"] for item in (await api.get(f"{own}/steps")).json()["items"]]
    paths += [own, *(f"{own}/{part}" for part in ("history", "steps", "transitions", "events", "attempts", "temporal"))]
    paths += [f"{own}/steps/{quote(step, safe='')}" for step in steps]
    paths += [f"{own}/{name}.stream" for name in ("events", "transitions", "status", "tokens")]
    found = {path: (await api.get(path)).text for path in paths}
    assert len(steps) >= 14
    assert all("leaky" in found[path] for path in ("/api/tasks", own))
    return found


def told_by_commands(process: ApiProcess, execution: str) -> dict[str, str]:
    """Return what the command line prints of an execution."""
    commands = [
        ["describe"],
        ["logs"],
        ["history"],
        ["history", "-o", "json"],
        ["steps"],
        ["steps", "-o", "json"],
        ["result"],
    ]
    found: dict[str, str] = {}
    for first, *options in commands:
        ran = everstep(first, execution, *options, "--address", process.url)
        found[f"everstep {first} {' '.join(options)}"] = ran.out + ran.err
    ran = everstep("secrets", "ls", "--address", process.url)
    assert "stored" in ran.out
    return {**found, "everstep secrets ls": ran.out + ran.err}


@contextlib.asynccontextmanager
async def installation(lab: Lab, seen: list[str], spans: OtlpReceiver, hook: HookReceiver) -> AsyncIterator[Any]:
    """Run a worker and an API as processes, beside services that show what they are sent."""
    async with contextlib.AsyncExitStack() as stack:
        echo = await stack.enter_async_context(serve_app(echo_app(seen)))
        shop_url = await stack.enter_async_context(serve_app(shop()))
        otlp = await stack.enter_async_context(serve_app(spans))
        hook_url = await stack.enter_async_context(serve_app(hook))
        shared = {
            "EVERSTEP_LOG_LEVEL": "debug",
            "EVERSTEP_TRACE_CONTENT": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        keys = {"ECHO_KEY": BACKEND, "SHOP_KEY": SERVICE}
        worker = WorkerProcess(lab, ["tests.support.talkative_tools"], {**shared, **keys})
        with (lab.folder / "everstep.toml").open("a") as project:
            project.write(f'\n[webhooks]\nallow = ["127.0.0.1:*"]\n{PROJECT.format(echo=echo, shop=shop_url)}')
        worker.start()
        stack.push_async_callback(worker.stop)
        await worker.ready()
        address = {"TEMPORAL_ADDRESS": lab.client.service_client.config.target_host, "EVERSTEP_TASK_QUEUE": lab.queue}
        (process,) = await stack.enter_async_context(api_processes(lab.folder, 1, **shared, **address))
        api = await stack.enter_async_context(httpx.AsyncClient(base_url=process.url, timeout=PATIENCE_S))
        yield process, api, echo, hook_url


@pytest.mark.timeout(180)
async def test_a_secret_is_found_nowhere(lab: Lab) -> None:
    seen: list[str] = []
    spans, hook = OtlpReceiver(), HookReceiver()
    async with installation(lab, seen, spans, hook) as (process, api, echo, hook_url):
        for name in ("stored", "login"):
            ran = await asyncio.to_thread(
                everstep, "secrets", "set", name, "--from-env", "VALUE", "--address", process.url, VALUE=CANARIES[name]
            )
            assert ran.code == 0, ran.err
        task = await api.post(
            "/api/tasks", content=TASK.format(echo=echo), headers={"Content-Type": "application/yaml"}
        )
        assert task.is_success, task.text
        await api.post("/api/webhooks", json={"url": hook_url, "statuses": ["failed"]})
        execution = (await api.post("/api/tasks/leaky/executions", json={"input": {}})).json()["id"]
        handle = lab.client.get_workflow_handle(execution, result_type=dict)
        ended = await lab.end_of(handle)
        await lab.until(handle, "error")
        await eventually(lambda: asyncio.sleep(0, hook.messages), "a webhook's message")
        replies = await replies_of(api, execution)
        commands = await asyncio.to_thread(told_by_commands, process, execution)
        raw = "".join([event.SerializeToString().decode("latin-1") async for event in handle.fetch_history_events()])
        await spans.until(lambda found: any(span.name == "execute_tool shop_fail" for span in found))
        rows = await rows_of(lab)
    # the services did get all of them
    sent = "".join(seen)
    assert all(secret in sent or quote(secret, safe="") in sent for secret in (STORED, LOGIN, BACKEND))
    assert "x-none" not in sent
    assert ended.error is not None
    assert ended.error["code"] == "tool.failed"
    assert "secret.missing" in "".join(replies.values())
    assert "tool.redirect_refused" in "".join(replies.values())
    haystacks = {
        **replies,
        **commands,
        **rows,
        **dict(files_in(lab.folder)),
        "history": raw,
        "outcome": repr(ended),
        "webhook": repr(hook.messages),
        "spans": repr(spans.spans) + "".join(body.decode("latin-1") for body in spans.bodies),
    }
    # where it would be found, placeholders are
    for place in ("history", "spans", f"/api/executions/{execution}/history", "table events"):
        assert "secret:stored" in haystacks[place], place
    assert "called" in haystacks["file worker.log"]
    assert "with ***" in haystacks["file worker.log"]
    assert found_in(haystacks) == []


def test_the_search_finds_what_is_there() -> None:
    whole = {"here": f"x{quote(STORED, safe='')}", "there": base64.b64encode(f"ada:{LOGIN}".encode()).decode()}
    assert found_in(whole) == [("stored", "here"), ("login", "there")]
