"""Sessions by the API, as our own clients, Julep's SDK and its client of 2024 ask for them; for one tenant."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import AsyncIterator
from typing import Any

import julep
import pytest
from julep import AsyncJulep
from pydantic import SecretStr

from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.lab import Lab

FERN = {"X-Fern-Language": "Python"}
STAMPS = ("created_at", "updated_at")


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@pytest.fixture
async def client(api: ApiServer) -> AsyncIterator[AsyncJulep]:
    options: dict[str, Any] = {"base_url": f"{api.url}/api", "max_retries": 0, "_strict_response_validation": True}
    async with AsyncJulep(api_key="any", **options) as made:
        yield made


async def named(api: ApiServer, path: str, *names: str) -> list[str]:
    """Make agents or users and return their ids."""
    return [(await api.http.post(path, json={"name": name})).json()["id"] for name in names]


async def made(api: ApiServer, **body: Any) -> dict[str, Any]:
    answer = await api.http.post("/sessions", json=body)
    assert answer.status_code == 201, answer.text
    view: dict[str, Any] = answer.json()
    return view


async def refused(api: ApiServer, **body: Any) -> tuple[int, str]:
    answer = await api.http.post("/sessions", json=body)
    return answer.status_code, answer.json()["code"]


async def test_the_six_kinds_name_who_takes_part_as_the_client_of_2024_reads_them(api: ApiServer) -> None:
    ada, bob = await named(api, "/agents", "Ada", "Bob")
    eve, ann = await named(api, "/users", "Eve", "Ann")
    kinds: dict[str, dict[str, Any]] = {
        "single_agent_no_user": {"agent": ada},
        "single_agent_single_user": {"agent": ada, "user": eve},
        "single_agent_multi_user": {"agent": ada, "users": [eve, ann]},
        "multi_agent_no_user": {"agents": [ada, bob]},
        "multi_agent_single_user": {"agents": [bob, ada], "user": eve},
        "multi_agent_multi_user": {"agents": [ada, bob], "users": [ann, eve]},
    }
    for kind, members in kinds.items():
        view = await made(api, **members)
        assert view["kind"] == kind
        assert {name: view[name] for name in ("agent", "agents", "user", "users") if name in view} == members
    assert (await made(api, agents=[ada], users=[eve]))["kind"] == "single_agent_single_user"


async def test_whoever_takes_part_must_be_there_and_be_named_in_one_way(api: ApiServer) -> None:
    body = {"name": "Ada", "canonical_name": "ada"}
    ada = (await api.http.post("/agents", json=body)).json()["id"]
    (eve,) = await named(api, "/users", "Eve")
    assert (await made(api, agent="ada"))["agent"] == ada
    assert await refused(api) == (400, "session.no_agent")
    assert await refused(api, agents=[]) == (400, "session.no_agent")
    assert await refused(api, agent=ada, agents=[ada]) == (400, "session.bad_members")
    assert await refused(api, agent=ada, user=eve, users=[eve]) == (400, "session.bad_members")
    assert await refused(api, agents=[ada, "ada"]) == (400, "session.bad_members")
    assert await refused(api, agent=str(uuid.uuid4())) == (404, "agent.not_found")
    assert await refused(api, agent=ada, user=str(uuid.uuid4())) == (404, "user.not_found")
    assert (await refused(api, agent=ada, sitation="x"))[0] == 422


async def test_the_sdk_makes_changes_lists_and_deletes_sessions(client: AsyncJulep, api: ApiServer) -> None:
    agent = (await client.agents.create(name="Ada")).id
    first = await client.sessions.create(agent=agent, situation="at the desk", metadata={"room": {"n": 7}, "vip": True})
    assert (first.situation, first.kind, first.recall_options) == ("at the desk", "single_agent_no_user", None)
    changed = await client.sessions.update(first.id, metadata={"vip": False}, token_budget=500, render_templates=True)
    assert changed.metadata == {"room": {"n": 7}, "vip": False}
    assert (changed.situation, changed.token_budget, changed.render_templates) == ("at the desk", 500, True)
    assert changed.updated_at > first.updated_at
    reset = await client.sessions.reset(first.id, context_overflow="truncate")
    assert (reset.situation, reset.token_budget, reset.metadata, reset.render_templates) == (None, None, {}, False)
    assert (reset.context_overflow, reset.created_at) == ("truncate", first.created_at)
    for number in range(3):
        await client.sessions.create(agent=agent, metadata={"room": {"n": number}})
    assert len([session async for session in client.sessions.list(limit=2)]) == 4
    (found,) = [session async for session in client.sessions.list(metadata_filter={"room": {"n": 1}})]
    latest = await client.sessions.list(limit=1, sort_by="updated_at", direction="desc")
    assert found.id != latest.items[0].id
    deleted = await client.sessions.delete(first.id)
    assert (deleted.id, deleted.jobs) == (first.id, [])
    for gone in (client.sessions.get, client.sessions.delete, client.sessions.history):
        with pytest.raises(julep.NotFoundError, match=f"there is no session '{first.id}'"):
            await gone(first.id)


async def test_a_session_is_made_or_replaced_under_an_id_and_what_was_said_in_it_stays(
    client: AsyncJulep, api: ApiServer
) -> None:
    ada, bob = await named(api, "/agents", "Ada", "Bob")
    mine = str(uuid.uuid4())
    new = await client.sessions.create_or_update(mine, agent=ada, situation="one")
    assert (new.id, new.situation) == (mine, "one")
    again = await client.sessions.create_or_update(mine, agents=[ada, bob])
    assert (again.kind, again.situation, again.created_at) == ("multi_agent_no_user", None, new.created_at)
    kept = await client.sessions.create_or_update(mine, situation="three")
    assert (kept.kind, kept.situation) == ("multi_agent_no_user", "three")
    with pytest.raises(julep.BadRequestError, match="is no id of a session"):
        await client.sessions.create_or_update("mine", agent=ada)


async def test_what_a_request_leaves_out_of_recall_options_is_as_julep_has_it(api: ApiServer) -> None:
    (ada,) = await named(api, "/agents", "Ada")
    text = (await made(api, agent=ada, recall_options={"mode": "text", "limit": 3}))["recall_options"]
    usual = {"num_search_messages": 4, "max_query_length": 1000, "lang": "en-US", "metadata_filter": {}}
    usual["include_embeddings"] = True
    assert text == {"mode": "text", "limit": 3, **usual}
    session = await made(api, agent=ada, recall_options={"mode": "hybrid", "alpha": 0})
    weights = {"alpha": 0, "confidence": 0.5, "mmr_strength": 0.5, "k_multiplier": 7}
    assert session["recall_options"] == {"mode": "hybrid", "limit": 10, **usual, **weights}
    path = f"/sessions/{session['id']}"
    changed = (await api.http.patch(path, json={"recall_options": {"limit": 5}})).json()
    assert changed["recall_options"] == session["recall_options"] | {"limit": 5}
    other = (await api.http.patch(path, json={"recall_options": {"mode": "vector"}})).json()
    assert (other["recall_options"]["limit"], "alpha" in other["recall_options"]) == (10, False)
    assert (await api.http.patch(path, json={"recall_options": None})).json()["recall_options"] is None
    mistakes: list[dict[str, Any]] = [
        {"mode": "magic"},
        {"mode": "text", "alpha": 0.5},
        {"limit": 51},
        {"limit": 2.5},
        {"mmr_strength": 1},
        {"confidence": True},
        {"metadata_filter": []},
        {"lang": ""},
    ]
    for wrong in mistakes:
        assert await refused(api, agent=ada, recall_options=wrong) == (400, "session.bad_recall"), wrong


async def test_the_client_of_2024_gets_what_it_asks_for(api: ApiServer) -> None:
    (ada,) = await named(api, "/agents", "Ada")
    body = {"agent": ada, "situation": "", "render_templates": False}
    new = (await api.http.post("/sessions", json=body, headers=FERN)).json()
    assert new["jobs"] == []
    bare = await made(api, agent=ada)
    listed = (await api.http.get("/sessions", headers=FERN)).json()["results"]
    assert [session["situation"] for session in listed] == ["", ""]
    assert bare["situation"] is None
    path = f"/sessions/{new['id']}"
    for method in ("PUT", "PATCH"):
        said = {"situation": "x", "render_templates": True}
        changed = (await api.http.request(method, path, json=said, headers=FERN)).json()
        assert (changed["id"], changed["jobs"], changed["situation"]) == (new["id"], [], "x")
        assert all(dt.datetime.fromisoformat(changed[name]).tzinfo for name in STAMPS)
    for gone in (f"{path}/history", path):
        deleted = await api.http.delete(gone, headers=FERN)
        assert (deleted.status_code, deleted.json()["jobs"]) == (202, [])
        assert dt.datetime.fromisoformat(deleted.json()["deleted_at"]).tzinfo


async def test_the_same_key_makes_one_session(api: ApiServer) -> None:
    (ada,) = await named(api, "/agents", "Ada")
    body, headers = {"agent": ada, "situation": "x"}, {"Idempotency-Key": "k"}
    first, second = [(await api.http.post("/sessions", json=body, headers=headers)).json()["id"] for _ in range(2)]
    assert first == second
    assert len((await api.http.get("/sessions")).json()["items"]) == 1


async def test_agents_and_users_of_another_tenant_take_part_in_nothing(lab: Lab, temporal_address: str) -> None:
    settings = settings_for(lab.folder, task_queue=lab.queue, api_key=SecretStr("sesame"))
    async with api_server(settings, temporal=temporal_address) as api:
        keys: dict[str, dict[str, str]] = {}
        for tenant in ("acme", "globex"):
            body = {"name": tenant, "tenant": tenant, "scopes": ["admin"]}
            key = (await api.http.post("/keys", json=body, headers={"x-auth-key": "sesame"})).json()["key"]
            keys[tenant] = {"authorization": f"Bearer {key}"}

        async def new(path: str, tenant: str, **body: Any) -> Any:
            return await api.http.post(path, json=body, headers=keys[tenant])

        agents = {tenant: (await new("/agents", tenant, name="Ada")).json()["id"] for tenant in keys}
        user = (await new("/users", "acme", name="Eve")).json()["id"]
        session = (await new("/sessions", "acme", agent=agents["acme"], user=user)).json()["id"]
        assert (await new("/sessions", "globex", agent=agents["acme"])).json()["code"] == "agent.not_found"
        with_user = await new("/sessions", "globex", agent=agents["globex"], user=user)
        assert with_user.json()["code"] == "user.not_found"
        # the same id is another session in another tenant
        theirs = await new(f"/sessions/{session}", "globex", agent=agents["globex"], situation="theirs")
        assert theirs.status_code == 201
        own = (await api.http.get(f"/sessions/{session}", headers=keys["acme"])).json()
        assert (own["agent"], own["situation"]) == (agents["acme"], None)
