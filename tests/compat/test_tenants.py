"""Two tenants on one API with a real worker: neither sees, names or changes anything of the other, on any route."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import select
from temporalio.client import Client
from temporalio.service import RPCError

from engine.control.adopting import adopt_from_temporal
from engine.edge.http.scopes import route_needs
from engine.edge.http.services import open_services
from engine.edge.server import create_app
from engine.store import schema
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_native_api import create, start, until
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S

CHILD = "name: double\nmain: {evaluate: $ _.n * 2}"
PARENT = """\
name: parent
metadata: {secret: acme-secret}
main:
  - task: double
    arguments: {n: $ _.n}
    label: doubled
  - wait_for_input: {info: {question: acme-secret}}
    label: sure
  - wait_for_event: paid
    label: paid
"""

UNUSED = "name: acme-unused\nmain: {evaluate: 1}"

BODIES: dict[tuple[str, str], Any] = {
    ("PUT", "/api/agents/{agent_id}"): {"name": "x"},
    ("PATCH", "/api/agents/{agent_id}"): {"name": "x"},
    ("POST", "/api/agents/{agent_id}/tools"): {"name": "x", "type": "bash_20241022"},
    ("PUT", "/api/agents/{agent_id}/tools/{tool_id}"): {"name": "x", "type": "bash_20241022"},
    ("PATCH", "/api/agents/{agent_id}/tools/{tool_id}"): {"name": "x"},
    ("PUT", "/api/users/{user_id}"): {"name": "x"},
    ("PATCH", "/api/users/{user_id}"): {"name": "x"},
    ("PUT", "/api/projects/{project_id}"): {"name": "x"},
    ("PATCH", "/api/projects/{project_id}"): {"name": "x"},
    ("PATCH", "/api/sessions/{session_id}"): {"situation": "x"},
    ("PUT", "/api/sessions/{session_id}"): {"situation": "x"},
    ("POST", "/api/sessions/{session_id}/chat"): {"messages": [{"role": "user", "content": "x"}]},
    ("POST", "/api/sessions/{session_id}/render"): {"messages": [{"role": "user", "content": "x"}]},
    ("POST", "/api/agents/{agent_id}/tasks"): {"name": "t", "main": [{"evaluate": {"x": 1}}]},
    ("POST", "/api/agents/{agent_id}/tasks/{task_id}"): {"name": "t", "main": [{"evaluate": {"x": 1}}]},
    ("PUT", "/api/agents/{agent_id}/tasks/{task_id}"): {"name": "t", "main": [{"evaluate": {"x": 1}}]},
    ("PATCH", "/api/agents/{agent_id}/tasks/{task_id}"): {"description": "d"},
    ("PUT", "/api/tasks/{task_id}"): {"name": "t", "main": [{"evaluate": {"x": 1}}]},
    ("PATCH", "/api/tasks/{task_id}"): {"description": "d"},
    ("POST", "/api/tasks/{task_id}/diff"): {"name": "t", "main": [{"evaluate": {"x": 1}}]},
    ("PUT", "/api/tasks/{task_id}/aliases/{alias}"): {"version": 1},
    ("POST", "/api/tasks/{task_id}/executions"): {"input": {"n": 1}},
    ("PUT", "/api/tasks/{task_id}/executions"): {"task_token": "WzFd.eA", "input": 1},
    ("PUT", "/api/tasks/{task_id}/executions/{execution_id}"): {"status": "cancelled"},
    ("PUT", "/api/executions/{execution_id}"): {"status": "cancelled"},
    ("POST", "/api/executions/{execution_id}/events"): {"name": "paid"},
    ("POST", "/api/executions/{execution_id}/messages"): {"value": "paid"},
    ("POST", "/api/executions/{execution_id}/breaks"): {"break_at": []},
    ("PATCH", "/api/executions/{execution_id}/waits/{wait_id}"): {"deadline": "1h"},
    ("POST", "/api/executions/{execution_id}/fork"): {"at": "main.1"},
    ("POST", "/api/executions/{execution_id}/waits/{wait_id}/link"): {"actor": "eve"},
    ("PATCH", "/api/schedules/{schedule_id}"): {"note": "x"},
    ("POST", "/api/schedules/{schedule_id}/backfill"): {
        "start_at": "2026-01-01T00:00:00Z",
        "end_at": "2026-01-02T00:00:00Z",
    },
    ("PATCH", "/api/webhooks/{webhook_id}"): {"note": "x"},
    ("PATCH", "/api/hooks/{hook_id}"): {"active": False},
}
"""Bodies that are right, so that nothing but the tenant is wrong with a request."""

BY_KEY = {("POST", "/api/hooks/{hook_id}")}
"""What asks for no tenant's credentials, but for a key of its own."""

