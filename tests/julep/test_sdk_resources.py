"""Agents, their tools, users, projects, files and secrets by Julep's SDK: what is written is read back changed."""

from __future__ import annotations

import base64
import hashlib
import uuid
from typing import Any

import httpx
import pytest
from julep import NotFoundError

from tests.julep.installation import Installation, Key
from tests.julep.sdk import Sdk, about, everything

ADA: dict[str, Any] = {
    "name": "Ada",
    "about": "Counts things",
    "model": "mock",
    "instructions": ["Be short.", "Be right."],
    "canonical_name": "ada",
    "default_settings": {"temperature": 0.5},
    "default_system_template": "You are {{agent.name}}.",
    "metadata": {"team": {"name": "north"}, "level": 3},
}
LOOKUP = {"name": "lookup", "type": "function", "description": "Finds", "function": {"parameters": {"type": "object"}}}


def members(answer: Any, names: Any) -> dict[str, Any]:
    """Return some members of an answer."""
    return {name: getattr(answer, name) for name in names}


def kept(answer: Any) -> dict[str, Any]:
    """Return what is kept of what was written: all but the jobs that the writing left."""
    return {name: value for name, value in answer.to_dict().items() if name != "jobs"}


@about("agents.create", "agents.get")
async def test_an_agent_is_read_back_as_it_was_created(julep: Sdk) -> None:
    made = await julep.agents.create(**ADA)
    assert members(made, ADA) == ADA
    assert kept(await julep.agents.get(made.id)) == kept(made)
    assert (await julep.agents.get("ada")).id == made.id


@about("agents.update", "agents.reset")
async def test_an_update_merges_into_an_agent_and_a_reset_replaces_it(julep: Sdk) -> None:
    made = await julep.agents.create(**ADA)
    updated = await julep.agents.update(made.id, about="Sums things", metadata={"level": 4})
    assert (updated.about, updated.name, updated.instructions) == ("Sums things", "Ada", ADA["instructions"])
    assert updated.metadata == {"team": {"name": "north"}, "level": 4}
    assert kept(await julep.agents.get(made.id)) == kept(updated)
    await julep.agents.reset(made.id, name="Bob", about="New here")
    read = await julep.agents.get(made.id)
    assert (read.name, read.about, read.metadata or {}, read.default_settings or {}) == ("Bob", "New here", {}, {})
    assert read.created_at == made.created_at
    assert read.updated_at > made.updated_at


@about("agents.create_or_update")
async def test_create_or_update_makes_an_agent_with_the_id_given_and_changes_it_the_next_time(julep: Sdk) -> None:
    id_ = str(uuid.uuid4())
    made = await julep.agents.create_or_update(id_, name="Ada")
    again = await julep.agents.create_or_update(id_, name="Bob")
    assert (made.id, made.name, again.id, again.name) == (id_, "Ada", id_, "Bob")
    assert (await julep.agents.get(id_)).name == "Bob"
    assert [agent.id for agent in await everything(await julep.agents.list())] == [id_]


@about("agents.delete")
async def test_a_deleted_agent_is_gone(julep: Sdk) -> None:
    made = await julep.agents.create(name="Ada")
    gone = await julep.agents.delete(made.id)
    assert gone.id == made.id
    assert gone.deleted_at >= made.created_at
    with pytest.raises(NotFoundError):
        await julep.agents.get(made.id)
    assert await everything(await julep.agents.list()) == []


@about("agents.list")
async def test_agents_are_listed_to_the_end_in_the_order_asked_for(julep: Sdk) -> None:
    made = [(await julep.agents.create(name=f"agent {n}", metadata={"of": {"n": n}, "kind": "a"})).id for n in range(5)]
    first = await julep.agents.list(limit=2, direction="asc", sort_by="created_at")
    assert len(first.items) == 2
    assert [agent.id for agent in await everything(first)] == made
    newest = await everything(await julep.agents.list(limit=2, direction="desc", sort_by="created_at"))
    assert [agent.id for agent in newest] == made[::-1]
    await julep.agents.update(made[1], about="changed last")
    changed = await julep.agents.list(limit=1, direction="desc", sort_by="updated_at")
    assert changed.items[0].id == made[1]
    found = await everything(await julep.agents.list(metadata_filter={"of": {"n": 3}}, limit=2))
    assert [agent.id for agent in found] == [made[3]]
    assert len(await everything(await julep.agents.list(metadata_filter={"kind": "a"}, limit=2))) == 5


