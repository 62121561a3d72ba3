"""Steps call tools of a real MCP server; a cancel of the execution reaches it, and what changes in it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from engine.control.compiling import compile_text
from engine.control.tools import load_catalog
from engine.core.plan.ir import Drift, Plan
from engine.settings import BackendConfig, McpConfig, Project, ToolsConfig
from tests.support.lab import Lab
from tests.support.mcp_server import SECRET, happened, journal_of, make_server, program, served

TASK = """
name: sums
main:
  - tool: exam_add
    arguments: {a: $ _.n, b: 1}
  - tool: exam_weather
    arguments: {place: Ulm}
  - tool: exam_tell_all
    arguments: {}
  - tool: exam_fail
    arguments: {reason: rain}
    on_error: {evaluate: $ error}
  - tool: exam_read_resource
    arguments: {uri: "note://ann"}
  - evaluate: {sum: "$ outputs[0].result", weather: "$ outputs[1]", shown: "$ outputs[2]", failed: "$ outputs[3]"}
"""


async def register(lab: Lab, config: McpConfig) -> None:
    """Register the server at the laboratory's worker."""
    backends = {"mock": BackendConfig(base_url=lab.llm_url, default_model="mock")}
    lab.project = Project(backends=backends, http=lab.http, tools=ToolsConfig(mcp={"exam": config}))
    lab.others = (await asyncio.to_thread(load_catalog, lab.project, lab.folder)).contracts()


@pytest.fixture(params=["stdio", "http"])
async def journal(
    request: pytest.FixtureRequest, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Path]:
    monkeypatch.setenv("EXAM_KEY", SECRET)
    path = tmp_path / "journal.jsonl"
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "stdio":
            await register(lab, program(path))
        else:
            url = await stack.enter_async_context(served(make_server(path, SECRET)))
            await register(lab, McpConfig.model_validate({"url": url, "auth": {"bearer_env": "EXAM_KEY"}}))
        yield path


def plan_of(lab: Lab, text: str) -> Plan:
    return compile_text(text, contracts=lab.others).plan


async def test_a_task_calls_tools_of_a_server_and_its_key_stands_nowhere(lab: Lab, journal: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        async with lab.worker():
            plan = plan_of(lab, TASK)
            handle = await lab.start(plan, {"n": 4})
            ended = await lab.end_of(handle)
            await lab.until(handle, "finish")
            events = await lab.events(handle)
    assert (ended.output["sum"], ended.output["weather"]) == (5, {"place": "Ulm", "degrees": 21.5})
    assert (ended.output["failed"]["code"], "rain ***" in ended.output["failed"]["message"]) == ("tool.failed", True)
    assert f'"everstep/idempotency-key": "{handle.id}:main.2"' in ended.output["shown"]
    # as bytes, in which payloads stand as they are
    history = "".join([str(event.SerializeToString(), "latin-1") async for event in handle.fetch_history_events()])
    assert "exam_weather" in history
    for told in (repr(plan), history, repr(events), repr(lines), repr(ended)):
        assert SECRET not in told
        assert SECRET[:12] not in told


async def test_a_cancel_of_an_execution_reaches_the_server(lab: Lab, journal: Path) -> None:
    async with lab.worker():
        handle = await lab.start(plan_of(lab, "name: t\nmain:\n  - {tool: exam_wait, arguments: {}}\n"))
        await happened(journal, "waiting")
        await lab.cancel(handle)
        # the server says so, not we
        await happened(journal, "cancelled")
        assert (await lab.end_of(handle)).cancelled


async def test_a_call_that_may_be_repeated_survives_its_server(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXAM_KEY", SECRET)
    journal = tmp_path / "journal.jsonl"
    await register(lab, program(journal))
    async with lab.worker():
        ended = await lab.run(plan_of(lab, "name: t\nmain:\n  - {tool: exam_crash_once, arguments: {}}\n"))
    assert ended.output == {"result": "done"}
    assert [item["event"] for item in journal_of(journal)].count("crashing once") == 1


async def test_a_tool_that_is_other_than_at_the_start_is_told_by_the_worker(lab: Lab, journal: Path) -> None:
    plan = plan_of(lab, "name: t\nmain:\n  - {tool: exam_add, arguments: {a: 1, b: 2}}\n")
    old = replace(plan.tools["exam_add"], description="Add three numbers.")
    with structlog.testing.capture_logs() as lines:
        async with lab.worker():
            assert (await lab.run(replace(plan, tools={"exam_add": old}))).output == {"result": 3}
    (told,) = [line for line in lines if line["event"] == "tool.drift"]
    assert told["tool"] == "exam_add"
    assert told["changes"] == ['description is "Add two numbers.", it was "Add three numbers."']


async def test_the_first_event_tells_what_differed_at_the_start(lab: Lab) -> None:
    plan = plan_of(lab, "name: t\nmain:\n  - {evaluate: 1}\n")
    drift = Drift("exam_add", "0a", "0b", ('effect is "write", it was "read"',))
    async with lab.worker():
        handle = await lab.start(replace(plan, drift=(drift,)))
        told = (await lab.until(handle, "init"))["drift"]
        plain = await lab.start(plan)
        assert "drift" not in await lab.until(plain, "init")
        await asyncio.gather(handle.result(), plain.result())
    assert told == [{"tool": "exam_add", "before": "0a", "after": "0b", "changes": list(drift.changes)}]