BY_NAME = {
    ("PUT", "/api/secrets/{name}"),
    ("POST", "/api/agents/{agent_id}"),
    ("POST", "/api/users/{user_id}"),
    ("POST", "/api/projects/{project_id}"),
    ("POST", "/api/sessions/{session_id}"),
}
"""What makes a thing of that name or id for whoever calls; tests of each resource hold that it is another one."""

MORE = [
    ("PUT", "/api/executions/{execution_id}", {"status": "running", "input": 1}),
    ("PUT", "/api/executions/{execution_id}", {"status": "running", "input": 1, "wait_id": "main.1"}),
]

OF_OPERATORS = ("/api/backends", "/api/groups", "/api/pulls")
"""What belongs to the operator, and of which others read names only; tests of its own hold that (test_registry_api)."""

OF_THE_INSTALLATION = {
    "/api/openapi.json",
    "/api/healthz",
    "/api/readyz",
    "/healthz",
    "/readyz",
    "/api/metrics",
    "/metrics",
    "/api/pulls",
    # whoever has a link may open it
    "/api/link",
}
"""What belongs to no tenant."""


@dataclass
class Acme:
    """What the first tenant has.

    Attributes:
        headers: Its credentials.
        ids: A value for every path parameter.
        executions: Ids of its executions, the child's included.
    """

    headers: dict[str, str]
    ids: dict[str, str] = field(default_factory=dict)
    executions: list[str] = field(default_factory=list)

    def secrets(self) -> set[str]:
        """Return what must stand in no answer to others."""
        named = {self.ids[name] for name in ("task_id", "agent_id", "execution_id", "transition_id", "key_id")}
        return {*named, *self.executions, "acme-secret", "acme-unused", "acme-bot"}


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    settings = settings_for(lab.folder, task_queue=lab.queue, api_key=SecretStr("sesame"))
    async with api_server(settings, temporal=temporal_address) as server:
        yield server


async def key_for(api: ApiServer, tenant: str, name: str = "") -> dict[str, str]:
    body = {"name": name or f"{tenant}-bot", "tenant": tenant, "scopes": ["admin"]}
    made = await api.http.post("/keys", json=body, headers={"x-auth-key": "sesame"})
    assert made.status_code == 201, made.text
    return {"authorization": f"Bearer {made.json()['key']}"}


