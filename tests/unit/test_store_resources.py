"""Agents, their tools, users and projects in the store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.control.agents import AgentService, agent_view
from engine.control.agenttools import AgentToolService
from engine.control.definitions import DefinitionService
from engine.control.documents import DocumentService
from engine.control.projects import ProjectService, canonical_name_of
from engine.control.users import UserService
from engine.core.contracts.lookups import Owner
from engine.core.errors import Conflict, InvalidInput, NotFound
from engine.core.plan.codec import plan_from_json
from engine.store.agent_tools import AgentTools
from engine.store.agents import AgentFacts, AgentStore
from engine.store.aliases import AliasFacts
from engine.store.database import Database, open_database
from engine.store.definitions import Definitions
from engine.store.docs import DocStore
from engine.store.projects import ProjectStore
from engine.store.sessions import SessionFacts, SessionStore
from engine.store.users import UserStore
from tests.support.postgres import store_url

pytestmark = pytest.mark.usefixtures("both_stores")

TENANT = "default"
OTHER = "other"
WEATHER = {"name": "weather", "type": "function", "function": {"parameters": {"type": "object"}}}


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(store_url(tmp_path / "store.db"))
    yield opened
    await opened.close()


@pytest.fixture
def agents(database: Database) -> AgentService:
    return AgentService(AgentStore(database))


@pytest.fixture
def tools(database: Database) -> AgentToolService:
    return AgentToolService(AgentTools(database))


@pytest.fixture
def users(database: Database) -> UserService:
    return UserService(UserStore(database))


@pytest.fixture
def projects(database: Database) -> ProjectService:
    return ProjectService(ProjectStore(database))


def agent(number: int, **more: Any) -> AgentFacts:
    facts: dict[str, Any] = {
        "id": f"a{number}",
        "tenant": TENANT,
        "name": f"Agent {number}",
        "instructions": ["be kind", "be brief"],
        "default_settings": {"temperature": 0.5},
        "metadata": {"number": number, "deep": {"odd": number % 2 == 1}},
        "created_us": number,
        "updated_us": number,
    }
    return AgentFacts(**{**facts, **more})


async def added(store: AgentStore, facts: AgentFacts) -> AgentFacts:
    return await store.write(facts.id, lambda present: present or facts, tenant=facts.tenant)


# --- agents ----------------------------------------------------------------------------------------------------------


async def test_an_agent_comes_back_as_it_was_stored_by_its_id_and_its_canonical_name(agents: AgentService) -> None:
    stored = agent(1, canonical_name="ada", default_system_template="You are {{ agent.name }}.")
    await added(agents.store, stored)
    assert await agents.store.get("a1", tenant=TENANT) == stored
    assert await agents.store.get("ada", tenant=TENANT) == stored
    for reference in ("a1", "ada"):
        with pytest.raises(NotFound) as caught:
            await agents.store.get(reference, tenant=OTHER)
        assert caught.value.code == "agent.not_found"


async def test_a_canonical_name_is_taken_once_per_tenant(agents: AgentService) -> None:
    await added(agents.store, agent(1, canonical_name="ada"))
    await added(agents.store, agent(2, canonical_name="ada", tenant=OTHER))
    await added(agents.store, agent(3))
    await added(agents.store, agent(4))
    with pytest.raises(Conflict) as caught:
        await added(agents.store, agent(5, canonical_name="ada"))
    assert caught.value.code == "agent.exists"
    with pytest.raises(Conflict):
        await agents.patch("a4", {"canonical_name": "ada"}, tenant=TENANT)
    assert (await agents.store.get("a4", tenant=TENANT)).canonical_name is None


async def test_agents_are_paged_sorted_and_filtered_by_metadata(agents: AgentService) -> None:
    for number in range(6):
        await added(agents.store, agent(number, updated_us=100 - number))
    pages = [await agents.store.page(tenant=TENANT, limit=4, offset=offset) for offset in (0, 4, 8)]
    assert [[item.id for item in page] for page in pages] == [["a0", "a1", "a2", "a3"], ["a4", "a5"], []]
    by_change = await agents.store.page(tenant=TENANT, sort_by="updated_at", limit=1)
    assert [item.id for item in by_change] == ["a5"]
    odd = await agents.store.page(tenant=TENANT, metadata={"deep": {"odd": True}}, limit=2, offset=1, descending=True)
    assert [item.id for item in odd] == ["a3", "a1"]


async def test_a_patch_merges_metadata_and_settings_and_leaves_the_rest(agents: AgentService) -> None:
    before = await added(agents.store, agent(1, about="first", model="m1"))
    after = await agents.patch(
        "a1", {"about": None, "metadata": {"deep": 1}, "default_settings": {"top_p": 1}}, tenant=TENANT
    )
    assert (after.about, after.model, after.name) == ("", "m1", "Agent 1")
    assert after.metadata == {"number": 1, "deep": 1}
    assert after.default_settings == {"temperature": 0.5, "top_p": 1}
    assert (after.created_us, after.updated_us > before.updated_us) == (1, True)
    emptied = await agents.patch("a1", {"metadata": None}, tenant=TENANT)
    assert emptied.metadata == {}
    assert await agents.store.get("a1", tenant=TENANT) == emptied


async def test_a_replaced_agent_is_as_if_it_was_written_today_but_for_its_birth(agents: AgentService) -> None:
    await added(agents.store, agent(1, about="first", actor="ada"))
    for replaced in (
        await agents.reset("a1", {"name": "New"}, tenant=TENANT),
        await agents.put("a1", {"name": "New"}, tenant=TENANT, actor="bob"),
    ):
        assert (replaced.name, replaced.about, replaced.metadata, replaced.instructions) == ("New", "", {}, "")
        assert (replaced.id, replaced.created_us, replaced.actor) == ("a1", 1, "ada")


async def test_an_agent_is_created_under_the_id_that_a_caller_chose_if_it_is_a_uuid(agents: AgentService) -> None:
    chosen = "0A51F6C2-7F0B-4C68-8A38-5B6F1D2E3C4D"
    made = await agents.put(chosen, {"name": "Ada"}, tenant=TENANT)
    assert made.id == chosen.lower()
    with pytest.raises(InvalidInput) as caught:
        await agents.put("ada", {"name": "Ada"}, tenant=TENANT)
    assert caught.value.code == "request.bad_id"
    with pytest.raises(NotFound):
        await agents.reset("ada", {"name": "Ada"}, tenant=TENANT)
    with pytest.raises(NotFound):
        await agents.patch("ada", {"name": "Ada"}, tenant=TENANT)


async def test_a_repeated_creation_creates_nothing_and_another_one_with_its_key_is_refused(
    agents: AgentService, users: UserService, projects: ProjectService, tools: AgentToolService
) -> None:
    made = await agents.create({"name": "Ada"}, tenant=TENANT, request_key="k")
    assert await agents.create({"name": "Ada"}, tenant=TENANT, request_key="k") == made
    with pytest.raises(Conflict) as caught:
        await agents.create({"name": "Bob"}, tenant=TENANT, request_key="k")
    assert caught.value.code == "idempotency.key_reused"
    assert [item.name for item in await agents.store.page(tenant=TENANT)] == ["Ada"]
    first = [
        await users.create({"name": "U"}, tenant=TENANT, request_key="k"),
        await projects.create({"name": "P"}, tenant=TENANT, request_key="k"),
        await tools.create(made.id, WEATHER, tenant=TENANT, request_key="k"),
    ]
    again = [
        await users.create({"name": "U"}, tenant=TENANT, request_key="k"),
        await projects.create({"name": "P"}, tenant=TENANT, request_key="k"),
        await tools.create(made.id, WEATHER, tenant=TENANT, request_key="k"),
    ]
    assert first == again
    with pytest.raises(Conflict):
        await tools.create(made.id, {**WEATHER, "description": "x"}, tenant=TENANT, request_key="k")
    # what was changed since is not made as it was
    await agents.patch(made.id, {"about": "changed"}, tenant=TENANT)
    assert (await agents.create({"name": "Ada"}, tenant=TENANT, request_key="k")).about == "changed"


async def test_a_deleted_agent_takes_with_it_what_is_its_own_and_nothing_else(
    database: Database, agents: AgentService, tools: AgentToolService
) -> None:
    definitions, sessions = DefinitionService(Definitions(database), {}), SessionStore(database)
    documents = DocumentService(DocStore(database))
    ada = await agents.create({"name": "Ada", "canonical_name": "ada", "model": "m1"}, tenant=TENANT)
    bob = await agents.create({"name": "Bob"}, tenant=TENANT)
    made = {}
    for one in (ada, bob):
        made[one.id] = await definitions.create_task("name: t\nmain: [{prompt: hi}]", tenant=TENANT, agent_id=one.id)
        await tools.create(one.id, WEATHER, tenant=TENANT)
        await documents.add(f"{one.name} knows", tenant=TENANT, owner=Owner(kind="agent", id=one.id))
        own = SessionFacts(id=f"of {one.name}", tenant=TENANT, agents=[one.id], created_us=1, updated_us=1)
        await sessions.add(own)
        task_id = made[one.id].task.id
        alias = AliasFacts(tenant=TENANT, task_id=task_id, alias="prod", version=1, updated_us=1)
        await definitions.definitions.aliases.put(alias)
    await sessions.add(SessionFacts(id="both", tenant=TENANT, agents=[ada.id, bob.id], created_us=2, updated_us=2))

    gone = await agents.delete("ada", tenant=TENANT)
    assert (gone["id"], gone["jobs"]) == (ada.id, [])
    assert [item.id for item in await agents.store.page(tenant=TENANT)] == [bob.id]
    left = await definitions.definitions.list_tasks(tenant=TENANT)
    assert [item.agent_id for item in left] == [bob.id]
    assert [item.task_id for item in await definitions.definitions.aliases.list_all(tenant=TENANT)] == [left[0].id]
    assert await tools.store.of_agent(ada.id, TENANT) == []
    assert len(await tools.store.of_agent(bob.id, TENANT)) == 1
    assert [item.owner.id for item in await documents.page(tenant=TENANT)] == [bob.id]
    assert {item.id: item.agents for item in await sessions.page(tenant=TENANT)} == {
        "of Bob": [bob.id],
        "both": [bob.id],
    }
    # what runs already, and what it calls, goes on with the agent as it was
    plan = plan_from_json(await definitions.plan_for_start(made[ada.id].task))
    assert (plan.agent.id, plan.agent.model) == (ada.id, "m1")
    with pytest.raises(NotFound):
        await agents.delete("ada", tenant=TENANT)


async def test_a_change_of_an_agent_is_seen_by_what_starts_later(database: Database, agents: AgentService) -> None:
    definitions = DefinitionService(Definitions(database), {})
    ada = await agents.create({"name": "Ada", "model": "m1", "instructions": ["a", "b"]}, tenant=TENANT)
    made = await definitions.create_task("name: t\nmain: [{prompt: hi}]", tenant=TENANT, agent_id=ada.id)
    started = await definitions.plan_for_start(made.task)
    await agents.patch(ada.id, {"model": "m2", "default_settings": {"top_p": 1}}, tenant=TENANT)
    later = plan_from_json(await definitions.plan_for_start(made.task)).agent
    assert (later.model, later.instructions, later.settings) == ("m2", "a\nb", {"top_p": 1})
    assert plan_from_json(started).agent.model == "m1"


async def test_nobody_deletes_or_changes_what_is_another_tenants(
    agents: AgentService, users: UserService, projects: ProjectService, tools: AgentToolService
) -> None:
    ada = await agents.create({"name": "Ada", "canonical_name": "ada"}, tenant=TENANT)
    user = await users.create({"name": "U"}, tenant=TENANT)
    project = await projects.create({"name": "P"}, tenant=TENANT)
    tool = await tools.create(ada.id, WEATHER, tenant=TENANT)
    for attempt in (
        agents.delete("ada", tenant=OTHER),
        agents.patch(ada.id, {"name": "x"}, tenant=OTHER),
        users.delete(user.id, tenant=OTHER),
        users.patch(user.id, {"name": "x"}, tenant=OTHER),
        projects.delete(project.id, tenant=OTHER),
        projects.patch("p", {"name": "x"}, tenant=OTHER),
        tools.delete(ada.id, tool.id, tenant=OTHER),
        tools.store.page("ada", tenant=OTHER),
        agents.create({"name": "Eve", "project": "p"}, tenant=OTHER),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await tools.store.of_agent(ada.id, OTHER) == []
    assert await agents.store.get("ada", tenant=TENANT) == ada
    assert await users.store.get(user.id, tenant=TENANT) == user


# --- users and projects ----------------------------------------------------------------------------------------------


async def test_a_user_is_created_changed_replaced_listed_and_deleted(users: UserService) -> None:
    made = await users.create({"name": "Ada", "metadata": {"a": 1}}, tenant=TENANT)
    assert (made.about, made.project) == ("", None)
    changed = await users.patch(made.id, {"about": "tall", "metadata": {"b": 2}}, tenant=TENANT)
    assert (changed.name, changed.about, changed.metadata) == ("Ada", "tall", {"a": 1, "b": 2})
    assert await users.store.page(tenant=TENANT, metadata={"b": 2}) == [changed]
    replaced = await users.reset(made.id, {"name": "Bob"}, tenant=TENANT)
    assert (replaced.about, replaced.metadata, replaced.created_us) == ("", {}, made.created_us)
    chosen = await users.put("6c1f0a8e-3b52-4e0e-9d5c-2f7b1a9e4d10", {}, tenant=TENANT)
    assert chosen.name == ""
    await users.delete(made.id, tenant=TENANT)
    assert await users.store.page(tenant=TENANT) == [chosen]


async def test_a_deleted_user_leaves_its_sessions_and_takes_its_documents(
    database: Database, users: UserService
) -> None:
    sessions, documents = SessionStore(database), DocumentService(DocStore(database))
    ada, bob = [await users.create({"name": name}, tenant=TENANT) for name in ("Ada", "Bob")]
    facts = SessionFacts(id="s", tenant=TENANT, agents=["a"], users=[ada.id, bob.id], created_us=1, updated_us=1)
    await sessions.add(facts)
    for one in (ada, bob):
        await documents.add("a text", tenant=TENANT, owner=Owner(kind="user", id=one.id))
    await users.delete(ada.id, tenant=TENANT)
    kept = await sessions.get("s", tenant=TENANT)
    assert kept is not None
    assert (kept.agents, kept.users) == (["a"], [bob.id])
    assert [item.owner.id for item in await documents.page(tenant=TENANT)] == [bob.id]


async def test_what_belongs_to_a_project_follows_its_name_and_outlives_it(
    projects: ProjectService, agents: AgentService, users: UserService
) -> None:
    made = await projects.create({"name": "Spring sale"}, tenant=TENANT)
    assert made.canonical_name == "spring_sale"
    ada = await agents.create({"name": "Ada", "project": made.id}, tenant=TENANT)
    user = await users.create({"project": "spring_sale"}, tenant=TENANT)
    free = await agents.create({"name": "Bob"}, tenant=TENANT)
    assert (ada.project, user.project) == ("spring_sale", "spring_sale")
    with pytest.raises(NotFound) as caught:
        await agents.create({"name": "Eve", "project": "summer_sale"}, tenant=TENANT)
    assert caught.value.code == "project.not_found"
    renamed = await projects.patch("spring_sale", {"canonical_name": "sale"}, tenant=TENANT)
    assert renamed.name == "Spring sale"
    assert (await agents.store.get(ada.id, tenant=TENANT)).project == "sale"
    assert (await users.store.get(user.id, tenant=TENANT)).project == "sale"
    await projects.delete("sale", tenant=TENANT)
    assert (await agents.store.get(ada.id, tenant=TENANT)).project is None
    assert (await users.store.get(user.id, tenant=TENANT)).project is None
    assert await agents.store.get(free.id, tenant=TENANT) == free


async def test_projects_of_one_name_have_canonical_names_of_their_own(projects: ProjectService) -> None:
    first, second = [await projects.create({"name": "Sale"}, tenant=TENANT) for _ in range(2)]
    assert first.canonical_name == "sale"
    assert second.canonical_name == f"sale_{second.id[:8]}"
    with pytest.raises(Conflict) as caught:
        await projects.create({"name": "Sale", "canonical_name": "sale"}, tenant=TENANT)
    assert caught.value.code == "project.exists"
    kept = await projects.reset("sale", {"name": "Sale 2"}, tenant=TENANT)
    assert (kept.id, kept.canonical_name) == (first.id, "sale")


@pytest.mark.parametrize(
    ("name", "canonical"),
    [("Spring sale!", "spring_sale"), ("2026", "project_2026"), ("日本", "project"), ("x" * 300, "x" * 255)],
)
async def test_a_canonical_name_is_made_of_a_name(name: str, canonical: str) -> None:
    assert canonical_name_of(name) == canonical


# --- tools -----------------------------------------------------------------------------------------------------------


async def test_an_agents_tools_are_listed_by_name_for_whoever_uses_them(
    agents: AgentService, tools: AgentToolService
) -> None:
    ada = await agents.create({"name": "Ada", "canonical_name": "ada"}, tenant=TENANT)
    later = await tools.create("ada", WEATHER, tenant=TENANT)
    call = {"method": "GET", "url": "https://crm.example", "headers": {"X-Key": "{{ secrets.crm }}"}}
    earlier = await tools.create(ada.id, {"name": "crm", "type": "api_call", "api_call": call}, tenant=TENANT)
    assert await tools.store.of_agent(ada.id, TENANT) == [earlier, later]
    assert earlier.definition == call
    assert await tools.store.of_agent("nobody", TENANT) == []
    with pytest.raises(Conflict) as caught:
        await tools.create("ada", WEATHER, tenant=TENANT)
    assert caught.value.code == "agent_tool.exists"
    with pytest.raises(NotFound) as missing:
        await tools.store.get("ada", "no", tenant=TENANT)
    assert missing.value.code == "agent_tool.not_found"


async def test_a_tool_is_changed_in_its_members_or_becomes_another_one(
    agents: AgentService, tools: AgentToolService
) -> None:
    ada = await agents.create({"name": "Ada"}, tenant=TENANT)
    call = {"method": "GET", "url": "https://crm.example"}
    made = await tools.create(ada.id, {"name": "crm", "type": "api_call", "api_call": call}, tenant=TENANT)
    changed = await tools.patch(
        ada.id, made.id, {"api_call": {"timeout": 5}, "description": "asks the CRM"}, tenant=TENANT
    )
    assert (changed.definition, changed.description) == ({**call, "timeout": 5}, "asks the CRM")
    other = await tools.patch(
        ada.id, made.id, {"type": "system", "system": {"resource": "user", "operation": "list"}}, tenant=TENANT
    )
    assert (other.name, other.type, other.definition) == ("crm", "system", {"resource": "user", "operation": "list"})
    whole = await tools.reset(ada.id, made.id, WEATHER, tenant=TENANT)
    assert (whole.id, whole.name, whole.description, whole.created_us) == (made.id, "weather", "", made.created_us)
    for given in ({"type": "system"}, {"type": "system", "system": other.definition, "function": {}}):
        with pytest.raises(InvalidInput):
            await tools.patch(ada.id, made.id, given, tenant=TENANT)
    assert await tools.store.of_agent(ada.id, TENANT) == [whole]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": "2nd"}, "agent_tool.bad_name"),
    ({"name": "x" * 41}, "agent_tool.bad_name"),
    ({"name": "überall"}, "agent_tool.bad_name"),
    ({"function": None}, "agent_tool.bad_definition"),
    ({"function": {"parameters": {"type": "objekt"}}}, "agent_tool.bad_definition"),
    ({"system": {"resource": "user", "operation": "list"}}, "agent_tool.bad_definition"),
    ({"type": "system"}, "agent_tool.bad_definition"),
    ({"type": "api_call", "function": None, "api_call": {"url": "http://x"}}, "agent_tool.bad_definition"),
    (
        {"type": "api_call", "function": None, "api_call": {"method": "GET", "url": "u", "hdrs": {}}},
        "agent_tool.bad_definition",
    ),
    ({"type": "integration", "function": None, "integration": {"method": "x"}}, "agent_tool.bad_definition"),
    (
        {"type": "system", "function": None, "system": {"resource": "moon", "operation": "get"}},
        "agent_tool.bad_definition",
    ),
]


@pytest.mark.parametrize(("given", "code"), WRONG)
async def test_a_tool_that_could_never_be_called_is_refused(
    agents: AgentService, tools: AgentToolService, given: dict[str, Any], code: str
) -> None:
    ada = await agents.create({"name": "Ada"}, tenant=TENANT)
    with pytest.raises(InvalidInput) as caught:
        await tools.create(ada.id, {**WEATHER, **given}, tenant=TENANT)
    assert caught.value.code == code
    assert await tools.store.of_agent(ada.id, TENANT) == []


@pytest.mark.parametrize("kind", ["computer_20241022", "text_editor_20241022", "bash_20241022"])
async def test_tools_that_a_model_knows_by_itself_need_no_definition(
    agents: AgentService, tools: AgentToolService, kind: str
) -> None:
    ada = await agents.create({"name": "Ada"}, tenant=TENANT)
    bare = await tools.create(ada.id, {"name": "bare", "type": kind}, tenant=TENANT)
    assert bare.definition == {}
    named = await tools.create(ada.id, {"name": "named", "type": kind, kind: {"type": kind}}, tenant=TENANT)
    assert named.definition == {"type": kind}


async def test_the_texts_of_an_agent_are_never_null(agents: AgentService) -> None:
    made = await agents.create({"name": "Ada", "about": None, "model": None, "instructions": None}, tenant=TENANT)
    view = agent_view(made)
    assert [view[name] for name in ("about", "model", "instructions")] == ["", "", ""]
