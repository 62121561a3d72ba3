"""Agents, their tools, users and projects by the API, as both of Julep's clients call it."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from tests.compat.apiserver import api_server, settings_for

ROOT = {"x-auth-key": "sesame"}
FERN = {"X-Fern-Language": "Python"}
WHOLE: dict[str, dict[str, Any]] = {
    "agents": {
        "name": "Ada",
        "about": "A librarian.",
        "model": "m1",
        "instructions": ["Be kind.", "Be brief."],
        "canonical_name": "ada",
        "default_settings": {"temperature": 0.5},
        "default_system_template": "You are {{ agent.name }}.",
        "metadata": {"team": {"name": "desk"}},
    },
    "users": {"name": "Bo", "about": "Reads a lot.", "metadata": {"team": {"name": "desk"}}},
    "projects": {"name": "Desk", "canonical_name": "desk", "metadata": {"team": {"name": "desk"}}},
}
KINDS = sorted(WHOLE)
LEGACY = {
    "agents": ("id", "created_at", "updated_at", "name", "about", "model", "instructions"),
    "users": ("id", "created_at", "updated_at", "name", "about"),
}
"""What the client of 2024 cannot do without."""
WEATHER: dict[str, Any] = {
    "name": "weather",
    "type": "function",
    "description": "Tells the weather.",
    "function": {"parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
DEFINITIONS: dict[str, dict[str, Any]] = {
    "function": {"parameters": {"type": "object"}},
    "integration": {"provider": "wikipedia", "arguments": {"query": "cats"}},
    "system": {"resource": "user", "operation": "list", "arguments": {"limit": 3}},
    "api_call": {"method": "GET", "url": "https://crm.example", "headers": {"X-Key": "{{ secrets.crm }}"}},
    "computer_20241022": {"display_width_px": 800, "display_height_px": 600},
    "text_editor_20241022": {},
    "bash_20241022": {"name": "bash"},
}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The API without Temporal, for the caller with the root key."""
    settings = settings_for(tmp_path, api_key=SecretStr("sesame"))
    async with api_server(settings, temporal="127.0.0.1:1") as server:
        server.http.headers.update(ROOT)
        yield server.http