async def fill(api: ApiServer, lab: Lab) -> Acme:
    """Let the first tenant have one of everything."""
    acme = Acme(await key_for(api, "acme"))
    async with httpx.AsyncClient(base_url=f"{api.url}/api", headers=acme.headers, trust_env=False) as http:
        agent = (await http.post("/agents", json={"name": "acme-secret"})).json()
        function = {"name": "acme_tool", "type": "function", "function": {}, "description": "acme-secret"}
        tool = (await http.post(f"/agents/{agent['id']}/tools", json=function)).json()
        user = (await http.post("/users", json={"name": "acme-secret"})).json()
        project = (await http.post("/projects", json={"name": "acme-secret"})).json()
        await create(http, CHILD)
        await create(http, UNUSED)
        talk = {"agent": agent["id"], "situation": "acme-secret"}
        session = (await http.post("/sessions", json=talk)).json()
        task_id = await create(http, PARENT)
        assert (await http.put(f"/tasks/{task_id}/aliases/prod", json={"version": 1})).status_code == 200
        yearly = {"name": "acme-secret", "task": task_id, "cron": ["@yearly"], "input": {"n": 1}}
        schedule = (await http.post("/schedules", json=yearly)).json()
        told = {"url": "https://acme-secret.example/", "statuses": ["awaiting_input"], "root_only": True}
        webhook = (await http.post("/webhooks", json=told)).json()
        hook = (await http.post("/hooks", json={"name": "acme-secret", "event": "acme-secret"})).json()
        event = (await http.post("/events", json={"name": "acme-secret", "id": "acme-secret-1"})).json()
        doc = (await http.post("/docs", json={"content": "acme-secret", "metadata": {"of": "acme-secret"}})).json()
        file = (await http.post("/files", json={"name": "acme-secret", "content": "YWNtZS1zZWNyZXQ="})).json()
        assert (await http.put("/secrets/acme_secret", json={"value": "acme-secret"})).status_code == 200
        job = (await http.post("/bulk", json={"action": "cancel", "filter": {"label": ["nobody"]}})).json()
        started = await start(http, task_id, input={"n": 4}, labels=["acme-secret"], metadata={"of": "acme-secret"})
        async with lab.worker():
            await until(http, started["id"], "awaiting_input")
        listed = (await http.get("/executions")).json()["items"]
        transitions = (await http.get(f"/executions/{started['id']}/transitions")).json()["items"]
        deliveries = (await http.get(f"/webhooks/{webhook['id']}/deliveries")).json()["items"]
        keys = (await http.get("/keys")).json()["items"]
    acme.executions = [item["id"] for item in listed]
    assert len(acme.executions) == 2
    acme.ids = {
        "task_id": task_id,
        "agent_id": agent["id"],
        "tool_id": tool["id"],
        "user_id": user["id"],
        "project_id": project["id"],
        "session_id": session["id"],
        "execution_id": started["id"],
        "transition_id": transitions[0]["id"],
        "version": "1",
        "alias": "prod",
        "path": "main.0",
        "wait_id": "main.1",
        "key_id": keys[0]["id"],
        "schedule_id": schedule["id"],
        "webhook_id": webhook["id"],
        "delivery_id": deliveries[0]["id"],
        "hook_id": hook["id"],
        "event_id": event["id"],
        "job_id": job["id"],
        "doc_id": doc["id"],
        "file_id": file["id"],
        "name": "acme_secret",
    }
    return acme


async def rows_of(lab: Lab, tenant: str) -> dict[str, list[dict[str, Any]]]:
    """Return everything that the store holds of a tenant, but for the times at which its keys were used."""
    found: dict[str, list[dict[str, Any]]] = {}
    tables = [*schema.truth.sorted_tables, *schema.projection.sorted_tables]
    async with lab.store.database.read() as connection:
        for table in tables:
            if "tenant" in table.c:
                columns = [column for column in table.c if column.name != "last_used_us"]
                rows = await connection.execute(select(*columns).where(table.c.tenant == tenant))
                found[table.name] = sorted((dict(row._mapping) for row in rows), key=str)
    return found


async def all_routes(lab: Lab) -> list[tuple[str, str]]:
    async with open_services(settings_for(lab.folder), contracts={}) as services:
        needs = route_needs(create_app(services))
    return sorted((method, need.path) for need in needs for method in need.methods - {"HEAD"})


def requests_of(routes: list[tuple[str, str]]) -> Iterator[tuple[str, str, Any]]:
    for method, path in routes:
        yield method, path, BODIES.get((method, path))
    yield from MORE


def filled(path: str, ids: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1].partition(":")[0]
        if name not in ids:
            pytest.fail(f"{path} is new: give `{name}` in fill(), and a body in BODIES if it takes one")
        return ids[name]

    return re.sub(r"\{([^}]+)\}", value, path)


@pytest.mark.usefixtures("both_stores")
async def test_no_route_shows_or_changes_anything_of_another_tenant(lab: Lab, api: ApiServer) -> None:
    acme = await fill(api, lab)
    globex = await key_for(api, "globex")
    nobody = {name: str(uuid.uuid4()) if name.endswith("_id") else value for name, value in acme.ids.items()}
    before = await rows_of(lab, "acme")
    seen = 0
    async with httpx.AsyncClient(base_url=api.url, headers=globex, trust_env=False, timeout=PATIENCE_S) as http:
        for method, path, body in requests_of(await all_routes(lab)):
            if "{" not in path or (method, path) in BY_KEY | BY_NAME or path.startswith(OF_OPERATORS):
                continue
            options = {} if body is None else {"json": body}
            theirs = await http.request(method, filled(path, acme.ids), **options)
            assert theirs.status_code == 404, f"{method} {path}: {theirs.status_code} {theirs.text[:300]}"
            # nor can it be told from what does not exist at all
            nothing = await http.request(method, filled(path, nobody), **options)
            assert nothing.status_code == 404
            assert _without(theirs.json(), acme.ids) == _without(nothing.json(), nobody), f"{method} {path}"
            seen += 1
        by_name = [
            await http.get("/api/tasks/parent"),
            await http.get("/api/tasks/parent@prod"),
            await http.post("/api/tasks/parent/executions", json={"input": {"n": 1}}),
            await http.delete("/api/tasks/acme-unused"),
        ]
        assert [answer.status_code for answer in by_name] == [404] * 4
    assert seen > 25
    assert await rows_of(lab, "acme") == before