@about("agents.list_models")
async def test_the_models_are_those_of_the_backends(julep: Sdk) -> None:
    names = [model.id for model in (await julep.agents.list_models()).models]
    assert {"mock", "mock-large"} <= set(names)


@about("agents.tools.create", "agents.tools.list")
async def test_tools_of_an_agent_are_listed_to_the_end(julep: Sdk) -> None:
    agent = await julep.agents.create(name="Ada")
    made = [(await julep.agents.tools.create(agent.id, **LOOKUP | {"name": f"tool_{n}"})).id for n in range(5)]
    listed = await everything(await julep.agents.tools.list(agent.id, limit=2, direction="asc"))
    assert [tool.id for tool in listed] == made
    assert [tool.name for tool in listed] == [f"tool_{n}" for n in range(5)]
    assert listed[0].description == "Finds"
    assert listed[0].function.parameters == {"type": "object"}


@about("agents.tools.create")
@pytest.mark.parametrize(
    ("kind", "definition"),
    [
        ("api_call", {"method": "GET", "url": "http://127.0.0.1:9/x", "headers": {"a": "b"}}),
        ("system", {"resource": "agent", "subresource": "doc", "operation": "list"}),
        ("integration", {"provider": "dummy"}),
        ("bash_20241022", {"name": "bash"}),
    ],
)
async def test_a_tool_of_any_type_is_read_back_as_it_was_created(
    julep: Sdk, kind: str, definition: dict[str, Any]
) -> None:
    agent = await julep.agents.create(name="Ada")
    made = await julep.agents.tools.create(agent.id, name="helper", type=kind, **{kind: definition})
    (listed,) = await everything(await julep.agents.tools.list(agent.id))
    assert (listed.id, listed.type) == (made.id, kind)
    assert definition.items() <= getattr(listed, kind).model_dump(exclude_none=True).items()


@about("agents.tools.update", "agents.tools.reset", "agents.tools.delete")
async def test_a_tool_is_updated_replaced_and_deleted(julep: Sdk) -> None:
    async def listed() -> list[Any]:
        return await everything(await julep.agents.tools.list(agent.id))

    agent = await julep.agents.create(name="Ada")
    made = await julep.agents.tools.create(agent.id, **LOOKUP)
    await julep.agents.tools.update(made.id, agent_id=agent.id, name="search")
    (tool,) = await listed()
    assert (tool.id, tool.name, tool.description) == (made.id, "search", "Finds")
    call = {"method": "POST", "url": "http://127.0.0.1:9/y"}
    await julep.agents.tools.reset(made.id, agent_id=agent.id, name="post", type="api_call", api_call=call)
    (tool,) = await listed()
    assert (tool.name, tool.type, tool.function, tool.api_call.method) == ("post", "api_call", None, "POST")
    gone = await julep.agents.tools.delete(made.id, agent_id=agent.id)
    assert gone.id == made.id
    assert await listed() == []


@about("users.create", "users.get", "users.update", "users.reset", "users.create_or_update", "users.delete")
async def test_users_are_created_changed_and_deleted(julep: Sdk) -> None:
    made = await julep.users.create(name="Grace", about="Likes compilers", metadata={"a": 1, "b": {"c": 2}})
    assert kept(await julep.users.get(made.id)) == kept(made)
    updated = await julep.users.update(made.id, metadata={"a": 2})
    assert (updated.name, updated.metadata) == ("Grace", {"a": 2, "b": {"c": 2}})
    await julep.users.reset(made.id, name="Grace H.", about="")
    read = await julep.users.get(made.id)
    assert (read.name, read.about or "", read.metadata or {}) == ("Grace H.", "", {})
    id_ = str(uuid.uuid4())
    await julep.users.create_or_update(id_, name="new")
    await julep.users.create_or_update(id_, name="newer", about="x")
    assert (await julep.users.get(id_)).name == "newer"
    assert (await julep.users.delete(id_)).id == id_
    with pytest.raises(NotFoundError):
        await julep.users.get(id_)


