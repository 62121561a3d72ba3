"""Remote agents of the Agent Connect Protocol as tools, over a real Temporal server and a real loopback server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import structlog

from engine.control.compiling import compile_text
from engine.control.tools import load_catalog
from engine.core.errors import InvalidInput
from engine.core.plan.ir import Plan
from engine.core.plan.reach import reach_of
from engine.settings import AcpConfig, HttpConfig, Project, ToolsConfig
from tests.support.acp_server import DESCRIPTOR, KEY, AcpServer
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S
from tests.support.servers import serve_app

_NOW = timedelta()


@contextlib.asynccontextmanager
async def remote(lab: Lab, monkeypatch: pytest.MonkeyPatch, agent: str, **more: Any) -> AsyncIterator[AcpServer]:
    """Serve the agents and register one of them as the tool `helper`."""
    monkeypatch.setenv("REMOTE_KEY", KEY)
    server = AcpServer()
    async with serve_app(server.app()) as url:
        auth = {"header": "x-api-key", "env": "REMOTE_KEY"}
        config = AcpConfig.model_validate({"url": url, "agent_id": agent, "auth": auth, **more})
        lab.project = Project(http=lab.http, tools=ToolsConfig(acp={"helper": config}))
        lab.others = (await asyncio.to_thread(load_catalog, lab.project, lab.folder)).contracts()
        yield server


def plan_of(lab: Lab, steps: str = "{tool: helper, arguments: {text: hi}}") -> Plan:
    return compile_text(f"name: t\nmain: [{steps}]", contracts=lab.others).plan


async def until(holds: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - the server of the test tells by its members
            await asyncio.sleep(0.02)


async def test_a_step_calls_a_remote_agent_and_the_key_stands_nowhere(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    with structlog.testing.capture_logs() as lines:
        async with remote(lab, monkeypatch, "echo", config={"tone": "kind"}) as server, lab.worker():
            plan = plan_of(lab)
            handle = await lab.start(plan)
            ended = await lab.end_of(handle)
            await lab.until(handle, "finish")
            events = await lab.events(handle)
    assert ended.output == {"said": {"text": "hi"}}
    created = server.only.creation
    assert created["input"] == {"text": "hi"}
    assert created["config"] == {"configurable": {"tone": "kind"}}
    assert created["on_disconnect"] == "continue"
    assert created["metadata"] == {"execution_id": handle.id, "path": "main.0"}
    assert list(server.keys) == [f"{handle.id}:main.0"]
    history = "".join([str(event.SerializeToString(), "latin-1") async for event in handle.fetch_history_events()])
    for told in (repr(plan), history, repr(events), repr(lines), repr(ended)):
        assert KEY not in told


async def test_its_input_schema_comes_from_the_descriptor_and_from_its_copy(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with remote(lab, monkeypatch, "echo"):
        contract = lab.others["helper"]
        assert (contract.type, contract.parameters) == ("acp", DESCRIPTOR["specs"]["input"])
        assert contract.description == "Says what it is told."
        project = lab.project
        assert project is not None
    again = (await asyncio.to_thread(load_catalog, project, lab.folder)).contracts()
    assert again["helper"] == contract, "the server is gone, its descriptor is kept"
    other = (await asyncio.to_thread(load_catalog, project, lab.folder / "elsewhere")).contracts()
    assert other["helper"].parameters == {"type": "object"}
    ended = None
    async with lab.worker():
        ended = await lab.run(plan_of(lab, "{tool: helper, arguments: {text: $ 7}}"))
    assert ended.error is not None
    assert ended.error["code"] == "tool.bad_arguments"


async def test_messages_of_an_agent_stand_in_the_result(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async with remote(lab, monkeypatch, "talks"), lab.worker():
        ended = await lab.run(plan_of(lab))
    assert ended.output == {"n": 1, "messages": [{"role": "assistant", "content": "hello"}]}


async def test_a_question_of_the_agent_is_an_error_that_holds_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async with remote(lab, monkeypatch, "asks") as server, lab.worker():
        ended = await lab.run(plan_of(lab, "{tool: helper, arguments: {}, on_error: {evaluate: $ error}}"))
    assert ended.output["code"] == "tool.interrupted"
    assert ended.output["details"]["interrupt"] == {"approval": {"question": "sure?"}}
    assert server.only.cancelled, "nobody would answer it"


async def test_an_error_of_the_agent_is_told_without_the_key(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async with remote(lab, monkeypatch, "fails"), lab.worker():
        ended = await lab.run(plan_of(lab))
    assert ended.error is not None
    assert (ended.error["code"], ended.error["details"]["errcode"]) == ("tool.failed", 7)
    assert "***" in ended.error["message"]
    assert KEY not in repr(ended)


async def test_a_wrong_key_is_told_and_shown_to_nobody(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async with remote(lab, monkeypatch, "echo"), lab.worker():
        monkeypatch.setenv("REMOTE_KEY", "another-key-5521")
        ended = await lab.run(plan_of(lab))
    assert ended.error is not None
    assert (ended.error["code"], ended.error["details"]["status"]) == ("tool.http_status", 401)
    assert "another-key" not in repr(ended)


async def test_a_cancel_reaches_the_remote_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async with remote(lab, monkeypatch, "slow") as server, lab.worker():
        handle = await lab.start(plan_of(lab))
        await until(lambda: server.waits)
        await lab.cancel(handle)
        await until(lambda: server.only.cancelled)
        assert (await lab.end_of(handle)).cancelled


async def test_a_run_out_of_time_is_cancelled_too(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async with remote(lab, monkeypatch, "slow", timeout_s=0.5) as server, lab.worker():
        ended = await lab.run(plan_of(lab))
    assert ended.error is not None
    assert ended.error["code"] == "tool.timeout"
    assert server.only.cancelled


async def test_a_server_that_is_away_while_the_run_goes_on_is_waited_for(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.tools.acp.PAUSE_S", 0.05)
    async with remote(lab, monkeypatch, "slow") as server, lab.worker():
        handle = await lab.start(plan_of(lab))
        await until(lambda: server.waits >= 2)
        server.unavailable = 3
        await until(lambda: not server.unavailable)
        server.only.end("success", {"type": "result", "values": {"n": 1}})
        assert (await lab.end_of(handle)).output == {"n": 1}
    assert server.creations == 1


async def test_another_worker_goes_on_with_the_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async with remote(lab, monkeypatch, "slow", effect="read") as server:
        async with lab.worker(graceful_shutdown_timeout=_NOW):
            handle = await lab.start(plan_of(lab))
            await until(lambda: server.waits)
        assert not server.only.cancelled, "the run is still wanted"
        async with lab.worker():
            seen = server.waits
            await until(lambda: server.waits > seen)
            server.only.end("success", {"type": "result", "values": {"n": 2}})
            assert (await lab.end_of(handle)).output == {"n": 2}
    assert server.creations == 1


async def test_the_guard_and_the_bound_of_a_task_hold_for_remote_agents(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with remote(lab, monkeypatch, "echo"):
        plan = plan_of(lab)
        assert any(host.startswith("127.0.0.1:") for host in reach_of(plan).hosts)
        assert lab.project is not None
        lab.http = HttpConfig()
        closed = lab.project.model_copy(update={"http": HttpConfig()})
        with pytest.raises(InvalidInput) as caught:
            await asyncio.to_thread(load_catalog, closed, lab.folder / "other")
        assert caught.value.code == "config.acp"
        async with lab.worker():
            ended = await lab.run(plan)
    assert ended.error is not None
    assert ended.error["code"] == "tool.address_refused"


async def test_an_agent_that_has_moved_is_not_sent_the_credentials(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async with remote(lab, monkeypatch, "echo") as server:
        plan = plan_of(lab)
        assert lab.project is not None
        moved = lab.project.tools.acp["helper"].model_copy(update={"url": "http://127.0.0.1:1"})
        lab.project = lab.project.model_copy(update={"tools": ToolsConfig(acp={"helper": moved})})
        async with lab.worker():
            ended = await lab.run(plan)
    assert ended.error is not None
    assert ended.error["code"] == "tool.service_moved"
    assert server.creations == 0
