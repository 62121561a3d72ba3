"""Messages to steps that listen: over HTTP, from the command line and from the client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from engine.client import AsyncClient, Conflict, InvalidInput
from engine.edge.cli.exits import Exit
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli
from tests.compat.test_native_api import create, start, until
from tests.support.lab import Lab

pytestmark = pytest.mark.usefixtures("both_stores")

TALK = """\
name: talk
main:
  - set: {said: []}
  - listen:
      messages: chat
      schema: {type: string}
      busy: BUSY
      allow_busy: [interrupt]
      do:
        - set: {said: "$ [*state.said, _]"}
        - sleep: 1d
          when: state.said[-1] == 'wait'
      until: state.said[-1] == 'bye'
    label: talk
  - evaluate: $ state.said
"""


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@pytest.fixture
def http(api: ApiServer) -> httpx.AsyncClient:
    return api.http


@pytest.fixture
def cli(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(api.url, capsys)


async def listening(http: httpx.AsyncClient, busy: str = "enqueue") -> str:
    """Start an execution and return its id once it listens."""
    execution_id = str((await start(http, await create(http, TALK.replace("BUSY", busy))))["id"])
    await until(http, execution_id, "awaiting_input")
    return execution_id


async def say(http: httpx.AsyncClient, execution_id: str, value: Any, **members: Any) -> httpx.Response:
    return await http.post(f"/executions/{execution_id}/messages", json={"name": "chat", "value": value, **members})


async def test_a_message_begins_a_turn_and_its_sender_learns_what_becomes_of_it(
    http: httpx.AsyncClient, lab: Lab
) -> None:
    async with lab.worker():
        execution_id = await listening(http)
        (wait,) = (await http.get(f"/executions/{execution_id}")).json()["waits"]
        assert (wait["label"], wait["info"], wait["schema"]) == (
            "talk",
            {"messages": "chat", "busy": "enqueue"},
            {"type": "string"},
        )
        first = await say(http, execution_id, "wait", id="one", actor="ada")
        assert (first.status_code, first.json()) == (
            200,
            {
                "execution_id": execution_id,
                "message_id": "one",
                "name": "chat",
                "disposition": "started",
                "path": "main.1",
                "turn": 0,
            },
        )
        assert (await http.get(f"/executions/{execution_id}")).json()["waits"] == []
        queued = await say(http, execution_id, "late")
        assert (queued.json()["disposition"], queued.json()["turn"]) == ("queued", None)
        again = await say(http, execution_id, "other", id="one")
        assert again.json() == first.json()
        urgent = await say(http, execution_id, "now", busy="interrupt")
        assert (urgent.json()["disposition"], urgent.json()["turn"]) == ("interrupting", 1)
        await say(http, execution_id, "bye")
        ended = await until(http, execution_id, "succeeded")
    assert ended["output"] == ["wait", "now", "late", "bye"]
    late = await say(http, execution_id, "too late")
    assert (late.status_code, late.json()["code"]) == (409, "execution.closed")
    assert (await say(http, execution_id, "wait", id="one")).json() == first.json()


async def test_what_a_step_does_not_take_is_refused_with_the_reason(http: httpx.AsyncClient, lab: Lab) -> None:
    async with lab.worker():
        execution_id = await listening(http, "reject")
        wrong = await say(http, execution_id, {"text": "hello"})
        assert (wrong.status_code, wrong.json()["code"]) == (422, "input.rejected")
        unknown = await say(http, execution_id, "hello", busy="shout")
        assert (unknown.status_code, unknown.json()["code"]) == (422, "request.invalid")
        await say(http, execution_id, "wait")
        busy = await say(http, execution_id, "hello", id="two")
        assert (busy.status_code, busy.json()["code"]) == (409, "inbox.busy")
        assert (await say(http, execution_id, "hello", id="two")).json()["code"] == "inbox.busy"
        other = await http.post(f"/executions/{execution_id}/messages", json={"name": "mail", "value": "hello"})
        assert other.json()["disposition"] == "kept"


async def test_an_answer_is_no_message(http: httpx.AsyncClient, lab: Lab, cli: Cli) -> None:
    async with lab.worker():
        execution_id = await listening(http)
        for wait_id in ("", "main.1.do[0]"):
            body = {"status": "running", "input": "hello", "wait_id": wait_id}
            refused = await http.put(f"/executions/{execution_id}", json={k: v for k, v in body.items() if v})
            assert (refused.status_code, refused.json()["code"]) == (409, "answer.wants_message")
        _, out, _ = await cli("describe", execution_id)
        assert "listens for messages at main.1 (talk)" in out
        assert f"everstep message {execution_id} text --name chat" in out


async def test_the_command_and_the_client_send_messages_too(api: ApiServer, lab: Lab, cli: Cli) -> None:
    async with lab.worker(), AsyncClient(api.url) as client:
        execution_id = await listening(api.http)
        code, out, _ = await cli("message", execution_id, "wait", "--name", "chat", "--id", "one")
        assert (code, out.strip()) == (Exit.OK, "the message begins turn 1")
        taken = await client.send_message(execution_id, "later", name="chat", message_id="two", actor="ada")
        assert (taken["disposition"], taken["message_id"]) == ("queued", "two")
        code, out, _ = await cli("message", execution_id, "--input", '"bye"', "--name", "chat", "--busy", "interrupt")
        assert (code, out.strip()) == (Exit.OK, "the message interrupts the turn that runs, and begins turn 2")
        assert (await until(api.http, execution_id, "succeeded"))["output"] == ["wait", "bye"]
        with pytest.raises(Conflict) as closed:
            await client.send_message(execution_id, "late", name="chat")
        assert closed.value.code == "execution.closed"
        code, _, err = await cli("message", execution_id)
        assert (code, "a message is a text" in err) == (Exit.USAGE, True)
        other = await listening(api.http)
        with pytest.raises(InvalidInput) as rejected:
            await client.send_message(other, 5, name="chat")
        assert rejected.value.code == "input.rejected"
    _, told, _ = await cli("history", execution_id)
    assert "ada sent a message to 'chat', which waits for its turn" in told
    assert "a message interrupted the turn" in told


async def test_without_a_worker_a_message_is_pending_and_repeating_it_is_safe(lab: Lab, temporal_address: str) -> None:
    settings = settings_for(lab.folder, task_queue=lab.queue)
    async with api_server(settings, temporal=temporal_address, answer_timeout_s=0.2) as api:
        async with lab.worker():
            execution_id = await listening(api.http)
        pending = await say(api.http, execution_id, "bye", id="one")
        assert (pending.status_code, pending.json()["code"]) == (504, "message.pending")
        async with lab.worker():
            await until(api.http, execution_id, "succeeded")
            taken = await say(api.http, execution_id, "bye", id="one")
    assert (taken.status_code, taken.json()["disposition"]) == (200, "started")