def _without(body: dict[str, Any], ids: dict[str, str]) -> str:
    text = json.dumps(body)
    for name, value in ids.items():
        if name.endswith("_id"):
            text = text.replace(value, f"<{name}>")
    return text


@pytest.mark.usefixtures("both_stores")
async def test_no_list_names_anything_of_another_tenant(lab: Lab, api: ApiServer) -> None:
    acme = await fill(api, lab)
    globex = await key_for(api, "globex")
    asked = {
        "task_id": acme.ids["task_id"],
        "agent_id": acme.ids["agent_id"],
        "parent_id": acme.ids["execution_id"],
        "label": "acme-secret",
        "metadata_filter": '{"of": "acme-secret"}',
        "name": "parent",
        "id_prefix": acme.ids["execution_id"][:8],
        "actor": "acme-bot",
    }
    document = (await api.http.get("/openapi.json", headers=globex)).json()
    seen: list[str] = []
    async with httpx.AsyncClient(base_url=api.url, headers=globex, trust_env=False, timeout=PATIENCE_S) as http:
        for path, item in sorted(document["paths"].items()):
            if "get" not in item or "{" in path or path in OF_THE_INSTALLATION:
                continue
            known = {parameter["name"] for parameter in item["get"].get("parameters", [])}
            for query in ({}, *({name: value} for name, value in asked.items() if name in known)):
                answer = await http.get(path, params=query)
                if answer.status_code == 422 and not query:
                    continue  # it needs a query, and none of another tenant's would be right
                assert answer.status_code in (200, 404), f"{path} {query}: {answer.text[:300]}"
                told = [secret for secret in acme.secrets() if secret in answer.text]
                assert told == [], f"{path} {query} tells of another tenant: {answer.text[:300]}"
            seen.append(path)
        assert {"/api/tasks", "/api/agents", "/api/executions", "/api/keys", "/api/aliases"} <= set(seen)
        for path in ("/api/tasks", "/api/agents", "/api/executions", "/api/aliases"):
            assert (await http.get(path)).json()["items"] == []
        assert [key["name"] for key in (await http.get("/api/keys")).json()["items"]] == ["globex-bot"]
    # what the first tenant sees has it all
    own = await api.http.get("/executions", params={"label": "acme-secret"}, headers=acme.headers)
    assert [item["id"] for item in own.json()["items"]] == [acme.ids["execution_id"]]


async def test_numbers_of_the_whole_installation_are_for_its_operators(api: ApiServer) -> None:
    for path in ("/metrics", f"{api.url}/metrics"):
        answer = await api.http.get(path, headers=await key_for(api, "globex"))
        assert (answer.status_code, answer.json()["code"]) == (403, "auth.tenant")
        for headers in ({"x-auth-key": "sesame"}, await key_for(api, "default")):
            assert (await api.http.get(path, headers=headers)).status_code == 200


async def test_the_processes_of_the_installation_are_shown_to_its_operators_alone(api: ApiServer) -> None:
    acme = await key_for(api, "acme")
    assert (await api.http.get("/overview", headers=acme)).json()["processes"] is None
    shown = (await api.http.get("/overview", headers={"x-auth-key": "sesame"})).json()["processes"]
    assert [process["kind"] for process in shown] == ["api"]


