"""The commands `sessions ls`, `show`, `say` against a real API and a real worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.edge.cli.exits import Exit
from engine.edge.mockllm.script import MockRule, MockScript, MockToolCall
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli
from tests.support.lab import Lab


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    settings = settings_for(lab.folder, task_queue=lab.queue)
    async with lab.worker(), api_server(settings, temporal=temporal_address) as server:
        yield server


@pytest.fixture
def cli(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(api.url, capsys)


async def begin(api: ApiServer, **more: Any) -> str:
    agent = (await api.http.post("/agents", json={"name": "Ada", "model": "mock"})).json()
    return str((await api.http.post("/sessions", json={"agent": agent["id"], **more})).json()["id"])


async def test_what_is_said_on_the_command_line_is_answered_and_shown(api: ApiServer, cli: Cli) -> None:
    session = await begin(api, situation="at the desk")
    code, out, err = await cli("sessions", "say", session, "Hello\nyou")
    assert (code, out) == (Exit.OK, "Hello\nyou\n"), err
    code, out, err = await cli("sessions", "show", session)
    assert code == Exit.OK, err
    head, asked, answered = out.split("\n\n")
    assert f"id         {session}" in head
    assert "situation  at the desk" in head
    assert "user  " in asked.splitlines()[0]
    assert asked.splitlines()[1:] == ["  Hello", "  you"]
    assert "Ada (assistant)" in answered.splitlines()[0]
    assert answered.splitlines()[1:] == ["  Hello", "  you"]
    shown = await cli.json("sessions", "show", session)
    assert [entry["role"] for entry in shown["entries"]] == ["user", "assistant"]


async def test_tools_that_the_model_wants_called_are_told(api: ApiServer, cli: Cli, lab: Lab) -> None:
    call = MockToolCall(name="weather", arguments={"place": "here"})
    lab.mock.use(MockScript(rules=[MockRule(match="weather", tool_calls=[call])]))
    agent = (await api.http.post("/agents", json={"name": "Ada", "model": "mock"})).json()["id"]
    tool = {"name": "weather", "type": "function", "function": {"parameters": {"type": "object"}}}
    assert (await api.http.post(f"/agents/{agent}/tools", json=tool)).status_code == 201
    session = (await api.http.post("/sessions", json={"agent": agent})).json()["id"]
    code, out, err = await cli("sessions", "say", session, "What weather is it?")
    assert code == Exit.OK, err
    assert out.startswith("calls weather {")


async def test_sessions_are_listed_with_the_latest_change_first(api: ApiServer, cli: Cli) -> None:
    first, second = await begin(api, situation="one"), await begin(api, situation="two")
    code, out, err = await cli("sessions", "ls")
    assert code == Exit.OK, err
    assert [line.split()[0] for line in out.splitlines()[1:]] == [second, first]
    await cli("sessions", "say", first, "Hello")
    assert [item["id"] for item in await cli.json("sessions", "ls")] == [first, second]


async def test_an_unknown_session_is_not_found(cli: Cli) -> None:
    for words in (("show",), ("say",)):
        text = ("Hello",) if words == ("say",) else ()
        code, _, err = await cli("sessions", *words, "7f6c1a52-6f0e-4d7e-9a53-0c5f5e1e9b41", *text)
        assert code == Exit.NOT_FOUND
        assert "session.not_found" in err or "there is no session" in err


async def test_a_session_is_named_by_the_beginning_of_its_id(api: ApiServer, cli: Cli) -> None:
    session = await begin(api)
    code, out, err = await cli("sessions", "say", session[:8], "Hello")
    assert (code, out) == (Exit.OK, "Hello\n"), err
    assert (await cli.json("sessions", "show", session[:8]))["id"] == session


async def test_the_turns_of_chats_are_listed_by_their_name_although_no_task_is_stored(api: ApiServer, cli: Cli) -> None:
    code, _, _ = await cli("ls", "--task", "chat")
    assert code == Exit.NOT_FOUND
    session = await begin(api)
    await cli("sessions", "say", session, "Hello")
    (turn,) = await cli.json("ls", "--task", "chat")
    (asked, *_) = (await cli.json("sessions", "show", session))["entries"]
    assert (turn["task_name"], turn["id"]) == ("chat", asked["turn_id"])
    assert (await cli.json("ls", "--task", "chat", "--count"))["total"] == 1
    listed = (await api.http.get("/executions", params={"task_name": "chat"})).json()["items"]
    assert [item["id"] for item in listed] == [turn["id"]]
