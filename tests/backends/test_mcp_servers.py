"""MCP servers that end, hang on, are elsewhere, refuse, or change what they have."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from engine.control.mcp.definitions import Listing, tools_of
from engine.control.mcp.keeping import ask_server
from engine.control.mcp.refreshing import keep_fresh
from engine.core.errors import InvalidInput
from engine.core.plan.ir import ToolContract
from engine.edge.cli.main import run_command
from engine.settings import HttpConfig, McpConfig
from engine.tooling import ToolCatalog
from tests.backends.loopback import serving
from tests.backends.mcp_calls import Caller, alive, calling, catalog_of_program, gone, load, project_of, told
from tests.support.mcp_server import SECRET, happened, journal_of, make_server, managed, program, served


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAM_KEY", SECRET)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.fixture(scope="module")
def program_catalog(tmp_path_factory: pytest.TempPathFactory) -> ToolCatalog:
    return catalog_of_program(tmp_path_factory.mktemp("asked"))


# --- servers that end ----------------------------------------------------------------------------------------------


async def test_a_call_whose_server_dies_is_not_repeated_and_the_next_one_starts_it_anew(
    journal: Path, tmp_path: Path, program_catalog: ToolCatalog
) -> None:
    async with calling(project_of(program(journal)), tmp_path, program_catalog) as call:
        error = await call.fails("crash")
        assert error.type == "tool.unreachable"
        assert "ended with 3; it said: it is over ***" in error.message
        assert told(error)["retryable"] is False
        assert await call("greet", {"name": "Ann"}) == "Hello Ann"
        first, second = [item for item in journal_of(journal) if item["event"] == "started"]
        assert first["pid"] != second["pid"]
    assert not alive(first["pid"])
    assert not alive(second["pid"])


async def test_a_call_of_a_tool_that_may_be_repeated_is(
    journal: Path, tmp_path: Path, program_catalog: ToolCatalog
) -> None:
    async with calling(project_of(program(journal)), tmp_path, program_catalog) as call:
        error = await call.fails("crash_once")
        assert (error.type, told(error)["retryable"]) == ("tool.unreachable", True)
        assert await call("crash_once") == {"result": "done"}


async def test_a_server_that_dies_again_and_again_is_left_alone_for_a_moment(
    journal: Path, tmp_path: Path, program_catalog: ToolCatalog
) -> None:
    async with calling(project_of(program(journal)), tmp_path, program_catalog) as call:
        for _ in range(2):
            await call.fails("crash")
        starts = len([item for item in journal_of(journal) if item["event"] == "started"])
        error = await call.fails("greet", {"name": "Ann"})
        assert error.type == "tool.unreachable"
        assert told(error)["retryable"] is True
        assert told(error)["retry_after_s"] > 0
        assert len([item for item in journal_of(journal) if item["event"] == "started"]) == starts


async def test_all_calls_that_were_under_way_hear_that_the_server_is_gone(
    journal: Path, tmp_path: Path, program_catalog: ToolCatalog
) -> None:
    async with calling(project_of(program(journal)), tmp_path, program_catalog) as call:
        waiting = [asyncio.create_task(call.fails("wait")) for _ in range(3)]
        await happened(journal, "waiting", count=3)
        os.kill(journal_of(journal)[-1]["pid"], signal.SIGKILL)
        errors = await asyncio.gather(*waiting)
    assert {error.type for error in errors} == {"tool.unreachable"}
    assert all(told(error)["retryable"] for error in errors)


async def test_a_session_that_nobody_uses_is_ended(journal: Path, tmp_path: Path, program_catalog: ToolCatalog) -> None:
    async with calling(project_of(program(journal, idle_s=0.05)), tmp_path, program_catalog) as call:
        await call("greet", {"name": "Ann"})
        pid = journal_of(journal)[-1]["pid"]
        await gone(pid)
        assert await call("greet", {"name": "Bob"}) == "Hello Bob"


async def test_nothing_is_left_behind_by_a_program_that_does_not_want_to_end(
    tmp_path: Path, journal: Path, program_catalog: ToolCatalog
) -> None:
    # it starts another one, and neither minds that its input ends or that it is asked to go
    stubborn = (
        "import os, signal, subprocess, sys, runpy;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-c',"
        " 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)']);"
        "open(os.environ['MCP_JOURNAL'], 'a').write('{\"event\": \"child\", \"child\": %d}\\n' % child.pid);"
        "runpy.run_module('tests.support.mcp_server', run_name='__main__');"
    )
    config = program(journal, args=["-c", stubborn])
    async with calling(project_of(config), tmp_path, program_catalog) as call:
        await call("greet", {"name": "Ann"})
        child = (await happened(journal, "child"))["child"]
        assert alive(child)
    await gone(child)


def test_a_killed_worker_leaves_no_server_behind(tmp_path: Path, journal: Path) -> None:
    stubborn = "import runpy, time; runpy.run_module('tests.support.mcp_server', run_name='__main__'); time.sleep(600)"
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.backends.mcp_calls import calling, project_of\n"
        "from tests.support.mcp_server import program\n"
        "async def main():\n"
        f"    config = program(Path({str(journal)!r}), args=['-c', {stubborn!r}])\n"
        f"    async with calling(project_of(config), Path({str(tmp_path)!r})) as call:\n"
        "        await call('greet', {'name': 'Ann'})\n"
        "        print('ready', flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    folder = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=folder) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        pid = journal_of(journal)[-1]["pid"]
        assert alive(pid)
        worker.kill()
    asyncio.run(gone(pid))


async def test_a_server_over_http_that_was_started_anew_gets_the_call_in_a_new_session(
    journal: Path, tmp_path: Path
) -> None:
    current: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await current["app"](scope, receive, send)

    async with serving(app) as url:
        config = McpConfig(url=f"{url}/mcp")
        async with managed(make_server(journal)) as current["app"]:
            call = Caller(project_of(config), await load(project_of(config), tmp_path))
            assert await call("greet", {"name": "Ann"}) == "Hello Ann"
        async with managed(make_server(journal)) as current["app"]:
            assert await call("greet", {"name": "Bob"}) == "Hello Bob"
            await call.activities.aclose()


# --- addresses -----------------------------------------------------------------------------------------------------


async def test_a_private_address_is_refused_unless_it_is_allowed(journal: Path, tmp_path: Path) -> None:
    async with served(make_server(journal)) as url:
        config = McpConfig(url=url)
        with pytest.raises(InvalidInput) as caught:
            await load(project_of(config, http=HttpConfig()), tmp_path)
        assert caught.value.code == "config.mcp"
        assert "is not a public address" in caught.value.message
        assert "[http] allow" in caught.value.hint
        catalog = await load(project_of(config), tmp_path)
        async with calling(project_of(config, http=HttpConfig()), tmp_path, catalog) as call:
            assert (await call.fails("greet", {"name": "Ann"})).type == "tool.address_refused"
    assert "greeted" not in str(journal_of(journal))


async def test_a_redirect_leads_nowhere_with_the_credentials(tmp_path: Path) -> None:
    seen: list[str] = []

    async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async with serving(elsewhere) as target:

        async def moved(scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"location", f"{target}/mcp".encode())]
            await send({"type": "http.response.start", "status": 307, "headers": headers})
            await send({"type": "http.response.body"})

        async with serving(moved) as url:
            config = McpConfig.model_validate({"url": f"{url}/mcp", "auth": {"bearer_env": "EXAM_KEY"}})
            with structlog.testing.capture_logs() as lines:
                assert (await load(project_of(config), tmp_path)).contracts() == {}
    assert seen == []
    assert "307" in str(lines)
    assert SECRET not in str(lines)


@contextlib.asynccontextmanager
async def between(journal: Path, faulty: Callable[[Any], Awaitable[bool]]) -> AsyncIterator[McpConfig]:
    """Serve the server behind something that may answer calls of tools itself."""
    async with served(make_server(journal)) as inner, httpx.AsyncClient() as client:

        async def proxy(scope: Any, receive: Any, send: Any) -> None:
            body, more = b"", True
            while more:
                message = await receive()
                body, more = body + message.get("body", b""), message.get("more_body", False)
            if b"tools/call" in body and await faulty(send):
                return
            headers = [pair for pair in scope["headers"] if pair[0] not in (b"host", b"content-length")]
            async with client.stream(scope["method"], inner, headers=headers, content=body) as answer:
                kept = [pair for pair in answer.headers.raw if pair[0].lower() != b"content-length"]
                await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
                async for part in answer.aiter_raw():
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                await send({"type": "http.response.body"})

        async with serving(proxy) as url:
            yield McpConfig.model_validate({"url": f"{url}/mcp", "auth": {"bearer_env": "EXAM_KEY"}})


@pytest.mark.parametrize(("status", "again"), [(401, False), (503, True)])
async def test_a_refused_call_is_told_with_its_status_and_others_go_on(
    journal: Path, tmp_path: Path, status: int, again: bool
) -> None:
    refusing = False

    async def refuse(send: Any) -> bool:
        if refusing:
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": f"no {SECRET}".encode()})
        return refusing

    async with between(journal, refuse) as config, calling(project_of(config), tmp_path) as call:
        waiting = asyncio.create_task(call("wait"))
        await happened(journal, "waiting")
        refusing = True
        error = await call.fails("greet", {"name": "Ann"})
        assert (error.type, told(error)["retryable"]) == ("tool.http_status", again)
        assert told(error)["details"] == {"status": status, "body": "no ***"}
        refusing = False
        assert await call("greet", {"name": "Ann"}) == "Hello Ann"
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait({waiting})


@pytest.mark.parametrize(
    ("kind", "broken", "code"),
    [
        (b"text/event-stream", True, "tool.unreachable"),
        (b"text/event-stream", False, "tool.unreachable"),
        (b"application/json", True, "tool.unreachable"),
        (b"application/json", False, "tool.bad_reply"),
        (b"text/html", False, "tool.bad_reply"),
    ],
)
async def test_an_answer_that_breaks_off_or_is_none_ends_its_call_and_no_other(
    journal: Path, tmp_path: Path, kind: bytes, broken: bool, code: str
) -> None:
    cutting = True

    async def cut(send: Any) -> bool:
        if cutting:
            headers = [(b"content-type", kind), (b"content-length", b"1000" if broken else b"14")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b'data: {"json"\n', "more_body": broken})
        return cutting

    async with between(journal, cut) as config, calling(project_of(config), tmp_path) as call:
        error = await call.fails("greet", {"name": "Ann"})
        assert (error.type, told(error)["retryable"]) == (code, False)
        # of a tool that may be repeated, what broke off is
        error = await call.fails("add", {"a": 1, "b": 2})
        assert (error.type, told(error)["retryable"]) == (code, code == "tool.unreachable")
        cutting = False
        assert await call("greet", {"name": "Ann"}) == "Hello Ann"


# --- definitions that change ---------------------------------------------------------------------------------------


async def test_what_a_worker_hears_of_a_program_reaches_the_tools_of_every_process(
    journal: Path, tmp_path: Path
) -> None:
    config = program(journal, refresh_s=1)
    project = project_of(config)
    async with calling(project, tmp_path) as call:
        contracts = {**call.catalog.contracts(), "own": ToolContract("own", "python")}
        told = asyncio.Event()
        fresh = asyncio.create_task(keep_fresh(contracts, lambda: project, tmp_path, changed=told.set))
        # it has one tool more from now on, and says so
        await call("learn")
        async with asyncio.timeout(30):
            await told.wait()
        fresh.cancel()
        assert "exam_extra" in contracts
        assert "own" in contracts
    # no program was started to find that out
    assert [item["event"] for item in journal_of(journal)].count("started") == 2


async def test_a_server_over_http_is_asked_again_and_again(journal: Path, tmp_path: Path) -> None:
    server = make_server(journal)
    async with served(server) as url:
        project = project_of(McpConfig(url=url, refresh_s=1))
        contracts = (await load(project, tmp_path)).contracts()
        server.remove_tool("greet")
        told = asyncio.Event()
        fresh = asyncio.create_task(keep_fresh(contracts, lambda: project, tmp_path, changed=told.set))
        async with asyncio.timeout(30):
            await told.wait()
        fresh.cancel()
    assert "exam_greet" not in contracts
    assert "exam_add" in contracts


async def test_a_tool_without_a_usable_schema_is_left_out_alone(tmp_path: Path) -> None:
    listing = Listing(
        tools=[
            {"name": "good", "inputSchema": {"type": "object"}},
            {"name": "far", "inputSchema": {"$ref": "https://a.example/schema.json"}},
            {"name": "huge", "inputSchema": {"description": "x" * 70_000}},
        ],
        offers=["tools"],
    )
    offered = tools_of("s", listing, McpConfig(command="x"))
    assert set(offered.contracts) == {"s_good"}
    assert set(offered.left_out) == {"far", "huge"}


async def test_what_a_program_prints_while_it_is_asked_what_it_has_is_for_debugging(
    journal: Path, tmp_path: Path
) -> None:
    greeting = ["-c", 'echo welcome >&2; exec "$0" "$@"', sys.executable, "-m", "tests.support.mcp_server"]
    config = program(journal, command="sh", args=greeting)
    with structlog.testing.capture_logs() as lines:
        listing = await ask_server("exam", config, project_of(config))
    assert listing.tools
    assert [line["log_level"] for line in lines if line.get("line") == "welcome"] == ["debug"]


def test_nobody_without_such_a_server_imports_the_sdk() -> None:
    code = (
        "import sys, worker, engine.edge.server, engine.edge.cli.main, engine.control.definitions;"
        "print([name for name in sys.modules if name == 'mcp' or name.startswith('mcp.')])"
    )
    folder = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_the_commands_show_what_there_is(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERSTEP_DATA_DIR", str(tmp_path / "data"))
    config = program(journal, tools=["add"])
    lines = [
        "[tools.mcp.exam]",
        f"command = {json.dumps(config.command)}",
        f"args = {json.dumps(config.args)}",
        f"cwd = {json.dumps(config.cwd)}",
        'tools = ["add", "*_prompt"]',
        "[tools.mcp.exam.env]",
        f"MCP_JOURNAL = {json.dumps(str(journal))}",
        "[tools.tenants]",
        '"exam_add" = ["acme"]',
    ]
    file = tmp_path / "everstep.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    words = ["--project", str(file)]
    assert await asyncio.to_thread(run_command, ["tools", "ls", *words]) == 0
    rows = [line.split()[:5] for line in capsys.readouterr().out.splitlines()]
    assert rows[1:] == [["exam_add", "mcp", "read", "yes", "acme"], ["exam_get_prompt", "mcp", "read", "yes", "all"]]
    assert await asyncio.to_thread(run_command, ["tools", "mcp", "exam", *words, "-o", "json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert {item["uri"] for item in listing["resources"]} == {"memo://one"}
    assert {item["name"] for item in listing["prompts"]} == {"ask"}
    assert await asyncio.to_thread(run_command, ["tools", "mcp", "exam", *words]) == 0
    shown = capsys.readouterr().out
    assert "exam_add" in shown
    assert "note://{name}" in shown
    assert "resources are not offered to tasks (read_resource)" in shown
    assert "prompts are had by the tool exam_get_prompt" in shown
    assert await asyncio.to_thread(run_command, ["tools", "mcp", "exan", *words]) == 4
    assert "did you mean 'exam'" in capsys.readouterr().err


def test_what_a_server_says_is_shown_on_one_line_each_and_commands_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ask(*_: Any) -> Listing:
        return Listing(
            server={"name": "ex\x1b[31mam"},
            protocol="1",
            tools=[
                {"name": "a\x1b[2Jb", "description": "One\r\ntwo\x07", "inputSchema": {"type": "object"}},
                {"name": "odd", "inputSchema": {"type": "object", "properties": {"a": {"$ref": "https://a.example"}}}},
            ],
            offers=["tools"],
        )

    monkeypatch.setattr("engine.control.mcp.keeping.ask_server", ask)
    file = tmp_path / "everstep.toml"
    file.write_text('[tools.mcp.exam]\nurl = "https://mcp.example"\n', encoding="utf-8")
    assert run_command(["tools", "mcp", "exam", "--project", str(file)]) == 0
    head, _, title, first, second, _, left = capsys.readouterr().out.splitlines()
    assert head == "ex [31mam, protocol 1"
    assert title.split() == ["TOOL", "CALLED", "DESCRIPTION"]
    assert first.split() == ["a", "[2Jb", "exam_a_2Jb", "One", "two"]
    assert second.split() == ["odd", "-", "-"]
    assert left.startswith("odd is left out: its inputSchema is wrong: ")


FOREIGN = """
import json, sys
same = {"jsonrpc": "2.0"}
server = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "x", "version": "1"}}
for line in sys.stdin:
    asked = json.loads(line)
    if asked["method"] == "initialize":
        result = server
    elif asked["method"] == "tools/list":
        result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("long", "deep")]}
    elif asked["method"] == "tools/call" and asked["params"]["name"] == "long":
        result = {"structuredContent": {"id": 0, "text": "x" * 17 * 1024 * 1024}, "content": []}
    elif asked["method"] == "tools/call":
        result = {"structuredContent": {"id": 0, "deep": json.loads("[" * 300 + "]" * 300)}, "content": []}
    else:
        continue
    number = {"id": asked["id"]}
    told = {"result": result, **same, **number} if "last" in sys.argv else {**same, **number, "result": result}
    print(json.dumps(told), flush=True)
"""


@pytest.mark.parametrize("place", ["first", "last"])
async def test_an_answer_that_cannot_be_used_ends_its_own_call_wherever_its_number_stands(
    place: str, tmp_path: Path
) -> None:
    file = tmp_path / "server.py"
    file.write_text(FOREIGN, encoding="utf-8")
    config = McpConfig(command=sys.executable, args=[str(file), place])
    async with calling(project_of(config), tmp_path) as call:
        assert (await call.fails("long")).type == "tool.too_large"
        error = await call.fails("deep")
        assert (error.type, told(error)["retryable"]) == ("tool.bad_reply", False)