async def test_an_id_that_another_tenant_uses_is_taken_and_no_word_more(lab: Lab, api: ApiServer) -> None:
    acme = await fill(api, lab)
    globex = await key_for(api, "globex")
    async with httpx.AsyncClient(base_url=f"{api.url}/api", headers=globex, trust_env=False) as http:
        task_id = await create(http, CHILD)
        path, taken = f"/tasks/{task_id}/executions", acme.ids["execution_id"]
        for headers in ({}, {"idempotency-key": "k"}):
            answer = await http.post(path, json={"id": taken, "input": {"n": 1}}, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (409, "execution.exists")
            assert [secret for secret in acme.secrets() - {taken} if secret in answer.text] == []
        assert (await http.get(f"/executions/{taken}")).status_code == 404
        assert (await http.get("/executions")).json()["items"] == []


async def test_an_id_that_temporal_has_forgotten_is_taken_for_ever(lab: Lab, api: ApiServer) -> None:
    forgotten, client = str(uuid.uuid4()), lab.client
    await lab.store.ensure_execution(
        forgotten,
        tenant="acme",
        task_id="t",
        task_name="secret",
        input="acme-secret",
        created_us=1_800_000_000_000_000,
    )
    for tenant in ("globex", "acme"):
        headers = await key_for(api, tenant)
        async with httpx.AsyncClient(base_url=f"{api.url}/api", headers=headers, trust_env=False) as http:
            task_id = await create(http, CHILD)
            answer = await http.post(f"/tasks/{task_id}/executions", json={"id": forgotten, "input": {"n": 1}})
            assert (answer.status_code, answer.json()["code"]) == (409, "execution.exists")
            assert "acme-secret" not in answer.text
        with pytest.raises(RPCError, match="not found"):
            await client.get_workflow_handle(forgotten).describe()


async def test_the_same_key_starts_one_execution_in_each_tenant(lab: Lab, api: ApiServer) -> None:
    found: dict[str, str] = {}
    for tenant in ("acme", "globex"):
        headers = await key_for(api, tenant)
        async with httpx.AsyncClient(base_url=f"{api.url}/api", headers=headers, trust_env=False) as http:
            task_id = await create(http, CHILD)
            path = f"/tasks/{task_id}/executions"
            answer = await http.post(path, json={"input": {"n": 1}}, headers={"idempotency-key": "k"})
            found[tenant] = answer.json()["id"]
    assert found["acme"] != found["globex"]


async def test_a_child_and_a_row_that_was_lost_belong_to_the_tenant_of_the_task(
    lab: Lab, api: ApiServer, temporal_address: str
) -> None:
    acme = await fill(api, lab)
    globex = await key_for(api, "globex")
    executions = schema.executions
    query = select(executions.c.id, executions.c.tenant)
    async with lab.store.database.read() as connection:
        owners = {row.id: row.tenant for row in await connection.execute(query)}
    assert owners == dict.fromkeys(acme.executions, "acme")
    # the index of executions in Temporal names the tenant as well
    client: Client = lab.client
    described = await client.get_workflow_handle(acme.ids["execution_id"]).describe()
    attributes = {pair.key.name: pair.value for pair in described.typed_search_attributes}
    assert attributes["EverstepTenant"] == "acme"
    async with lab.store.database.write() as connection:
        await connection.execute(executions.delete())
    for execution_id in acme.executions:
        assert await adopt_from_temporal(client, lab.store, execution_id) == "acme"
        path = f"/executions/{execution_id}"
        assert (await api.http.get(path, headers=acme.headers)).status_code == 200
        assert (await api.http.get(path, headers=globex)).status_code == 404


async def test_who_did_something_is_recorded(lab: Lab, api: ApiServer) -> None:
    acme = Acme(await key_for(api, "acme"))
    async with httpx.AsyncClient(base_url=f"{api.url}/api", headers=acme.headers, trust_env=False) as http:
        await create(http, CHILD)
        task_id = await create(http, PARENT)
        started = await start(http, task_id, input={"n": 4}, actor="Ada")
        async with lab.worker():
            await until(http, started["id"], "awaiting_input")
            path = f"/executions/{started['id']}"
            answered = await http.put(path, json={"status": "running", "input": 1, "actor": "Bob"})
            assert answered.status_code == 200, answered.text
            assert (await http.put(path, json={"status": "cancelled"})).status_code == 200
            ended = await until(http, started["id"], "cancelled")
        events = (await http.get(f"{path}/events")).json()["items"]
        bodies = {event["type"]: event["body"] for event in events}
    assert ended["actor"] == "Ada via acme-bot"
    assert bodies["answer.accepted"]["actor"] == "Bob via acme-bot"
    assert ended["error"]["details"]["actor"] == "acme-bot"
    async with lab.store.database.read() as connection:
        rows = (await connection.execute(select(schema.tasks.c.name, schema.tasks.c.actor))).all()
    assert {row.name: row.actor for row in rows} == {"double": "acme-bot", "parent": "acme-bot"}
