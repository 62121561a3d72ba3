"""Sessions and chat by Julep's SDK: what is said is remembered, streamed, rendered, and reaches tools."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from julep import APIStatusError, NotFoundError

from tests.julep.sdk import Sdk, about, everything

HELLO = [{"role": "user", "content": "hello"}]
STORY = [{"role": "user", "content": "tell a story"}]
WEATHER = [{"role": "user", "content": "what is the weather?"}]
TOOL = {
    "name": "get_weather",
    "type": "function",
    "function": {"parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


async def session_of(julep: Sdk, **more: Any) -> str:
    """Make a session with an agent of its own and return its id."""
    agent = await julep.agents.create(name="Ada", model="mock", instructions="Be short.")
    return str((await julep.sessions.create(agent=agent.id, **more)).id)


async def said(julep: Sdk, session_id: str) -> list[tuple[str, Any]]:
    """Return who said what in a session."""
    entries = (await julep.sessions.history(session_id)).entries
    return [(entry.role, text_in(entry.content)) for entry in entries]


def text_in(content: Any) -> Any:
    """Return the text of a message, which may stand in parts."""
    return "".join(part.text for part in content) if isinstance(content, list) else content


@about("sessions.create", "sessions.get")
async def test_a_session_is_read_back_as_it_was_created(julep: Sdk) -> None:
    agent, user = await julep.agents.create(name="Ada"), await julep.users.create(name="Grace")
    given = {
        "situation": "They meet.",
        "system_template": "{{agent.name}}",
        "token_budget": 500,
        "context_overflow": "truncate",
        "metadata": {"a": {"b": 1}},
        "recall_options": {"mode": "text", "limit": 3},
    }
    made = await julep.sessions.create(agent=agent.id, user=user.id, **given)
    read = await julep.sessions.get(made.id)
    assert (read.situation, read.system_template, read.token_budget) == ("They meet.", "{{agent.name}}", 500)
    assert (read.context_overflow, read.metadata, read.recall_options.limit) == ("truncate", {"a": {"b": 1}}, 3)
    assert read.kind == "single_agent_single_user"
    assert (await julep.sessions.get(await session_of(julep))).kind == "single_agent_no_user"


@about("sessions.update", "sessions.reset", "sessions.create_or_update", "sessions.delete")
async def test_sessions_are_updated_replaced_and_deleted(julep: Sdk) -> None:
    id_ = await session_of(julep, situation="first", metadata={"a": 1, "b": 2}, token_budget=99)
    await julep.sessions.update(id_, situation="second", metadata={"a": 3})
    read = await julep.sessions.get(id_)
    assert (read.situation, read.metadata, read.token_budget) == ("second", {"a": 3, "b": 2}, 99)
    await julep.sessions.reset(id_, situation="third")
    read = await julep.sessions.get(id_)
    assert (read.situation, read.metadata or {}, read.token_budget) == ("third", {}, None)
    agent = await julep.agents.create(name="Bob")
    new = str(uuid.uuid4())
    await julep.sessions.create_or_update(new, agent=agent.id, situation="one")
    await julep.sessions.create_or_update(new, agent=agent.id, situation="two")
    assert (await julep.sessions.get(new)).situation == "two"
    assert (await julep.sessions.delete(new)).id == new
    with pytest.raises(NotFoundError):
        await julep.sessions.get(new)


@about("sessions.list")
async def test_sessions_are_listed_to_the_end(julep: Sdk) -> None:
    agent = await julep.agents.create(name="Ada")
    made = [(await julep.sessions.create(agent=agent.id, metadata={"n": n})).id for n in range(5)]
    listed = await everything(await julep.sessions.list(limit=2, direction="asc"))
    assert [session.id for session in listed] == made
    (found,) = await everything(await julep.sessions.list(metadata_filter={"n": 1}))
    assert found.id == made[1]


@about("sessions.chat", "sessions.history")
async def test_a_chat_answers_and_both_sides_stand_in_the_history(julep: Sdk) -> None:
    id_ = await session_of(julep)
    answer = await julep.sessions.chat(id_, messages=HELLO)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "hello", "stop")
    assert answer.usage.total_tokens > 0
    await julep.sessions.chat(id_, messages=[{"role": "user", "content": "and then?"}])
    assert await said(julep, id_) == [
        ("user", "hello"),
        ("assistant", "hello"),
        ("user", "and then?"),
        ("assistant", "and then?"),
    ]
    history = await julep.sessions.history(id_)
    assert history.session_id == id_
    assert {entry.source for entry in history.entries} == {"api_request", "api_response"}


@about("sessions.chat")
async def test_what_is_not_saved_is_not_in_the_history(julep: Sdk) -> None:
    id_ = await session_of(julep)
    answer = await julep.sessions.chat(id_, messages=HELLO, save=False)
    assert answer.choices[0].message.content == "hello"
    assert await said(julep, id_) == []


@about("sessions.chat")
async def test_a_streamed_chat_comes_in_pieces_and_ends_saved(julep: Sdk) -> None:
    id_ = await session_of(julep)
    chunks = await everything(await julep.sessions.chat(id_, messages=STORY, stream=True))
    pieces = [text_in(choice.delta.content) or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == "Once upon a time there was a loop."
    assert len([piece for piece in pieces if piece]) > 1
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    assert await said(julep, id_) == [("user", "tell a story"), ("assistant", "Once upon a time there was a loop.")]


@about("sessions.chat", "agents.tools.create")
async def test_the_tools_of_the_agent_are_offered_and_a_call_is_told(julep: Sdk) -> None:
    agent = await julep.agents.create(name="Ada", model="mock")
    await julep.agents.tools.create(agent.id, **TOOL)
    session = await julep.sessions.create(agent=agent.id)
    (choice,) = (await julep.sessions.chat(session.id, messages=WEATHER)).choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls or choice.tool_calls
    assert call.function.name == "get_weather"
    told = {"role": "tool", "tool_call_id": call.id, "name": "get_weather", "content": "rain"}
    answer = await julep.sessions.chat(session.id, messages=[told])
    assert answer.choices[0].finish_reason == "stop"


@about("sessions.chat")
async def test_a_refusal_of_the_model_is_told_as_an_error_and_is_not_worth_a_retry(julep: Sdk) -> None:
    id_ = await session_of(julep)
    with pytest.raises(APIStatusError) as raised:
        await julep.sessions.chat(id_, messages=[{"role": "user", "content": "be refused"}])
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert await said(julep, id_) == []


@about("sessions.render")
async def test_render_shows_what_the_model_would_be_sent_and_asks_nobody(julep: Sdk) -> None:
    agent = await julep.agents.create(name="Ada", default_system_template="I am {{agent.name}}.")
    await julep.agents.tools.create(agent.id, **TOOL)
    session = await julep.sessions.create(agent=agent.id)
    rendered = await julep.sessions.render(session.id, messages=HELLO)
    system, user = rendered.messages[0], rendered.messages[-1]
    assert (system.role, text_in(system.content)) == ("system", "I am Ada.")
    assert (user.role, text_in(user.content)) == ("user", "hello")
    assert [tool.name for tool in rendered.tools] == ["get_weather"]
    assert await said(julep, session.id) == []


@about("sessions.chat", "sessions.render", "agents.docs.create")
async def test_documents_of_the_agent_are_recalled_and_told(julep: Sdk) -> None:
    agent = await julep.agents.create(name="Ada", model="mock")
    doc = await julep.agents.docs.create(agent.id, title="Hours", content="The library opens at nine.")
    session = await julep.sessions.create(agent=agent.id, recall_options={"mode": "text", "limit": 2})
    asks = [{"role": "user", "content": "When does the library open?"}]
    answer = await julep.sessions.chat(session.id, messages=asks)
    assert [found.id for found in answer.docs] == [doc.id]
    without = await julep.sessions.chat(session.id, messages=asks, recall=False)
    assert not without.docs
    rendered = await julep.sessions.render(session.id, messages=asks)
    assert "The library opens at nine." in str(rendered.messages)


@about("healthz.check")
async def test_the_health_check_answers(julep: Sdk) -> None:
    assert await julep.healthz.check()
