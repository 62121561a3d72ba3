"""What Julep's routes must not do: show one tenant what is another's, do more than a key permits, never end a turn."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import insert, select

from engine.edge.mockllm.script import MockRule, MockScript, MockToolCall
from engine.settings import HttpConfig
from engine.store.chat_turns import TurnStore
from engine.store.schema_sessions import chat_turns
from engine.store.schema_summaries import session_summaries
from engine.store.summaries import SummaryStore
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.doors import eventually
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S
from tests.support.processes import WorkerProcess

CRM = {
    "name": "crm",
    "type": "api_call",
    "api_call": {"method": "GET", "url": "https://crm.example/", "headers": {"authorization": "Bearer crm-key-123456"}},
}
"""A tool with a key written into it."""
WEATHER = {"name": "weather", "type": "function", "function": {"parameters": {"type": "object", "properties": {}}}}
LOOP = "{% for number in range(9000) %}{{ number }}{% endfor %}"
"""As much as one template may do, about."""


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    settings = settings_for(lab.folder, task_queue=lab.queue, api_key=SecretStr("sesame"))
    async with api_server(settings, temporal=temporal_address) as server:
        yield server


@contextlib.asynccontextmanager
async def caller(api: ApiServer, scope: str, tenant: str = "acme") -> AsyncIterator[httpx.AsyncClient]:
    """Give a client whose key has a scope in a tenant."""
    body = {"name": f"{tenant}-{scope}", "tenant": tenant, "scopes": [scope]}
    made = await api.http.post("/keys", json=body, headers={"x-auth-key": "sesame"})
    assert made.status_code == 201, made.text
    headers = {"authorization": f"Bearer {made.json()['key']}"}
    async with httpx.AsyncClient(
        base_url=f"{api.url}/api", headers=headers, timeout=PATIENCE_S, trust_env=False
    ) as http:
        yield http


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


async def made(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Any:
    answer = await http.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def session_of(http: httpx.AsyncClient, **more: Any) -> str:
    """Make an agent and a session of it; return the session's id."""
    agent = await made(http, "/agents", {"name": "Ada", "model": "mock"})
    return str((await made(http, "/sessions", {"agent": agent["id"], **more}))["id"])


async def history(http: httpx.AsyncClient, session: str) -> list[str]:
    return [entry["content"] for entry in (await http.get(f"/sessions/{session}/history")).json()["entries"]]


# --- what a key permits ----------------------------------------------------------------------------------------------


async def test_only_who_may_define_sends_tools_that_the_engine_runs(lab: Lab, api: ApiServer) -> None:
    leak = {**CRM, "api_call": {"method": "GET", "url": f"{api.url}/healthz", "headers": {"x": "$ secrets.crm"}}}
    hidden = {"name": "x", "type": "function", "definition": leak}
    clock = {"name": "x", "type": "system", "system": {"resource": "agent", "operation": "list"}}
    untyped = {"name": "x", "api_call": leak["api_call"]}
    lab.mock.use(MockScript(rules=[MockRule(turn=0, tool_calls=[MockToolCall(name="crm")]), MockRule(reply="done")]))
    async with lab.worker(), caller(api, "admin") as admin, caller(api, "run") as runs:
        assert (await admin.put("/secrets/crm", json={"value": "s3cr3t-value"})).status_code == 200
        session = await session_of(admin, auto_run_tools=True)
        for tool in (leak, hidden, clock, untyped, {"name": "x", "type": []}):
            refused = await runs.post(f"/sessions/{session}/chat", json=said("Hello", tools=[tool]))
            assert (refused.status_code, refused.json()["code"]) == (403, "auth.scope"), tool
        assert lab.mock.calls == []
        for scope, tool in ((admin, leak), (runs, WEATHER)):
            answer = await scope.post(f"/sessions/{session}/chat", json=said("Hello", tools=[tool], save=False))
            assert answer.status_code == 201, answer.text
            assert "s3cr3t" not in answer.text


async def test_addresses_of_this_machine_are_out_of_reach_for_tools_of_agents_and_of_chats(
    lab: Lab, api: ApiServer
) -> None:
    lab.http = HttpConfig()
    probe = {"name": "probe", "type": "api_call", "api_call": {"method": "GET", "url": f"{api.url}/api/healthz"}}
    call, answer = MockRule(turn=0, tool_calls=[MockToolCall(name="probe")]), MockRule(reply="done")
    lab.mock.use(MockScript(rules=[call, answer]))
    async with lab.worker(), caller(api, "define") as http:
        for tools in (None, [probe]):
            agent = await made(http, "/agents", {"name": "Ada", "model": "mock"})
            if tools is None:
                await made(http, f"/agents/{agent['id']}/tools", probe)
            session = (await made(http, "/sessions", {"agent": agent["id"], "auto_run_tools": True}))["id"]
            await made(http, f"/sessions/{session}/chat", said("Look", tools=tools))
            told = await history(http, session)
            assert (len(told), told[-1]) == (4, "done")
            assert "tool.address_refused" in told[2]


async def test_templates_see_what_a_tool_is_called_and_not_its_keys(api: ApiServer) -> None:
    async with caller(api, "admin") as http:
        agent = await made(http, "/agents", {"name": "Ada", "model": "mock"})
        await made(http, f"/agents/{agent['id']}/tools", CRM)
        template = {"agent": agent["id"], "render_templates": True, "system_template": "{{ tools }}"}
        session = (await made(http, "/sessions", template))["id"]
        rendered = await http.post(f"/sessions/{session}/render", json=said("{{ tools }} {{ secrets.x }}"))
        assert (rendered.status_code, rendered.json()["code"]) == (400, "template.failed")
        rendered = await http.post(f"/sessions/{session}/render", json=said("{{ tools }}"))
        messages = json.dumps(rendered.json()["messages"])
    assert "crm" in messages
    assert "crm-key-123456" not in messages


