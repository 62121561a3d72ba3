"""An agent uses a real MCP server, over stdio and HTTP, beside a real OpenAPI service; a cancel reaches both sides."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.control.compiling import compile_text
from engine.control.tools import load_catalog
from engine.edge.mockllm.script import MockRule, MockScript, MockStream, MockToolCall
from engine.settings import BackendConfig, McpConfig, OpenApiConfig, Project, ToolsConfig
from tests.backends.openapi_app import SECRET as SHOP_KEY
from tests.backends.openapi_app import shop
from tests.support.lab import Lab
from tests.support.mcp_server import SECRET as MCP_KEY
from tests.support.mcp_server import happened, make_server, program, served
from tests.support.servers import serve_app

TASK = """
name: helper
main:
  - agent: "Look after the pet {{ _ }}."
    tools: [shop_putPet, shop_getPet, shop_echo, exam_add, exam_tell_all, exam_wait]
    unwrap: true
"""


def calls(turn: int, *wanted: tuple[str, dict[str, Any]]) -> MockRule:
    made = [MockToolCall(name=name, id=f"c{turn}-{n}", arguments=given) for n, (name, given) in enumerate(wanted)]
    return MockRule(turn=turn, tool_calls=made)


@contextlib.asynccontextmanager
async def services(lab: Lab, journal: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Run both services, register them at the laboratory's worker, and yield the app of the shop."""
    monkeypatch.setenv("SHOP_KEY", SHOP_KEY)
    monkeypatch.setenv("EXAM_KEY", MCP_KEY)
    app = shop()
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(serve_app(app))
        auth = {"header": "X-Shop-Key", "env": "SHOP_KEY"}
        pets = OpenApiConfig.model_validate({"document": f"{url}/openapi.json", "auth": auth})
        if kind == "stdio":
            exam = program(journal)
        else:
            address = await stack.enter_async_context(served(make_server(journal, MCP_KEY)))
            exam = McpConfig.model_validate({"url": address, "auth": {"bearer_env": "EXAM_KEY"}})
        tools = ToolsConfig(openapi={"shop": pets}, mcp={"exam": exam})
        backends = {"mock": BackendConfig(base_url=lab.llm_url, default_model="mock")}
        lab.project = Project(backends=backends, http=lab.http, tools=tools)
        lab.others = (await asyncio.to_thread(load_catalog, lab.project, lab.folder)).contracts()
        yield app


@pytest.mark.parametrize("kind", ["stdio", "http"])
async def test_an_agent_works_with_both_and_sees_no_key(
    lab: Lab, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = [
        calls(0, ("exam_add", {"a": 3, "b": 4}), ("exam_tell_all", {}), ("shop_echo", {})),
        calls(1, ("shop_putPet", {"pet_id": "7", "name": "Rex"})),
        calls(2, ("shop_getPet", {"pet_id": "7", "full": True}), ("shop_getPet", {"pet_id": "8"})),
    ]
    lab.mock.use(MockScript(rules=[*rules, MockRule(reply="Rex is well")]))
    async with services(lab, tmp_path / "journal", kind, monkeypatch) as app, lab.worker():
        handle = await lab.start(compile_text(TASK, contracts=lab.others).plan, "7")
        ended = await lab.end_of(handle)
        events = await lab.events(handle)
    assert ended.output == "Rex is well"
    told = [message["content"] for message in lab.mock.calls[-1]["messages"] if message["role"] == "tool"]
    assert json.loads(told[0]) in (7, {"result": 7})
    assert json.loads(told[4])["name"] == "Rex"
    assert json.loads(told[5])["error"]["code"] == "tool.http_status", "the model is told what went wrong"
    first, *beside = [seen[:2] for seen in app.state.seen]
    assert first == ("PUT", "/pets/7")
    # calls of one reply are made side by side
    assert sorted(beside) == [("GET", f"/pets/{n}") for n in "78"]
    assert len({seen[2] for seen in app.state.seen}) == 3, "each call has a key of its own"
    for key in (SHOP_KEY, MCP_KEY):
        assert key not in repr(lab.mock.calls)
        assert key not in repr(events)


@pytest.mark.parametrize("kind", ["stdio", "http"])
async def test_a_cancel_reaches_the_mcp_tool_of_an_agent(
    lab: Lab, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "journal"
    lab.mock.use(MockScript(rules=[calls(0, ("exam_wait", {})), MockRule(reply="never")]))
    async with services(lab, journal, kind, monkeypatch), lab.worker():
        handle = await lab.start(compile_text(TASK, contracts=lab.others).plan, "7")
        await happened(journal, "waiting")
        await lab.cancel(handle)
        await happened(journal, "cancelled")
        assert (await lab.end_of(handle)).cancelled
    assert len(lab.mock.calls) == 1


async def test_a_cancel_reaches_the_stream_of_an_agents_model(lab: Lab) -> None:
    # how soon is measured by `python -m benchmarks cancels`
    words = MockRule(reply="word " * 400, stream=MockStream(chunk_chars=5, delay_s=0.1))
    lab.mock.use(MockScript(rules=[words]))
    async with lab.worker():
        handle = await lab.start("name: t\nmain: [{agent: Talk., unwrap: true}]")
        await lab.until(handle, "effect.started")
        while not lab.mock.calls:  # noqa: ASYNC110 - the mock sets no event
            await asyncio.sleep(0.01)
        await lab.cancel(handle)
        assert (await lab.end_of(handle)).cancelled
