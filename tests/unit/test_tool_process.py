"""Python tools in processes of their own: killed when they must end, with typed errors when they crash."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.tools.processes import ProcessCalls
from activities.tools.runner import ToolActivities
from engine.core.contracts.activities import CallContext, ToolParams
from engine.core.errors import ToolError
from engine.settings import HttpConfig
from engine.tooling import Tool, ToolCatalog, ToolContext, tool
from tests.backends import process_tools
from tests.backends.process_tools import ids_in, until
from tests.support.patience import PATIENCE_S

CONTEXT = CallContext(tenant="acme", execution_id="e1", path="main.0", key="e1/main.0", attempt=3)


def params(item: Tool[..., Any], arguments: dict[str, Any], *, timeout_s: float = 60.0) -> ToolParams:
    return ToolParams(context=CONTEXT, tool=item.contract(), arguments=arguments, timeout_s=timeout_s)


async def call(item: Tool[..., Any], *, timeout_s: float = 60.0, **arguments: Any) -> Any:
    activities = ToolActivities(ToolCatalog.of(item), HttpConfig())
    result = await ActivityEnvironment().run(activities.call, params(item, arguments, timeout_s=timeout_s))
    return result.output


async def failure(item: Tool[..., Any], **arguments: Any) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        await call(item, **arguments)
    return caught.value


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def until_gone(*pids: int) -> None:
    await until(lambda: not any(is_running(pid) for pid in pids))


async def test_a_process_tool_runs_elsewhere_and_what_it_prints_is_no_answer() -> None:
    told = await call(process_tools.whoami, a=7)
    assert told == {"pid": told["pid"], "a": 7, "key": "e1/main.0", "tenant": "acme"}
    assert told["pid"] != os.getpid()


async def test_a_process_tool_that_reads_its_input_finds_nothing_and_does_not_wait() -> None:
    assert await call(process_tools.listen) == ["", ""]


async def test_a_cancelled_call_kills_its_process_and_what_that_started(tmp_path: Path) -> None:
    running = asyncio.create_task(call(process_tools.hang, file=str(tmp_path / "ids")))
    pids = await ids_in(tmp_path / "ids")
    assert all(is_running(pid) for pid in pids)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not is_running(pids[0]), "the process itself is gone before the call is"
    await until_gone(*pids)


async def test_a_call_out_of_time_kills_its_process(tmp_path: Path) -> None:
    file = tmp_path / "ids"
    activities = ToolActivities(ToolCatalog.of(process_tools.hang), HttpConfig())
    environment = ActivityEnvironment()
    limit = asyncio.create_task(ids_in(file))
    running = asyncio.create_task(
        environment.run(activities.call, params(process_tools.hang, {"file": str(file)}, timeout_s=5.0))
    )
    pids = await limit
    with pytest.raises(ApplicationError) as caught:
        await running
    assert caught.value.type == "tool.timeout"
    await until_gone(*pids)


async def test_a_process_dies_with_its_worker(tmp_path: Path) -> None:
    catalog = ToolCatalog.of(process_tools.hang)
    calls = ProcessCalls(catalog, 1)
    process = await calls._start()
    assert process.stdin is not None
    try:
        running = asyncio.create_task(
            calls._converse(
                process,
                process_tools.hang,
                params(process_tools.hang, {}),
                calls.question(process_tools.hang, params(process_tools.hang, {"file": str(tmp_path / "ids")})),
                lambda told: None,
            )
        )
        pids = await ids_in(tmp_path / "ids")
        # what the end of a worker is to its child, however it came
        process.stdin.close()
        with pytest.raises(ToolError) as caught:
            await running
        await until_gone(*pids)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert caught.value.code == "tool.crashed"


async def test_a_crash_is_an_error_of_the_tool_that_says_how_the_process_ended() -> None:
    left = await failure(process_tools.crash, code=3)
    assert left.type == "tool.crashed"
    assert "exit code 3" in str(left)
    assert left.details[0]["retryable"] is True, "it only reads, so it may be tried again"
    died = await failure(process_tools.abort)
    assert (died.type, died.details[0]["retryable"]) == ("tool.crashed", False)
    assert "SIGABRT" in str(died)


async def test_errors_of_the_function_come_through_as_from_a_thread() -> None:
    own = await failure(process_tools.refuse)
    assert own.type == "tool.sold_out"
    assert own.details[0]["retryable"] is True
    assert own.details[0]["details"]["left"] == 0
    ended = await failure(process_tools.ends)
    assert (ended.type, ended.details[0]["details"]["exception"]) == ("tool.failed", "SystemExit")


async def test_an_answer_that_is_too_long_is_refused() -> None:
    calls = ProcessCalls(ToolCatalog.of(process_tools.much), 1, max_bytes=1024 * 1024)
    assert await calls.call(process_tools.much, params(process_tools.much, {"chars": 10}), print) == "x" * 10
    with pytest.raises(ToolError) as caught:
        await calls.call(process_tools.much, params(process_tools.much, {"chars": 2 * 1024 * 1024}), print)
    assert caught.value.code == "tool.too_large"


async def test_no_more_processes_run_than_there_are_slots(tmp_path: Path) -> None:
    calls = ProcessCalls(ToolCatalog.of(process_tools.hang, process_tools.whoami), 1)
    first = asyncio.create_task(
        calls.call(process_tools.hang, params(process_tools.hang, {"file": str(tmp_path / "ids")}), print)
    )
    await ids_in(tmp_path / "ids")
    second = asyncio.create_task(calls.call(process_tools.whoami, params(process_tools.whoami, {}), print))
    await asyncio.sleep(0)
    assert calls._slots.locked()
    first.cancel()
    await asyncio.wait([first])
    assert (await second)["a"] == 1


async def test_a_tool_that_stands_in_no_module_is_told_so() -> None:
    @tool(process=True)
    def local() -> int:
        return 1

    assert (await failure(local)).type == "tool.unknown"


async def test_a_process_tool_tells_its_progress_by_heartbeats() -> None:
    heard: list[Any] = []
    calls = ProcessCalls(ToolCatalog.of(process_tools.counts), 1)
    assert await calls.call(process_tools.counts, params(process_tools.counts, {"until": 4}), heard.append) == 4
    assert heard == [0.25, 0.5, 0.75, 1.0, "done with counting"]


async def test_a_plain_tool_tells_its_progress_by_heartbeats() -> None:
    beats: list[Any] = []
    heard = asyncio.Event()

    def beat(*details: Any) -> None:
        beats.append(details)
        heard.set()

    environment = ActivityEnvironment()
    environment.on_heartbeat = beat
    release = asyncio.Event()

    @tool
    async def waits(context: ToolContext) -> str:
        context.progress(0.25)
        await asyncio.to_thread(context.progress, "half way")
        await release.wait()
        return "done"

    activities = ToolActivities(ToolCatalog.of(waits), HttpConfig())
    running = asyncio.create_task(environment.run(activities.call, params(waits, {})))
    async with asyncio.timeout(PATIENCE_S):
        await heard.wait()
    release.set()
    assert (await running).output == "done"
    assert beats[0] == ({"progress": "half way"},)


def test_progress_outside_of_its_bounds_is_refused() -> None:
    context = ToolContext.of(CONTEXT)
    context.progress(1)
    with pytest.raises(ValueError, match="from 0 to 1"):
        context.progress(1.5)