async def test_all_templates_of_a_turn_share_what_they_may_use_up(api: ApiServer) -> None:
    async with caller(api, "admin") as http:
        session = await session_of(http, render_templates=True)
        messages = [{"role": "user", "content": f"{LOOP}{number}"} for number in range(100)]
        one = await http.post(f"/sessions/{session}/render", json={"messages": messages[:1]})
        assert one.status_code == 200
        refused = await http.post(f"/sessions/{session}/render", json={"messages": messages})
    assert (refused.status_code, refused.json()["code"]) == (400, "template.failed")


# --- tenants ---------------------------------------------------------------------------------------------------------


async def test_the_same_ids_names_and_keys_of_two_tenants_are_two_things(lab: Lab, api: ApiServer) -> None:
    key = {"idempotency-key": "the same"}
    async with lab.worker(), caller(api, "admin") as acme, caller(api, "admin", "eve") as eve:
        agent = await made(acme, "/agents", {"name": "Ada", "model": "mock", "canonical_name": "ada"})
        session = (await made(acme, "/sessions", {"agent": "ada", "situation": "acme-secret"}))["id"]
        first = await acme.post(f"/sessions/{session}/chat", json=said("acme-secret"), headers=key)
        for named in ("ada", agent["id"]):
            for path, body in (("/sessions", {"agent": named}), (f"/sessions/{session}", {"agent": named})):
                refused = await eve.post(path, json=body)
                assert (refused.status_code, refused.json()["code"]) == (404, "agent.not_found")
        theirs = await made(eve, f"/agents/{agent['id']}", {"name": "Eve", "model": "mock", "canonical_name": "ada"})
        assert (theirs["id"], theirs["name"]) == (agent["id"], "Eve")
        taken = await made(eve, f"/sessions/{session}", {"agent": "ada"})
        assert (taken["id"], taken["situation"]) == (session, None)
        assert await history(eve, session) == []
        other = await eve.post(f"/sessions/{session}/chat", json=said("acme-secret"), headers=key)
        assert (other.status_code, other.json()["id"] == first.json()["id"]) == (201, False)
        assert (await eve.get(f"/executions/{first.json()['id']}")).status_code == 404
        assert (await eve.delete(f"/agents/{agent['id']}")).status_code == 202
        assert (await acme.get(f"/agents/{agent['id']}")).json()["name"] == "Ada"
        assert await history(acme, session) == ["acme-secret", "acme-secret"]


# --- turns without end -----------------------------------------------------------------------------------------------


async def test_a_request_whose_turn_is_forgotten_says_nothing_twice_and_holds_nobody_up(
    lab: Lab, api: ApiServer
) -> None:
    async with lab.worker(), caller(api, "admin") as http:
        session = await session_of(http)
        keyed: dict[str, Any] = {"headers": {"idempotency-key": "once"}, "json": said("Hello")}
        first = await http.post(f"/sessions/{session}/chat", **keyed)
        assert await TurnStore(lab.store.database).remove_ended(before_us=2**62, limit=9) == 1
        again = await http.post(f"/sessions/{session}/chat", **keyed)
        assert (again.status_code, again.json()["choices"]) == (201, first.json()["choices"])
        assert await history(http, session) == ["Hello", "Hello"]
        await made(http, f"/sessions/{session}/chat", said("And?"))
        assert len(lab.mock.calls) == 2


async def test_what_nobody_can_read_is_given_up_and_keeps_nothing_else_back(lab: Lab, api: ApiServer) -> None:
    database = lab.store.database
    own: dict[str, Any] = {"tenant": "acme", "lease_us": 0, "created_us": 1}
    worker = WorkerProcess(lab, [])
    async with caller(api, "admin") as http:
        session, other = await session_of(http), await session_of(http)
        turn = {**own, "number": 1, "saved": True, "actor": "", "updated_us": 1, "request": '{"nonsense": 1}'}
        unread = {**turn, "session_id": session, "id": "11111111-1111-4111-8111-111111111111", "state": "accepted"}
        # its execution is nowhere
        lost = {**turn, "session_id": other, "id": "11111111-1111-4111-8111-111111111112", "state": "running"}
        summary = {**own, "session_id": session, "id": "22222222-2222-4222-8222-222222222222"}
        broken = {**summary, "request": "{}", "entries": "[]"}
        asked = {"agent_id": "", "model": "", "max_tokens": 9, "messages": [{"role": "user", "content": "sum up"}]}
        whole = {**summary, "session_id": other, "id": "33333333-3333-4333-8333-333333333333"}
        whole |= {"request": json.dumps(asked), "entries": "[]", "created_us": 2}
        async with database.write() as connection:
            await connection.execute(insert(chat_turns), [unread, lost])
            await connection.execute(insert(session_summaries), [broken, whole])
        worker.start()
        try:
            await worker.ready()
            for one in (session, other):
                await made(http, f"/sessions/{one}/chat", said("Hello"))

            async def none_left() -> bool:
                return not await SummaryStore(database).due(now_us=2**62, limit=9)

            await eventually(none_left, "the end of both summaries")
            assert (await http.get(f"/sessions/{other}")).json()["summary"]
        finally:
            await worker.stop()
    async with database.read() as connection:
        rows = (await connection.execute(select(chat_turns.c.state, chat_turns.c.error))).all()
    assert sorted(row.state for row in rows) == ["done", "done", "failed", "failed"]
    codes = {json.loads(row.error)["code"] for row in rows if row.error}
    assert codes == {"chat.bug", "execution.not_found"}
