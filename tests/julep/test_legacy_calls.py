"""The 49 calls of Julep's client of 2024, sent as it sends them: what it needs is in every answer, and they do it."""

from __future__ import annotations

import functools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.julep.installation import Installation, Key
from tests.julep.legacy import CALLS, Fern
from tests.julep.sdk import eventually

Scenario = Callable[[Fern], Awaitable[None]]
AGENT: dict[str, Any] = {"name": "Ada", "about": "Counts", "model": "mock", "instructions": "Be short."}
USER: dict[str, Any] = {"name": "Grace", "about": "Compiles"}
SESSION: dict[str, Any] = {"situation": "They meet.", "render_templates": True}
TOOL: dict[str, Any] = {
    "type": "function",
    "name": "lookup",
    "function": {"name": "lookup", "description": "Finds", "parameters": {"type": "object"}},
}
TASK: dict[str, Any] = {
    "name": "adds",
    "description": "Adds and asks",
    "main": [{"kind_": "evaluate", "evaluate": {"sum": "inputs[0].a + inputs[0].b"}}],
    "tools": [TOOL],
    "inherit_tools": True,
}
ASKS = [
    {"kind_": "wait_for_input", "info": {"question": "'tea or coffee?'"}},
    {"kind_": "evaluate", "evaluate": {"said": "_.answer"}},
]
COVERED: set[str] = set()


def about(*names: str) -> Callable[[Scenario], Scenario]:
    """Say which calls a test shows the behaviour of; it fails if it did not make them."""
    COVERED.update(names)

    def mark(test: Scenario) -> Scenario:
        @functools.wraps(test)
        async def run(fern: Fern) -> None:
            await test(fern)
            assert set(names) <= fern.called

        return run

    return mark


@pytest.fixture
async def fern(installed: Installation, key: Key) -> AsyncIterator[Fern]:
    client = Fern(installed.url, key.text)
    yield client
    await client.aclose()


async def in_status(fern: Fern, execution_id: str, status: str) -> Any:
    async def look() -> Any:
        read = await fern("executions_route_get", execution_id)
        return read if read.status == status else None

    return await eventually(look)


