"""Tools of a real MCP server, over stdio and HTTP: what it has, calls, cancels, credentials."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from temporalio.testing import ActivityEnvironment

from activities.tools.mcp import KEY
from engine.core.errors import InvalidInput
from engine.settings import McpConfig
from engine.tooling import ToolCatalog
from tests.backends.loopback import CONTEXT, unused_port
from tests.backends.mcp_calls import Caller, alive, calling, catalog_of_program, load, project_of, told
from tests.support.mcp_server import SECRET, happened, journal_of, make_server, program, served


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAM_KEY", SECRET)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.fixture(scope="module")
def program_catalog(tmp_path_factory: pytest.TempPathFactory) -> ToolCatalog:
    return catalog_of_program(tmp_path_factory.mktemp("asked"))


@pytest.fixture(params=["stdio", "http"])
async def call(request: pytest.FixtureRequest, journal: Path, tmp_path: Path) -> AsyncIterator[Caller]:
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "stdio":
            config, catalog = program(journal), request.getfixturevalue("program_catalog")
        else:
            url = await stack.enter_async_context(served(make_server(journal, SECRET)))
            config, catalog = McpConfig.model_validate({"url": url, "auth": {"bearer_env": "EXAM_KEY"}}), None
        yield await stack.enter_async_context(calling(project_of(config), tmp_path, catalog))


# --- what a server has ---------------------------------------------------------------------------------------------


async def test_tools_of_a_server_have_its_name_its_schemas_and_its_hints(call: Caller) -> None:
    contracts = call.catalog.contracts()
    add, greet = contracts["exam_add"], contracts["exam_greet"]
    assert (add.type, add.description, add.timeout_s) == ("mcp", "Add two numbers.", 60)
    assert isinstance(add.parameters, dict)
    assert set(add.parameters["properties"]) == {"a", "b"}
    assert (add.effect.value, add.idempotent, add.repeatable) == ("read", True, True)
    assert (greet.effect.value, greet.idempotent, greet.repeatable) == ("write", False, False)
    assert "memo://one" in contracts["exam_read_resource"].description
    assert "ask" in contracts["exam_get_prompt"].description
    for part in (SECRET, "EXAM_KEY", "MCP_JOURNAL", "127.0.0.1"):
        assert part not in str(contracts)


async def test_the_operator_chooses_tools_and_says_what_they_do(journal: Path, tmp_path: Path) -> None:
    config = program(
        journal,
        tools=["add", "greet", "w*", "!wait"],
        effects={"greet": "read", "add": "external"},
        idempotent=["weather", "!add"],
        timeout_s=7,
    )
    contracts = (await load(project_of(config), tmp_path)).contracts()
    assert set(contracts) == {"exam_add", "exam_greet", "exam_weather"}
    assert (contracts["exam_greet"].effect.value, contracts["exam_add"].effect.value) == ("read", "external")
    assert (contracts["exam_weather"].idempotent, contracts["exam_add"].idempotent) == (True, False)
    assert contracts["exam_add"].timeout_s == 7


async def test_a_glob_that_names_no_tool_is_refused_with_those_that_there_are(journal: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        await load(project_of(program(journal, tools=["adds"])), tmp_path)
    assert caught.value.code == "config.mcp"
    assert "'adds'" in caught.value.message
    assert "add, " in caught.value.hint


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({}, "needs command"),
        ({"command": "a", "url": "https://a.example/mcp"}, "not both"),
        ({"command": "a", "headers": {"X-A": "b"}}, "headers means nothing beside command"),
        ({"url": "https://a.example/mcp", "env": {"A": "b"}}, "env means nothing beside url"),
        ({"command": "a", "env": {"A": "env:"}}, "env.A: write env: and the name"),
        ({"url": "ftp://a.example"}, "pattern"),
    ],
)
def test_a_registration_that_makes_no_sense_is_refused(given: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=part.replace(".", r"\.")):
        McpConfig.model_validate(given)


async def test_the_program_is_ended_once_it_has_said_what_it_has(journal: Path, tmp_path: Path) -> None:
    await load(project_of(program(journal)), tmp_path)
    (started,) = journal_of(journal)
    assert not alive(started["pid"])


async def test_a_server_that_is_down_is_replaced_by_its_kept_copy_and_the_log_says_so(
    journal: Path, tmp_path: Path
) -> None:
    with unused_port() as port, structlog.testing.capture_logs() as lines:
        config = McpConfig(url=f"http://127.0.0.1:{port}/mcp")
        assert (await load(project_of(config), tmp_path)).contracts() == {}
    assert [line["event"] for line in lines] == ["mcp server cannot be asked, its tools are not there"]
    async with served(make_server(journal)) as url:
        config = McpConfig(url=url)
        had = (await load(project_of(config), tmp_path)).contracts()
        assert "exam_add" in had
    with structlog.testing.capture_logs() as lines:
        assert (await load(project_of(config), tmp_path)).contracts() == had
    assert [line["event"] for line in lines] == ["mcp server cannot be asked, its kept copy is used"]


async def test_a_program_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        await load(project_of(McpConfig(command="./no-such-server")), tmp_path)
    assert caught.value.code == "config.mcp"
    assert "no-such-server" in caught.value.message


async def test_what_a_program_said_before_it_ended_is_in_the_log_line(tmp_path: Path) -> None:
    config = McpConfig(command=sys.executable, args=["-c", "import sys; sys.exit('no licence found')"])
    with structlog.testing.capture_logs() as lines:
        assert (await load(project_of(config), tmp_path)).contracts() == {}
    reasons = [line["reason"] for line in lines if line["log_level"] == "error"]
    assert len(reasons) == 1
    assert "ended with 1; it said: no licence found" in reasons[0]


# --- calls ---------------------------------------------------------------------------------------------------------


async def test_results_are_structured_text_or_parts(call: Caller) -> None:
    assert await call("weather", {"place": "Ulm"}) == {"place": "Ulm", "degrees": 21.5}
    assert await call("add", {"a": 1, "b": 2}) == {"result": 3}
    assert await call("greet", {"name": "Ann"}) == "Hello Ann"
    picture = await call("picture")
    assert picture["text"] == "a dot"
    assert picture["content"][1] == {"type": "image", "data": "iVBORw==", "mimeType": "image/png"}


async def test_resources_are_read_and_prompts_are_got(call: Caller) -> None:
    found = await call("read_resource", {"uri": "note://ann"})
    assert found == {"contents": [{"uri": "note://ann", "mimeType": "text/plain", "text": "note ann"}]}
    found = await call("get_prompt", {"name": "ask", "arguments": {"topic": "rain"}})
    assert found["messages"] == [{"role": "user", "content": {"type": "text", "text": "What is rain?"}}]


async def test_a_tool_that_fails_says_why_and_is_not_repeated(call: Caller) -> None:
    error = await call.fails("fail", {"reason": "no luck"})
    assert error.type == "tool.failed"
    assert "no luck" in error.message
    assert told(error)["retryable"] is False
    error = await call.fails("read_resource", {"uri": "memo://none"})
    assert error.type == "tool.failed"
    assert "memo://none" in error.message


async def test_arguments_that_do_not_fit_are_never_sent(call: Caller, journal: Path) -> None:
    for arguments in ({}, {"name": 5}):
        assert (await call.fails("greet", arguments)).type == "tool.bad_arguments"
    assert "greeted" not in str(journal_of(journal))


async def test_many_calls_at_one_time_share_one_session(call: Caller, journal: Path) -> None:
    before = len([item for item in journal_of(journal) if item["event"] == "started"])
    found = await asyncio.gather(*(call("add", {"a": number, "b": 1}) for number in range(20)))
    assert found == [{"result": number + 1} for number in range(20)]
    after = len([item for item in journal_of(journal) if item["event"] == "started"])
    # the one that is served over HTTP has been there all the time
    assert after - before == (1 if "stdio" in os.environ["PYTEST_CURRENT_TEST"] else 0)


async def test_progress_is_carried_by_heartbeats(call: Caller, journal: Path) -> None:
    def hear(*details: Any) -> None:
        with journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": "heard", "details": details}) + "\n")

    # the session is another call's
    await call("greet", {"name": "Ann"})
    call.hear = hear
    assert await call("steps") == "ok"
    assert (await happened(journal, "heard"))["details"] == [{"progress": "1 of 2: half of ***"}]


async def test_a_result_beyond_the_bound_fails_alone_and_clearly(call: Caller) -> None:
    small, error = await asyncio.gather(call("big", {"megabytes": 1}), call.fails("big", {"megabytes": 17}))
    assert len(small) == 1024 * 1024
    assert error.type == "tool.too_large"
    assert "16 MB" in error.message
    assert await call("greet", {"name": "Ann"}) == "Hello Ann"


async def test_a_cancelled_call_is_cancelled_in_the_server(call: Caller, journal: Path) -> None:
    environment = ActivityEnvironment()
    running = asyncio.create_task(call("wait", environment=environment))
    await happened(journal, "waiting")
    environment.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await happened(journal, "cancelled")
    # the session lives on
    assert await call("greet", {"name": "Ann"}) == "Hello Ann"


async def test_a_call_that_is_out_of_time_is_cancelled_in_the_server_too(call: Caller, journal: Path) -> None:
    # starting a program takes of the time of the call that needs it
    await call("greet", {"name": "Ann"})
    error = await call.fails("wait", timeout_s=5)
    assert error.type == "tool.timeout"
    await happened(journal, "cancelled")


async def test_a_call_carries_its_key(call: Caller) -> None:
    shown = json.loads(await call("tell_all"))
    assert shown["meta"][KEY] == CONTEXT.key


# --- credentials ---------------------------------------------------------------------------------------------------


async def test_credentials_reach_the_server_and_nobody_else(call: Caller) -> None:
    with structlog.testing.capture_logs() as lines:
        shown = await call("tell_all")
        error = await call.fails("fail", {"reason": "because"})
    assert "because ***" in error.message
    assert SECRET not in f"{shown}{error!r}{error.details}{lines}"
    assert json.loads(shown)["secret"] == "***"
    said = [line["line"] for line in lines if line["event"] == "mcp server says"]
    assert "the key is ***" in said


async def test_a_program_sees_no_variables_but_its_own(
    journal: Path, tmp_path: Path, program_catalog: ToolCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "another key")
    async with calling(project_of(program(journal)), tmp_path, program_catalog) as call:
        variables = json.loads(await call("tell_all"))["variables"]
    assert "MCP_SECRET" in variables
    assert not {"OPENAI_API_KEY", "EXAM_KEY"} & set(variables)


@pytest.mark.parametrize("way", [{"header": "X-Key", "env": "EXAM_KEY"}, {"bearer_env": "EXAM_KEY"}])
async def test_a_key_goes_in_the_header_that_the_operator_names(
    journal: Path, tmp_path: Path, way: dict[str, str]
) -> None:
    async with served(make_server(journal)) as url:
        config = McpConfig.model_validate({"url": url, "auth": way, "headers": {"X-Team": "blue"}})
        async with calling(project_of(config), tmp_path) as call:
            headers = json.loads(await call("tell_all"))["headers"]
    assert headers["x-team"] == "blue"
    # the server did get it, and what it shows of it is masked
    assert headers["x-key" if "header" in way else "authorization"] in ("***", "Bearer ***")


async def test_a_variable_that_is_not_set_is_told_by_its_name(
    journal: Path, tmp_path: Path, program_catalog: ToolCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EXAM_KEY")
    async with calling(project_of(program(journal)), tmp_path, program_catalog) as call:
        error = await call.fails("greet", {"name": "Ann"})
    assert error.type == "tool.credentials"
    assert "EXAM_KEY" in error.message


async def test_half_of_a_character_is_refused_and_the_session_lives_on(call: Caller, journal: Path) -> None:
    assert await call("greet", {"name": "Ann"}) == "Hello Ann"
    error = await call.fails("greet", {"name": "\ud800"})
    assert error.type == "tool.bad_arguments"
    assert "half of a surrogate pair" in error.message
    assert await call("greet", {"name": "Bob"}) == "Hello Bob"
    first, second = [item["pid"] for item in journal_of(journal) if item["event"] == "greeted"]
    assert first == second
