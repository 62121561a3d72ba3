"""Steps call operations of a real OpenAPI service; its key stands nowhere but in the requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import structlog
from fastapi import FastAPI

from engine.control.compiling import compile_text
from engine.control.tools import load_catalog
from engine.core.errors import CompileError, EngineError
from engine.core.plan.ir import Plan
from engine.core.plan.ops import PromptOp
from engine.core.plan.reach import reach_of
from engine.settings import BackendConfig, OpenApiConfig, Project, ToolsConfig
from tests.backends.openapi_app import SECRET, shop
from tests.support.lab import Lab
from tests.support.servers import serve_app

TASK = """
name: pets
main:
  - tool: shop_putPet
    arguments: {pet_id: $ _.id, name: Rex, parent: {name: Ann}}
  - tool: shop_getPet
    arguments: {pet_id: "7", full: true}
  - tool: shop_echo
    arguments: {}
  - tool: shop_fail
    arguments: {status: 500}
    on_error: {evaluate: $ error}
  - evaluate: {pet: "$ outputs[1]", echo: "$ outputs[2].headers", failed: "$ outputs[3]"}
"""


@contextlib.asynccontextmanager
async def shop_for(lab: Lab, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Serve the shop and register it at the laboratory's worker."""
    monkeypatch.setenv("SHOP_KEY", SECRET)
    async with serve_app(app) as url:
        service = OpenApiConfig.model_validate(
            {"document": f"{url}/openapi.json", "auth": {"header": "X-Shop-Key", "env": "SHOP_KEY"}}
        )
        backends = {"mock": BackendConfig(base_url=lab.llm_url, default_model="mock")}
        lab.project = Project(backends=backends, http=lab.http, tools=ToolsConfig(openapi={"shop": service}))
        lab.others = (await asyncio.to_thread(load_catalog, lab.project, lab.folder)).contracts()
        yield url


def plan_of(lab: Lab, text: str) -> Plan:
    return compile_text(text, contracts=lab.others).plan


async def test_a_task_calls_operations_and_the_key_stands_nowhere(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    app = shop()
    with structlog.testing.capture_logs() as lines:
        async with shop_for(lab, app, monkeypatch), lab.worker():
            plan = plan_of(lab, TASK)
            handle = await lab.start(plan, {"id": "7"})
            ended = await lab.end_of(handle)
            await lab.until(handle, "finish")
            events = await lab.events(handle)
    assert ended.output["pet"] == {"name": "Rex", "age": None, "parent": {"name": "Ann", "age": None, "parent": None}}
    assert ended.output["failed"]["code"] == "tool.http_status"
    # the service did get it, and showed it in the answer and in the error
    assert {seen[:2] for seen in app.state.seen} == {("PUT", "/pets/7"), ("GET", "/pets/7")}
    assert ended.output["echo"]["x-shop-key"] == "***"
    # as bytes, in which payloads stand as they are
    history = "".join([str(event.SerializeToString(), "latin-1") async for event in handle.fetch_history_events()])
    assert "shop_getPet" in history
    for told in (repr(plan), history, repr(events), repr(lines), repr(ended)):
        assert SECRET not in told
        assert SECRET[:12] not in told


async def test_the_calls_of_one_execution_have_keys_of_their_own(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    app = shop()
    async with shop_for(lab, app, monkeypatch), lab.worker():
        handle = await lab.start(plan_of(lab, TASK), {"id": "7"})
        await lab.end_of(handle)
    assert [seen[2] for seen in app.state.seen] == [f"{handle.id}:main.0", f"{handle.id}:main.1"]


async def test_a_plan_tells_whom_an_operation_reaches_and_a_bound_holds_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_for(lab, shop(), monkeypatch) as url:
        host = url.removeprefix("http://")
        assert reach_of(plan_of(lab, TASK)).hosts == (host,)
        plan_of(lab, f'{TASK}\nallow: {{hosts: ["{host}"]}}')
        with pytest.raises(EngineError) as caught:
            plan_of(lab, f"{TASK}\nallow: {{hosts: [b.example]}}")
    assert isinstance(caught.value, CompileError)
    assert {item.code for item in caught.value.diagnostics} == {"E411"}


async def test_a_model_is_offered_what_an_operation_takes_but_not_its_key(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_for(lab, shop(), monkeypatch):
        plan = plan_of(lab, "name: t\nmain:\n  - {prompt: hi, tools: [shop_putPet]}\n")
    (op,) = plan.blocks[plan.workflows["main"]].ops
    assert isinstance(op, PromptOp)
    (offered,) = op.tools
    function = offered["function"]
    assert (function["name"], function["description"]) == ("shop_putPet", "Put Pet\nWrite a pet.")
    assert set(function["parameters"]["properties"]) == {"pet_id", "name", "age", "parent"}
    assert "shop_key" not in str(plan).lower().replace("-", "_")


async def test_wrong_arguments_are_told_when_the_task_is_written(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "name: t\nmain:\n  - {tool: shop_getPet, arguments: {pet: a}}\n"
    async with shop_for(lab, shop(), monkeypatch):
        with pytest.raises(CompileError) as caught:
            plan_of(lab, text)
    assert "the argument 'pet_id' of the tool 'shop_getPet' is missing" in caught.value.render()