async def doc(fern: Fern, owner: str, id_: str) -> str:
    """Add a document; the client of that day had no call for it, the server of the next day did."""
    body = {"title": "Hours", "content": "We open at nine.", "metadata": {"kind": "info"}}
    answer = await fern._http.post(f"/{owner}/{id_}/docs", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_the_table_has_all_calls_and_each_is_shown() -> None:
    assert len(CALLS) == 49
    assert set(CALLS) == COVERED


@about("agents_route_create", "agents_route_get", "agents_route_list", "agents_route_delete")
async def test_agents_are_created_listed_and_deleted(fern: Fern) -> None:
    made = [await fern("agents_route_create", **AGENT | {"metadata": {"n": n}}) for n in range(3)]
    assert (await fern("agents_route_get", made[0].id)).name == "Ada"
    assert [agent.id for agent in await fern("agents_route_list")] == [agent.id for agent in made]
    page = await fern("agents_route_list", query={"limit": 1, "offset": 1, "direction": "desc"})
    assert [agent.id for agent in page] == [made[1].id]
    (found,) = await fern("agents_route_list", query={"metadata_filter": {"n": 2}})
    assert found.id == made[2].id
    assert (await fern("agents_route_delete", made[0].id)).id == made[0].id
    assert (await fern.send("agents_route_get", made[0].id)).status_code == 404


@about("agents_route_create_or_update", "agents_route_update", "agents_route_patch")
async def test_agents_are_replaced_and_patched(fern: Fern) -> None:
    id_ = str(uuid.uuid4())
    await fern("agents_route_create_or_update", id_, **AGENT, metadata={"a": 1}, default_settings={"temperature": 0.3})
    await fern("agents_route_patch", id_, about="Sums", metadata={"b": 2})
    read = await fern("agents_route_get", id_)
    assert (read.about, read.name, read.model_extra["metadata"]) == ("Sums", "Ada", {"a": 1, "b": 2})
    await fern("agents_route_update", id_, **AGENT | {"name": "Bob"})
    read = await fern("agents_route_get", id_)
    assert (read.name, read.model_extra["metadata"] or {}) == ("Bob", {})


@about("users_route_create", "users_route_get", "users_route_list", "users_route_delete")
@about("users_route_create_or_update", "users_route_update", "users_route_patch")
async def test_users_are_created_changed_listed_and_deleted(fern: Fern) -> None:
    made = await fern("users_route_create", **USER, metadata={"a": 1})
    await fern("users_route_patch", made.id, metadata={"b": 2})
    read = await fern("users_route_get", made.id)
    assert (read.name, read.model_extra["metadata"]) == ("Grace", {"a": 1, "b": 2})
    await fern("users_route_update", made.id, name="Grace H.", about="")
    assert (await fern("users_route_get", made.id)).name == "Grace H."
    id_ = str(uuid.uuid4())
    await fern("users_route_create_or_update", id_, **USER)
    assert [str(user.id) for user in await fern("users_route_list")] == [str(made.id), id_]
    assert (await fern("users_route_delete", id_)).id == uuid.UUID(id_)
    assert (await fern.send("users_route_get", id_)).status_code == 404


@about("agent_tools_route_create", "agent_tools_route_list", "agent_tools_route_update")
@about("agent_tools_route_patch", "agent_tools_route_delete")
async def test_tools_of_an_agent_are_created_changed_and_deleted(fern: Fern) -> None:
    agent = (await fern("agents_route_create", **AGENT)).id
    refused = await fern.send("agent_tools_route_create", agent, **AGENT)
    assert refused.status_code in (400, 422)
    made = (await fern("agent_tools_route_create", agent, **TOOL)).id
    (tool,) = await fern("agent_tools_route_list", agent)
    assert (tool.id, tool.name, tool.function.parameters) == (made, "lookup", {"type": "object"})
    await fern("agent_tools_route_patch", agent, made, name="search")
    (tool,) = await fern("agent_tools_route_list", agent)
    assert (tool.name, tool.function.parameters) == ("search", {"type": "object"})
    other: dict[str, Any] = {"parameters": {"type": "object", "properties": {"q": {"type": "string"}}}}
    await fern("agent_tools_route_update", agent, made, type="function", name="other", function=other)
    (tool,) = await fern("agent_tools_route_list", agent)
    assert (tool.name, tool.function.parameters) == ("other", other["parameters"])
    await fern("agent_tools_route_delete", agent, made)
    assert await fern("agent_tools_route_list", agent) == []


@about("tasks_route_create", "tasks_route_list", "tasks_route_update", "tasks_route_patch", "tasks_route_delete")
@about("tasks_create_or_update_route_create_or_update")
async def test_tasks_are_created_replaced_patched_and_deleted(fern: Fern) -> None:
    agent = (await fern("agents_route_create", **AGENT)).id
    made = (await fern("tasks_route_create", agent, **TASK, metadata={"a": 1})).id
    (task,) = await fern("tasks_route_list", agent)
    assert (task.id, task.name, task.description, task.inherit_tools) == (made, "adds", "Adds and asks", True)
    assert ([step.kind_ for step in task.main], [tool.name for tool in task.tools]) == (["evaluate"], ["lookup"])
    await fern("tasks_route_patch", agent, made, description="Adds")
    (task,) = await fern("tasks_route_list", agent)
    assert (task.description, len(task.main), task.model_extra["metadata"]) == ("Adds", 1, {"a": 1})
    put = {key: value for key, value in TASK.items() if key != "name"} | {"main": ASKS}
    await fern("tasks_route_update", agent, made, **put)
    (task,) = await fern("tasks_route_list", agent)
    assert ([step.kind_ for step in task.main], task.name) == (["wait_for_input", "evaluate"], "adds")
    other = str(uuid.uuid4())
    await fern("tasks_create_or_update_route_create_or_update", agent, other, **TASK | {"name": "other"})
    assert {str(task.id) for task in await fern("tasks_route_list", agent)} == {str(made), other}
    await fern("tasks_route_delete", agent, made)
    assert [str(task.id) for task in await fern("tasks_route_list", agent)] == [other]


@about("task_executions_route_create", "executions_route_get", "task_executions_route_list")
@about("execution_transitions_route_list", "job_route_get")
async def test_an_execution_runs_and_its_transitions_are_told(fern: Fern) -> None:
    agent = (await fern("agents_route_create", **AGENT)).id
    task = (await fern("tasks_route_create", agent, **TASK)).id
    made = await fern("task_executions_route_create", task, input={"a": 1, "b": 2}, metadata={"n": 1})
    read = await in_status(fern, made.id, "succeeded")
    assert (read.task_id, read.input, read.model_extra["output"]) == (task, {"a": 1, "b": 2}, {"sum": 3})
    assert [execution.id for execution in await fern("task_executions_route_list", task)] == [made.id]
    (group,) = await fern("execution_transitions_route_list", made.id)
    last = group.transitions[-1]
    assert (last.type, last.current, last.output, last.next) == ("finish", ("main", 0), {"sum": 3}, None)
    assert (await fern("job_route_get", made.jobs[0])).state == "succeeded"


@about("task_executions_route_update", "task_executions_route_resume_with_task_token")
async def test_an_execution_is_answered_by_its_id_or_by_a_token_and_cancelled(fern: Fern) -> None:
    agent = (await fern("agents_route_create", **AGENT)).id
    task = (await fern("tasks_route_create", agent, **TASK | {"main": ASKS})).id
    first, second, third = [(await fern("task_executions_route_create", task, input={})).id for _ in range(3)]
    for id_ in (first, second, third):
        await in_status(fern, id_, "awaiting_input")
    await fern("task_executions_route_update", task, first, status="running", input={"answer": "tea"})
    assert (await in_status(fern, first, "succeeded")).model_extra["output"] == {"said": "tea"}
    (group,) = await fern("execution_transitions_route_list", second)
    (wait,) = [transition for transition in group.transitions if transition.type == "wait"]
    token = wait.model_extra["metadata"]["task_token"]
    given: dict[str, Any] = {"task_token": token, "input": {"answer": "coffee"}}
    await fern("task_executions_route_resume_with_task_token", task, **given)
    assert (await in_status(fern, second, "succeeded")).model_extra["output"] == {"said": "coffee"}
    again = await fern.send("task_executions_route_update", task, second, status="running", input={})
    assert (again.status_code, again.headers["x-should-retry"]) == (409, "false")
    await fern("task_executions_route_update", task, third, status="cancelled", reason="not needed")
    await in_status(fern, third, "cancelled")


@about("agent_docs_route_list", "agents_docs_search_route_search", "user_docs_route_list")
@about("user_docs_search_route_search", "individual_docs_route_get", "individual_docs_route_delete")
async def test_documents_are_listed_found_read_and_deleted(fern: Fern) -> None:
    owners = {
        "agents": (await fern("agents_route_create", **AGENT)).id,
        "users": (await fern("users_route_create", **USER)).id,
    }
    calls = {
        "agents": ("agent_docs_route_list", "agents_docs_search_route_search"),
        "users": ("user_docs_route_list", "user_docs_search_route_search"),
    }
    for kind, (list_, search) in calls.items():
        made = await doc(fern, kind, owners[kind])
        (listed,) = await fern(list_, owners[kind])
        assert (str(listed.id), listed.title, listed.content) == (made, "Hours", "We open at nine.")
        assert await fern(list_, owners[kind], query={"metadata_filter": {"kind": "other"}}) == []
        (found,) = (await fern(search, owners[kind], text="nine", lang="en-US")).results
        assert (str(found.id), found.owner.id, found.snippet) == (made, owners[kind], "We open at nine.")
        assert (await fern("individual_docs_route_get", made)).content == "We open at nine."
        await fern("individual_docs_route_delete", made)
        assert await fern(list_, owners[kind]) == []


@about("embed_route_embed", "agents_docs_search_route_search")
async def test_a_text_becomes_a_vector_by_which_documents_are_found(fern: Fern) -> None:
    (vector,) = (await fern("embed_route_embed", text="When is it open?")).vectors
    agent = (await fern("agents_route_create", **AGENT)).id
    made = await doc(fern, "agents", agent)
    body: dict[str, Any] = {"confidence": -1, "alpha": 1, "mmr": True, "vector": vector}

    async def look() -> Any:
        return (await fern("agents_docs_search_route_search", agent, **body)).results

    (found,) = await eventually(look)
    assert str(found.id) == made


@about("sessions_route_create", "sessions_route_get", "sessions_route_list", "sessions_route_delete")
@about("sessions_route_create_or_update", "sessions_route_update", "sessions_route_patch")
async def test_sessions_are_created_changed_listed_and_deleted(fern: Fern) -> None:
    agent = (await fern("agents_route_create", **AGENT)).id
    user = (await fern("users_route_create", **USER)).id
    made = await fern("sessions_route_create", agent=str(agent), user=str(user), **SESSION, metadata={"a": 1})
    read = await fern("sessions_route_get", made.id)
    assert (read.kind, read.situation) == ("single_agent_single_user", "They meet.")
    assert (read.model_extra["agent"], read.model_extra["user"]) == (str(agent), str(user))
    await fern("sessions_route_patch", made.id, metadata={"b": 2}, token_budget=100)
    read = await fern("sessions_route_get", made.id)
    assert (read.model_extra["metadata"], read.model_extra["token_budget"]) == ({"a": 1, "b": 2}, 100)
    await fern("sessions_route_update", made.id, situation="They part.", render_templates=False)
    read = await fern("sessions_route_get", made.id)
    assert (read.situation, read.render_templates, read.model_extra["token_budget"]) == ("They part.", False, None)
    id_ = str(uuid.uuid4())
    await fern("sessions_route_create_or_update", id_, agents=[str(agent)], **SESSION)
    assert [str(session.id) for session in await fern("sessions_route_list")] == [str(made.id), id_]
    await fern("sessions_route_delete", id_)
    assert (await fern.send("sessions_route_get", id_)).status_code == 404


@about("chat_route_generate", "history_route_history", "history_route_delete")
async def test_a_chat_answers_is_remembered_and_forgotten(fern: Fern) -> None:
    agent = (await fern("agents_route_create", **AGENT)).id
    session = (await fern("sessions_route_create", agent=str(agent), **SESSION)).id
    hello: dict[str, Any] = {
        "messages": [{"role": "user", "content": "hello"}],
        "recall": True,
        "remember": False,
        "save": True,
    }
    (choice,) = (await fern("chat_route_generate", session, **hello, stream=False)).choices
    assert (choice.delta.content, choice.finish_reason) == ("hello", "stop")
    history = await fern("history_route_history", session, query={"limit": 10})
    assert [entry.content for entry in history.entries] == ["hello", "hello"]
    await fern("history_route_delete", session)
    assert (await fern("history_route_history", session, query={"limit": 10})).entries == []


@about("chat_route_generate")
async def test_a_chat_is_answered_whole_though_a_stream_is_asked_for(fern: Fern) -> None:
    """That client sends `stream: true` and reads the answer as one JSON text all the same."""
    agent = (await fern("agents_route_create", **AGENT)).id
    session = (await fern("sessions_route_create", agent=str(agent), **SESSION)).id
    asks: dict[str, Any] = {"recall": True, "remember": True, "save": True, "stream": True, "preset": "creative"}
    messages = [{"role": "agent", "content": "Yes?"}, {"role": "user", "content": "hello"}]
    (choice,) = (await fern("chat_route_generate", session, messages=messages, **asks)).choices
    assert choice.delta.content == "hello"


@about("chat_route_generate", "history_route_history")
async def test_a_result_of_a_function_without_an_id_reaches_the_call_that_waits_for_it(fern: Fern) -> None:
    agent = (await fern("agents_route_create", **AGENT)).id
    await fern("agent_tools_route_create", str(agent), **{**TOOL, "name": "get_weather"})
    session = (await fern("sessions_route_create", agent=str(agent), **SESSION)).id
    asks: dict[str, Any] = {"recall": True, "remember": False, "save": True, "stream": False}
    reasons = []
    for role, content in (("auto", "what is the weather?"), ("function_response", "rain"), ("user", "thank you")):
        said = [{"role": role, "content": content}]
        (choice,) = (await fern("chat_route_generate", session, messages=said, **asks)).choices
        reasons.append(choice.finish_reason)
    assert reasons == ["tool_calls", "stop", "stop"]
    history = await fern("history_route_history", session, query={"limit": 10})
    roles = [entry.role for entry in history.entries]
    assert roles == ["user", "agent", "function_response", "agent", "user", "agent"]


async def test_a_wrong_key_opens_nothing_in_either_header(installed: Installation, fern: Fern) -> None:
    stranger = Fern(installed.url, "wrong")
    assert (await stranger.send("agents_route_list")).status_code == 401
    assert (await fern.send("agents_route_list", query={})).status_code == 200
    await stranger.aclose()


@about("tasks_route_create", "task_executions_route_create", "executions_route_get", "tasks_route_list")
async def test_what_the_task_manager_of_that_year_was_for_can_be_done(fern: Fern) -> None:
    """It made a task with tools and an input schema, started it with arguments, looked at it and listed tasks."""
    agent = (await fern("agents_route_create", **AGENT)).id
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    main = [{"evaluate": {"greeting": "'hello ' + name"}}]
    task = (await fern("tasks_route_create", agent, **TASK | {"main": main}, input_schema=schema)).id
    refused = await fern.send("task_executions_route_create", task, input={"name": 7})
    assert refused.status_code == 400
    made = (await fern("task_executions_route_create", task, input={"name": "Ada"})).id
    assert (await in_status(fern, made, "succeeded")).model_extra["output"] == {"greeting": "hello Ada"}
    (listed,) = await fern("tasks_route_list", agent)
    assert listed.model_extra["input_schema"] == schema