@about("users.list")
async def test_users_are_listed_to_the_end(julep: Sdk) -> None:
    made = [(await julep.users.create(name=f"user {n}", metadata={"n": n})).id for n in range(5)]
    listed = await everything(await julep.users.list(limit=2, direction="asc"))
    assert [user.id for user in listed] == made
    (found,) = await everything(await julep.users.list(metadata_filter={"n": 2}))
    assert found.id == made[2]


@about("projects.create", "projects.list")
async def test_projects_group_agents_users_and_files(julep: Sdk) -> None:
    for n in range(5):
        made = await julep.projects.create(name=f"project {n}", canonical_name=f"p{n}", metadata={"n": n})
        assert (made.name, made.canonical_name, made.metadata) == (f"project {n}", f"p{n}", {"n": n})
    listed = await everything(await julep.projects.list(limit=2, direction="asc"))
    assert [project.canonical_name for project in listed if project.canonical_name != "default"] == [
        f"p{n}" for n in range(5)
    ]
    (found,) = await everything(await julep.projects.list(metadata_filter={"n": 4}))
    assert found.canonical_name == "p4"
    agent = await julep.agents.create(name="Ada", project="p4")
    user = await julep.users.create(name="Grace", project="p4")
    file = await julep.files.create(name="a.txt", content="aGVsbG8=", project="p4")
    assert (await julep.agents.get(agent.id)).project == "p4"
    assert (await julep.users.get(user.id)).project == "p4"
    assert (await julep.files.get(file.id)).project == "p4"


@about("files.create", "files.get", "files.list", "files.delete")
async def test_files_keep_their_bytes(julep: Sdk) -> None:
    data = bytes(range(256))
    content = base64.b64encode(data).decode()
    made = await julep.files.create(name="all.bin", content=content, description="bytes", mime_type="application/x-b")
    read = await julep.files.get(made.id)
    assert (read.content, read.size, read.description, read.mime_type) == (content, 256, "bytes", "application/x-b")
    assert read.hash == hashlib.sha256(data).hexdigest()
    other = await julep.files.create(name="b.txt", content="aGVsbG8=")
    assert {file.id for file in await julep.files.list()} == {made.id, other.id}
    assert (await julep.files.delete(made.id)).id == made.id
    assert [file.id for file in await julep.files.list()] == [other.id]
    with pytest.raises(NotFoundError):
        await julep.files.get(made.id)


@about("secrets.create", "secrets.update", "secrets.list", "secrets.delete")
async def test_secrets_are_kept_replaced_and_never_shown_in_lists(julep: Sdk) -> None:
    made = [await julep.secrets.create(name=f"s{n}", value=f"value {n}", metadata={"n": n}) for n in range(5)]
    first, second = await julep.secrets.list(limit=3), await julep.secrets.list(limit=3, offset=3)
    assert {secret.id for secret in [*first, *second]} == {secret.id for secret in made}
    assert (len(first), len(second)) == (3, 2)
    assert not any("value" in secret.value for secret in [*first, *second])
    await julep.secrets.update(made[0].id, name="s0", value="another", description="changed")
    (changed,) = [secret for secret in await julep.secrets.list() if secret.id == made[0].id]
    assert changed.description == "changed"
    assert changed.updated_at > made[0].updated_at
    assert (await julep.secrets.delete(made[1].id)).id == made[1].id
    assert made[1].id not in {secret.id for secret in await julep.secrets.list()}


@pytest.mark.parametrize("content_type", ["application/yaml", "text/yaml", "text/x-yaml"])
async def test_what_is_created_may_be_written_in_yaml(installed: Installation, key: Key, content_type: str) -> None:
    headers = {"authorization": f"Bearer {key.text}", "content-type": content_type}
    async with httpx.AsyncClient(base_url=installed.url, headers=headers, trust_env=False) as http:
        agent = (await http.post("/agents", content="name: Ada\nmetadata:\n  a: 1\n")).json()
        assert (agent["name"], agent["metadata"]) == ("Ada", {"a": 1})
        texts = {
            "/users": "name: Grace\n",
            "/projects": "name: North\n",
            "/sessions": f"agent: {agent['id']}\n",
            f"/agents/{agent['id']}/docs": "title: Hours\ncontent: We open at nine.\n",
            f"/agents/{agent['id']}/tasks": "name: t\nmain:\n- evaluate:\n    x: $ 1\n",
        }
        for path, text in texts.items():
            answer = await http.post(path, content=text)
            assert answer.status_code == 201, f"{path}: {answer.text}"