async def made(http: httpx.AsyncClient, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = await http.post(path, json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def shown(http: httpx.AsyncClient, path: str, **params: Any) -> dict[str, Any]:
    answer = await http.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json()["error"]["message"]


def told(view: dict[str, Any], *without: str) -> dict[str, Any]:
    return {name: value for name, value in view.items() if name not in ("jobs", "updated_at", *without)}


# --- what all of them have -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_each_verb_changes_what_a_second_read_shows(http: httpx.AsyncClient, kind: str) -> None:
    first = await made(http, f"/{kind}", WHOLE[kind])
    assert {name: first[name] for name in WHOLE[kind]} == WHOLE[kind]
    path = f"/{kind}/{first['id']}"
    assert await shown(http, path) == told(first) | {"updated_at": first["updated_at"]}

    patch = {"name": "New", "metadata": {"seen": True}}
    answer = await http.patch(path, json=patch)
    assert answer.status_code == 200
    patched = await shown(http, path)
    assert told(answer.json()) == told(patched)
    assert patched["metadata"] == {"team": {"name": "desk"}, "seen": True}
    assert told(patched, "name", "metadata") == told(first, "name", "metadata")
    assert datetime.fromisoformat(patched["updated_at"]) > datetime.fromisoformat(first["updated_at"])

    answer = await http.put(path, json={"name": "Other"})
    assert answer.status_code == 200
    replaced = await shown(http, path)
    assert (replaced["name"], replaced["metadata"], replaced["created_at"]) == ("Other", {}, first["created_at"])
    assert [replaced.get(name, "") for name in ("about", "model", "instructions")] == ["", "", ""]

    again = await made(http, path, WHOLE[kind])
    assert told(again) == told(first)
    chosen = str(uuid.uuid4())
    assert (await made(http, f"/{kind}/{chosen}", {"name": "Chosen"}))["id"] == chosen
    assert (await shown(http, f"/{kind}/{chosen}"))["name"] == "Chosen"

    answer = await http.delete(path)
    gone = answer.json()
    assert (answer.status_code, gone["id"], gone["jobs"]) == (202, first["id"], [])
    assert datetime.fromisoformat(gone["deleted_at"]) >= datetime.fromisoformat(first["created_at"])
    assert [item["id"] for item in (await shown(http, f"/{kind}"))["items"]] == [chosen]
    await refused(await http.get(path), 404, f"{kind[:-1]}.not_found")


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_not_there_or_another_tenants_is_404_in_the_same_words(
    http: httpx.AsyncClient, kind: str
) -> None:
    mine, name = await made(http, f"/{kind}", WHOLE[kind]), WHOLE[kind].get("canonical_name")
    key = {"name": "bot", "scopes": ["admin"], "tenant": "globex"}
    theirs = {"authorization": f"Bearer {(await made(http, '/keys', key))['key']}", "x-auth-key": ""}
    missing = str(uuid.uuid4())
    for method, body in (("GET", None), ("PUT", {"name": "x"}), ("PATCH", {"name": "x"}), ("DELETE", None)):
        texts = set()
        for reference in (mine["id"], missing, *([name] if name else [])):
            answer = await http.request(method, f"/{kind}/{reference}", json=body, headers=theirs)
            await refused(answer, 404, f"{kind[:-1]}.not_found")
            texts.add(answer.text.replace(reference, "?"))
        assert len(texts) == 1
        await refused(await http.request(method, f"/{kind}/{missing}", json=body), 404, f"{kind[:-1]}.not_found")
    assert (await http.get(f"/{kind}", headers=theirs)).json()["items"] == []
    # the same id of another tenant is another thing
    other = await http.post(f"/{kind}/{mine['id']}", json={"name": "theirs"}, headers=theirs)
    assert (other.status_code, other.json()["name"]) == (201, "theirs")
    assert (await shown(http, f"/{kind}/{mine['id']}"))["name"] == mine["name"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_list_is_paged_to_its_end_sorted_and_filtered(http: httpx.AsyncClient, kind: str) -> None:
    noted = [{"n": n, "a": {"odd": n % 2 == 1, "text": str(n)}} for n in range(5)]
    ids = [(await made(http, f"/{kind}", {"name": "one", "metadata": metadata}))["id"] for metadata in noted]
    await http.patch(f"/{kind}/{ids[0]}", json={"name": "changed"})
    found: list[str] = []
    while items := (await shown(http, f"/{kind}", limit=2, offset=len(found)))["items"]:
        found += [item["id"] for item in items]
    assert found == ids

    async def listed(**params: Any) -> list[str]:
        return [item["id"] for item in (await shown(http, f"/{kind}", **params))["items"]]

    assert await listed(direction="desc") == ids[::-1]
    assert (await listed(sort_by="updated_at"))[-1] == ids[0]
    assert await listed(**{"metadata_filter.a.odd": "true"}) == [ids[1], ids[3]]
    assert await listed(metadata_filter=json.dumps({"a": {"odd": True}, "n": 3})) == [ids[3]]
    assert await listed(**{"metadata_filter.a.odd": "true", "limit": 1, "offset": 1}) == [ids[3]]
    assert await listed(**{"metadata_filter.a": "true"}) == []
    # a query does not tell a number from a text of digits; an object does
    assert await listed(**{"metadata_filter.n": 3}) == await listed(**{"metadata_filter.a.text": 3}) == [ids[3]]
    assert await listed(metadata_filter=json.dumps({"a": {"text": 3}})) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_creation_with_a_key_happens_once(http: httpx.AsyncClient, kind: str) -> None:
    first = await made(http, f"/{kind}", {"name": "x"}, **{"Idempotency-Key": "k"})
    assert await made(http, f"/{kind}", {"name": "x"}, **{"Idempotency-Key": "k"}) == first
    assert (await http.post(f"/{kind}", json={"name": "y"}, headers={"Idempotency-Key": "k"})).status_code in (409, 422)
    assert len((await shown(http, f"/{kind}"))["items"]) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_bodies_that_say_nothing_sensible_are_refused(http: httpx.AsyncClient, kind: str) -> None:
    for body in ({"name": "x" * 256}, {"name": "x", "nmae": "y"}, {"name": "x", "metadata": []}):
        assert (await http.post(f"/{kind}", json=body)).status_code == 422
    if kind != "users":
        for body in ({}, {"name": ""}, {"name": "x", "canonical_name": "2nd"}, {"name": "x", "canonical_name": "a-b"}):
            assert (await http.post(f"/{kind}", json=body)).status_code == 422
    await refused(await http.post(f"/{kind}/no-uuid", json={"name": "x"}), 400, "request.bad_id")
    assert (await shown(http, f"/{kind}"))["items"] == []


@pytest.mark.parametrize("kind", sorted(LEGACY))
async def test_the_client_of_2024_finds_what_it_needs(http: httpx.AsyncClient, kind: str) -> None:
    bare = (
        {"name": "x", "about": "", "model": "", "instructions": ""} if kind == "agents" else {"name": "x", "about": ""}
    )
    created = await made(http, f"/{kind}", bare, **FERN)
    assert created["jobs"] == []
    updated = (await http.put(f"/{kind}/{created['id']}", json=bare, headers=FERN)).json()
    assert updated["jobs"] == []
    queries: dict[str, str | int] = {
        "limit": 10,
        "offset": 0,
        "sort_by": "created_at",
        "direction": "asc",
        "metadata_filter": "{}",
    }
    page = (await http.get(f"/{kind}", params=queries, headers=FERN)).json()
    assert [item["id"] for item in page["results"]] == [created["id"]]
    for view in (created, updated, *page["results"]):
        assert [name for name in LEGACY[kind] if view.get(name) is None] == []


# --- agents ----------------------------------------------------------------------------------------------------------


async def test_an_agents_canonical_name_stands_wherever_its_id_does(http: httpx.AsyncClient) -> None:
    ada = await made(http, "/agents", WHOLE["agents"])
    tool = await made(http, "/agents/ada/tools", WEATHER)
    for path in ("/agents/ada", f"/agents/{ada['id']}"):
        assert (await shown(http, path))["id"] == ada["id"]
        assert [item["id"] for item in (await shown(http, f"{path}/tools"))["items"]] == [tool["id"]]
        assert (await shown(http, f"{path}/tools/{tool['id']}"))["agent_id"] == ada["id"]
    assert (await http.patch("/agents/ada", json={"canonical_name": "lovelace"})).status_code == 200
    assert (await shown(http, "/agents/lovelace"))["id"] == ada["id"]
    await refused(await http.get("/agents/ada"), 404, "agent.not_found")
    assert (await made(http, "/agents/lovelace", {"name": "Eve"}))["id"] == ada["id"]
    await refused(await http.get("/agents/lovelace"), 404, "agent.not_found")
    await made(http, "/agents", {"name": "A", "canonical_name": "taken"})
    answer = await http.post("/agents", json={"name": "B", "canonical_name": "taken"})
    await refused(answer, 409, "agent.exists")
    assert answer.headers["x-should-retry"] == "false"


async def test_null_and_missing_members_of_an_agent_are_answered_as_empty_ones(http: httpx.AsyncClient) -> None:
    nothing = {"about": None, "model": None, "instructions": None, "default_settings": None, "metadata": None}
    for body in ({"name": "x"}, {"name": "x", **nothing}):
        agent = await made(http, "/agents", body)
        assert [agent[name] for name in nothing] == ["", "", "", {}, {}]
    ada = await made(http, "/agents", WHOLE["agents"])
    changes = {"default_settings": {"top_p": 1}, "default_system_template": None, "about": None}
    patched = (await http.patch("/agents/ada", json=changes)).json()
    assert patched["default_settings"] == {"temperature": 0.5, "top_p": 1}
    assert (patched["about"], patched["default_system_template"], patched["model"]) == ("", None, ada["model"])


async def test_an_agent_is_deleted_with_its_tasks_and_tools(http: httpx.AsyncClient) -> None:
    await made(http, "/agents", WHOLE["agents"])
    await made(http, "/agents/ada/tools", WEATHER)
    task = await made(http, "/agents/ada/tasks", {"name": "t", "main": [{"evaluate": {"x": 1}}]})
    other = await made(http, "/tasks", {"name": "u", "main": [{"evaluate": {"x": 1}}]})
    assert (await http.delete("/agents/ada")).status_code == 202
    await refused(await http.get(f"/tasks/{task['id']}"), 404, "task.not_found")
    assert [item["id"] for item in (await shown(http, "/tasks"))["items"]] == [other["id"]]
    for path in ("/agents/ada/tools", "/agents/ada/tasks"):
        await refused(await http.get(path), 404, "agent.not_found")


async def test_the_models_that_agents_may_ask_are_listed(http: httpx.AsyncClient, tmp_path: Path) -> None:
    assert await shown(http, "/agents/models") == {"models": []}
    (tmp_path / "everstep.toml").write_text(
        '[backends.b]\nbase_url = "http://127.0.0.1:1/v1"\nmodels = ["m2", "m1"]\n'
        '[backends.c]\nbase_url = "http://127.0.0.1:1/v1"\nmodels = ["m1"]\n'
    )
    assert await shown(http, "/agents/models") == {"models": [{"id": "m1"}, {"id": "m2"}]}


# --- projects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["agents", "users"])
async def test_a_project_is_named_by_what_belongs_to_it(http: httpx.AsyncClient, kind: str) -> None:
    project = await made(http, "/projects", WHOLE["projects"])
    await made(http, f"/{kind}", {"name": "x", "project": project["id"]})
    member = await made(http, f"/{kind}", {"name": "y", "project": "desk"})
    assert [item["project"] for item in (await shown(http, f"/{kind}"))["items"]] == ["desk", "desk"]
    await refused(await http.post(f"/{kind}", json={"name": "x", "project": "no"}), 404, "project.not_found")
    path = f"/{kind}/{member['id']}"
    await refused(await http.patch(path, json={"project": "no"}), 404, "project.not_found")
    assert (await shown(http, path))["project"] == "desk"
    await http.patch("/projects/desk", json={"canonical_name": "counter"})
    assert (await shown(http, path))["project"] == "counter"
    await http.patch(path, json={"project": None})
    assert (await shown(http, path))["project"] is None
    await http.delete("/projects/counter")
    assert [item["project"] for item in (await shown(http, f"/{kind}"))["items"]] == [None, None]


# --- who may what ----------------------------------------------------------------------------------------------------


async def test_agents_and_projects_are_for_those_who_define_and_users_for_those_who_run(
    http: httpx.AsyncClient,
) -> None:
    keys = {}
    for scope in ("read", "run", "define"):
        made_key = await made(http, "/keys", {"name": scope, "scopes": [scope]})
        keys[scope] = {"authorization": f"Bearer {made_key['key']}", "x-auth-key": ""}
    for kind, scopes in {"agents": ["define"], "projects": ["define"], "users": ["run", "define"]}.items():
        for scope, headers in keys.items():
            answer = await http.post(f"/{kind}", json={"name": scope}, headers=headers)
            assert answer.status_code == (201 if scope in scopes else 403), answer.text
            assert (await http.get(f"/{kind}", headers=headers)).status_code == 200


# --- tools -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def ada(http: httpx.AsyncClient) -> str:
    return str((await made(http, "/agents", WHOLE["agents"]))["id"])


@pytest.mark.parametrize("kind", sorted(DEFINITIONS))
async def test_a_tool_of_each_type_comes_back_as_it_was_written(http: httpx.AsyncClient, ada: str, kind: str) -> None:
    body = {"name": "it", "type": kind, "description": "Does it.", kind: DEFINITIONS[kind]}
    tool = await made(http, f"/agents/{ada}/tools", body)
    assert {name: tool[name] for name in body} == body
    assert [name for name in DEFINITIONS if tool[name] is not None] == [kind]
    assert await shown(http, f"/agents/{ada}/tools/{tool['id']}") == {
        name: value for name, value in tool.items() if name != "jobs"
    }


async def test_each_verb_on_a_tool_changes_what_a_second_read_shows(http: httpx.AsyncClient, ada: str) -> None:
    tool = await made(http, f"/agents/{ada}/tools", WEATHER)
    path = f"/agents/{ada}/tools/{tool['id']}"
    assert (await http.patch(path, json={"description": "Tells it."})).status_code == 200
    patched = await shown(http, path)
    assert (patched["description"], patched["function"]) == ("Tells it.", WEATHER["function"])
    call = {"name": "call", "type": "api_call", "api_call": DEFINITIONS["api_call"]}
    assert (await http.put(path, json=call)).status_code == 200
    replaced = await shown(http, path)
    assert (replaced["name"], replaced["type"], replaced["function"]) == ("call", "api_call", None)
    assert (replaced["description"], replaced["created_at"]) == ("", tool["created_at"])
    await http.patch(path, json={"api_call": {"timeout": 5}})
    assert (await shown(http, path))["api_call"] == {**DEFINITIONS["api_call"], "timeout": 5}
    answer = await http.delete(path)
    assert (answer.status_code, answer.json()["id"], answer.json()["jobs"]) == (200, tool["id"], [])
    await refused(await http.get(path), 404, "agent_tool.not_found")
    assert (await shown(http, f"/agents/{ada}/tools"))["items"] == []


async def test_tools_are_paged_to_their_end_for_both_clients(http: httpx.AsyncClient, ada: str) -> None:
    ids = [(await made(http, f"/agents/{ada}/tools", {**WEATHER, "name": f"t{n}"}))["id"] for n in range(3)]
    found: list[str] = []
    while items := (await shown(http, f"/agents/{ada}/tools", limit=2, offset=len(found)))["items"]:
        found += [item["id"] for item in items]
    assert found == ids
    queries: dict[str, str | int] = {
        "limit": 10,
        "offset": 0,
        "sort_by": "updated_at",
        "direction": "desc",
        "metadata_filter": "{}",
    }
    page = (await http.get(f"/agents/{ada}/tools", params=queries, headers=FERN)).json()
    assert [item["id"] for item in page["results"]] == ids[::-1]
    assert [item["background"] for item in page["results"]] == [False] * 3


async def test_a_tool_that_could_never_be_called_is_refused(http: httpx.AsyncClient, ada: str) -> None:
    path = f"/agents/{ada}/tools"
    both = {**WEATHER, "system": DEFINITIONS["system"]}
    for body in (both, {**WEATHER, "function": None}, {"name": "x", "type": "api_call", "api_call": {"url": "u"}}):
        await refused(await http.post(path, json=body), 400, "agent_tool.bad_definition")
    await refused(await http.post(path, json={**WEATHER, "name": "two words"}), 400, "agent_tool.bad_name")
    assert (await http.post(path, json={**WEATHER, "type": "mcp"})).status_code == 422
    # what the client of 2024 sends by a mistake in its description
    agent = {"name": "x", "about": "", "model": "m", "instructions": ""}
    await refused(await http.post(path, json=agent, headers=FERN), 400, "agent_tool.agent_body")
    await made(http, path, WEATHER)
    await refused(await http.post(path, json=WEATHER), 409, "agent_tool.exists")
    assert len((await shown(http, path))["items"]) == 1


async def test_a_tool_is_found_under_its_own_agent_only(http: httpx.AsyncClient, ada: str) -> None:
    tool = await made(http, f"/agents/{ada}/tools", WEATHER)
    other = (await made(http, "/agents", {"name": "Bo"}))["id"]
    for method, body in (("GET", None), ("PUT", WEATHER), ("PATCH", {"name": "x"}), ("DELETE", None)):
        answer = await http.request(method, f"/agents/{other}/tools/{tool['id']}", json=body)
        await refused(answer, 404, "agent_tool.not_found")
        answer = await http.request(method, f"/agents/nobody/tools/{tool['id']}", json=body)
        await refused(answer, 404, "agent.not_found")
    # the same name is free for another agent
    await made(http, f"/agents/{other}/tools", WEATHER)
