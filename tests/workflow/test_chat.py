"""Chats in sessions, by the real SDK: answered once, kept in order, with tools of the client and of the engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import julep
import pytest
from julep import AsyncJulep

from engine.edge.mockllm.script import MockRule, MockScript, MockToolCall
from engine.store.chat_turns import TurnFacts, TurnStore
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.doors import eventually
from tests.support.lab import TENANT, Lab

WEATHER = {
    "name": "weather",
    "type": "function",
    "description": "Tells the weather.",
    "function": {"parameters": {"type": "object", "properties": {"place": {"type": "string"}}}},
}
"""A function of the client."""
SEARCH = {"name": "search", "type": "integration", "integration": {"provider": "brave", "method": "search"}}
"""Something of a provider that nobody has switched on here."""
CLOCK = {"name": "clock", "type": "system", "system": {"resource": "agent", "operation": "list"}}
"""Something that the engine does itself."""


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    settings = settings_for(lab.folder, task_queue=lab.queue)
    async with lab.worker(), api_server(settings, temporal=temporal_address) as server:
        yield server


@pytest.fixture
async def client(api: ApiServer) -> AsyncIterator[AsyncJulep]:
    # tests take it as anything: an answer is typed as one of two kinds, or a stream
    options: dict[str, Any] = {"base_url": f"{api.url}/api", "max_retries": 0, "_strict_response_validation": True}
    async with AsyncJulep(api_key="any", **options) as made:
        yield made


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def call(name: str, **arguments: Any) -> MockToolCall:
    return MockToolCall(name=name, arguments=arguments)


async def begin(client: Any, **more: Any) -> str:
    """Make an agent and a session of it; return the session's id."""
    agent = await client.agents.create(name="Ada", model="mock", instructions="Be short.")
    return str((await client.sessions.create(agent=agent.id, **more)).id)


async def told(client: Any, session: str) -> list[tuple[str, Any, str]]:
    """Return role, content and source of all that was said."""
    history = await client.sessions.history(session)
    return [(entry.role, entry.content, entry.source) for entry in history.entries]


def asked(lab: Lab, number: int = -1) -> list[dict[str, Any]]:
    """Return the messages of a call to the model but for those of the system."""
    return [message for message in lab.mock.calls[number]["messages"] if message["role"] != "system"]


async def test_what_is_said_is_answered_and_both_stand_in_the_history(client: Any, lab: Lab) -> None:
    session = await begin(client)
    first = await client.sessions.chat(session, messages=[user("Hello {{ you }}, {you}")])
    choice = first.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Hello {{ you }}, {you}", "stop")
    assert first.usage is not None
    assert first.usage.total_tokens
    await client.sessions.chat(session, messages=[user("And again")])
    history = await client.sessions.history(session)
    said = [(entry.role, entry.content, entry.source, entry.name) for entry in history.entries]
    assert said == [
        ("user", "Hello {{ you }}, {you}", "api_request", None),
        ("assistant", "Hello {{ you }}, {you}", "api_response", "Ada"),
        ("user", "And again", "api_request", None),
        ("assistant", "And again", "api_response", "Ada"),
    ]
    assert [message["content"] for message in asked(lab)] == ["Hello {{ you }}, {you}"] * 2 + ["And again"]
    assert all(entry.token_count > 0 for entry in history.entries)


async def test_a_turn_is_an_execution_that_belongs_to_no_task(client: Any, api: ApiServer) -> None:
    session = await begin(client)
    answer = await client.sessions.chat(session, messages=[user("Hello")], metadata={"for": "a test"})
    shown = (await api.http.get(f"/executions/{answer.id}")).json()
    assert (shown["task_name"], shown["labels"], shown["status"]) == ("chat", ["chat"], "succeeded")
    assert shown["metadata"] == {"for": "a test", "session_id": session}
    listed = (await api.http.get("/executions", params={"label": "chat"})).json()["items"]
    assert [item["id"] for item in listed] == [answer.id]
    assert (await api.http.get("/tasks")).json()["items"] == []
    for path in ("steps", "history", "transitions", "events"):
        assert (await api.http.get(f"/executions/{answer.id}/{path}")).status_code == 200, path


@pytest.mark.usefixtures("both_stores")
async def test_turns_of_a_session_run_one_after_another_and_those_of_others_do_not_wait(client: Any, lab: Lab) -> None:
    session, other = await begin(client), await begin(client)
    turns = TurnStore(lab.store.database)
    given: dict[str, Any] = {"id": "first", "tenant": TENANT, "session_id": session, "saved": True, "request": {}}
    # one that somebody else works on
    first = await turns.accept(TurnFacts(**given, lease_us=2**62, created_us=1, updated_us=1))
    later = [asyncio.create_task(client.sessions.chat(session, messages=[user(text)])) for text in ("one", "two")]
    await client.sessions.chat(other, messages=[user("elsewhere")])
    await client.sessions.chat(session, messages=[user("by the way")], save=False)
    assert [message["content"] for call in range(2) for message in asked(lab, call)] == ["elsewhere", "by the way"]
    assert not any(task.done() for task in later)
    await turns.fail(first, {"code": "x"}, now_us=2)
    await asyncio.gather(*later)
    said = [content for _, content, _ in await told(client, session)]
    assert said in (["one", "one", "two", "two"], ["two", "two", "one", "one"])
    assert [message["content"] for message in asked(lab)] == said[:3]


async def _calls(lab: Lab, count: int) -> bool:
    return len(lab.mock.calls) >= count


@pytest.mark.usefixtures("both_stores")
async def test_the_same_key_asks_once_and_gets_the_same_answer(client: Any, lab: Lab, api: ApiServer) -> None:
    session = await begin(client)
    body = {"messages": [user("Hello")]}

    async def ask(key: str = "k1", **more: Any) -> Any:
        return await api.http.post(f"/sessions/{session}/chat", json=body | more, headers={"Idempotency-Key": key})

    answers = await asyncio.gather(*(ask() for _ in range(4)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert len(lab.mock.calls) == 1
    assert len(await told(client, session)) == 2
    other = await ask(messages=[user("Something else")])
    assert (other.status_code, other.json()["code"]) == (409, "idempotency.key_reused")


async def test_a_refusal_of_the_model_is_told_once_and_leaves_nothing_in_the_history(
    client: Any, lab: Lab, api: ApiServer
) -> None:
    lab.mock.use(MockScript(rules=[MockRule(match="bad", status=400)]))
    session = await begin(client)
    patient = client.with_options(max_retries=2)
    with pytest.raises(julep.BadRequestError) as refused:
        await patient.sessions.chat(session, messages=[user("bad")])
    body: Any = refused.value.body
    assert body["error"]["code"] == "backend.refused"
    assert len(lab.mock.calls) == 1
    assert await told(client, session) == []
    assert (await client.sessions.chat(session, messages=[user("good")])).choices[0].message.content == "good"


async def test_what_is_not_saved_is_answered_from_the_history_and_not_in_it(client: Any, lab: Lab) -> None:
    session = await begin(client)
    await client.sessions.chat(session, messages=[user("keep")])
    await client.sessions.chat(session, messages=[user("forget")], save=False)
    assert [message["content"] for message in asked(lab)] == ["keep", "keep", "forget"]
    assert [content for _, content, _ in await told(client, session)] == ["keep", "keep"]


async def test_what_is_deleted_is_forgotten_and_a_turn_under_way_of_a_deleted_session_is_told_to_nobody(
    client: Any, lab: Lab, api: ApiServer
) -> None:
    lab.mock.use(MockScript(rules=[MockRule(match="slowly", reply="late", delay_s=1.0)]))
    session = await begin(client)
    await client.sessions.chat(session, messages=[user("a secret")])
    assert (await api.http.delete(f"/sessions/{session}/history")).status_code == 202
    await client.sessions.chat(session, messages=[user("Hello")])
    assert [message["content"] for message in asked(lab)] == ["Hello"]
    answering = asyncio.create_task(client.sessions.chat(session, messages=[user("slowly")]))
    await eventually(lambda: _calls(lab, 3), "the call")
    await client.sessions.delete(session)
    with pytest.raises(julep.NotFoundError, match="there is no session"):
        await answering
    assert [found async for found in client.sessions.list()] == []


async def test_settings_of_the_request_win_over_those_of_the_agent(client: Any, lab: Lab) -> None:
    agent = await client.agents.create(
        name="Ada", model="mock", default_settings={"temperature": 0.1, "max_tokens": 50}
    )
    session = (await client.sessions.create(agent=agent.id)).id
    await client.sessions.chat(
        session,
        messages=[user("Hello")],
        model="other",
        temperature=0.7,
        seed=3,
        stop=["{{", "END"],
        response_format={"type": "json_object"},
    )
    body = lab.mock.calls[-1]["body"]
    assert (lab.mock.calls[-1]["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("other", 0.7, 50, 3)
    assert (body["stop"], body["response_format"]) == (["{{", "END"], {"type": "json_object"})


async def test_of_several_agents_the_one_that_is_asked_answers(client: Any, lab: Lab) -> None:
    ada = await client.agents.create(name="Ada", model="mock", canonical_name="ada")
    bob = await client.agents.create(name="Bob", model="other", canonical_name="bob")
    eve = await client.agents.create(name="Eve", model="mock")
    session = (await client.sessions.create(agents=[ada.id, bob.id])).id
    await client.sessions.chat(session, messages=[user("one")])
    await client.sessions.chat(session, messages=[user("two")], agent="bob")
    names = [entry.name for entry in (await client.sessions.history(session)).entries if entry.role == "assistant"]
    assert (names, lab.mock.calls[-1]["model"]) == (["Ada", "Bob"], "other")
    with pytest.raises(julep.BadRequestError, match="takes no part"):
        await client.sessions.chat(session, messages=[user("three")], agent=eve.id)


async def test_the_client_of_2024_reads_whole_messages_as_deltas(client: Any, api: ApiServer) -> None:
    session, headers = await begin(client), {"X-Fern-Language": "Python"}
    body = {"messages": [{"role": "agent", "content": "Hm."}, user("Hello")], "remember": True, "preset": "fun"}
    answer = (await api.http.post(f"/sessions/{session}/chat", json=body, headers=headers)).json()
    delta = answer["choices"][0]["delta"]
    assert (delta["role"], delta["content"], delta["tool_calls"]) == ("agent", "Hello", [])
    assert {"id", "created_at"} <= delta.keys()
    assert {"id", "created_at", "jobs", "docs", "usage"} <= answer.keys()
    history = (await api.http.get(f"/sessions/{session}/history", headers=headers)).json()
    assert [entry["role"] for entry in history["entries"]] == ["agent", "user", "agent"]
    assert all(isinstance(entry["timestamp"], float) for entry in history["entries"])
    assert history["relations"] == []


# --- tools -----------------------------------------------------------------------------------------------------------


async def test_a_client_runs_its_functions_and_brings_the_results(client: Any, lab: Lab) -> None:
    wanted = MockRule(turn=0, tool_calls=[call("weather", place="Ghent")])
    lab.mock.use(MockScript(rules=[wanted, MockRule(reply="Take a coat")]))
    agent = await client.agents.create(name="Ada", model="mock")
    await client.agents.tools.create(agent.id, **WEATHER)
    session = (await client.sessions.create(agent=agent.id)).id
    first = await client.sessions.chat(session, messages=[user("Ghent?")])
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    (made,) = choice.message.tool_calls
    assert (made.function.name, json.loads(made.function.arguments)) == ("weather", {"place": "Ghent"})
    result = {"role": "tool", "tool_call_id": made.id, "content": "rain"}
    second = await client.sessions.chat(session, messages=[result])
    assert second.choices[0].message.content == "Take a coat"
    assert [message["role"] for message in asked(lab)] == ["user", "assistant", "tool"]
    assert asked(lab)[1]["tool_calls"][0]["id"] == asked(lab)[2]["tool_call_id"] == made.id
    assert [(role, source) for role, _, source in await told(client, session)] == [
        ("user", "api_request"),
        ("assistant", "api_response"),
        ("tool", "tool_response"),
        ("assistant", "api_response"),
    ]


@pytest.mark.parametrize("said_by", ["session", "request"])
async def test_tools_are_run_until_the_model_answers_if_the_session_or_the_request_says_so(
    client: Any, lab: Lab, said_by: str
) -> None:
    lab.mock.use(MockScript(rules=[MockRule(turn=0, tool_calls=[call("clock")]), MockRule(reply="You are one of 1")]))
    session = await begin(client, auto_run_tools=said_by == "session")
    more: dict[str, Any] = {} if said_by == "session" else {"auto_run_tools": True}
    answer = await client.sessions.chat(session, messages=[user("who?")], tools=[CLOCK], **more)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("You are one of 1", "stop")
    roles = [(role, source) for role, _, source in await told(client, session)]
    assert roles == [
        ("user", "api_request"),
        ("assistant", "api_response"),
        ("tool", "tool_response"),
        ("assistant", "api_response"),
    ]
    assert "Ada" in (await told(client, session))[2][1]


async def test_tools_are_not_run_if_the_request_says_so_whatever_the_session_says(client: Any, lab: Lab) -> None:
    lab.mock.use(MockScript(rules=[MockRule(turn=0, tool_calls=[call("clock")])]))
    session = await begin(client, auto_run_tools=True)
    answer = await client.sessions.chat(session, messages=[user("who?")], tools=[CLOCK], auto_run_tools=False)
    assert answer.choices[0].finish_reason == "tool_calls"


async def test_a_function_of_the_client_ends_a_turn_after_the_tools_beside_it_were_run(client: Any, lab: Lab) -> None:
    both = [call("clock"), call("weather", place="Ghent")]
    lab.mock.use(MockScript(rules=[MockRule(turn=0, tool_calls=both), MockRule(reply="Done")]))
    session, tools = await begin(client, auto_run_tools=True), [CLOCK, WEATHER]
    first = await client.sessions.chat(session, messages=[user("both")], tools=tools)
    assert first.choices[0].finish_reason == "tool_calls"
    (left,) = first.choices[0].message.tool_calls
    assert left.function.name == "weather"
    assert [role for role, _, _ in await told(client, session)] == ["user", "assistant", "tool"]
    result = {"role": "tool", "tool_call_id": left.id, "content": "rain"}
    last = await client.sessions.chat(session, messages=[result], tools=tools)
    assert last.choices[0].message.content == "Done"
    assert [message["role"] for message in asked(lab)] == ["user", "assistant", "tool", "tool"]


async def test_a_named_tool_must_be_called_and_none_means_none(client: Any, lab: Lab) -> None:
    session, chosen = await begin(client), {"type": "function", "function": {"name": "weather"}}
    await client.sessions.chat(session, messages=[user("a")], tools=[WEATHER], tool_choice=chosen)
    assert lab.mock.calls[-1]["body"]["tool_choice"] == chosen
    await client.sessions.chat(session, messages=[user("b")], tools=[WEATHER], tool_choice="none", auto_run_tools=True)
    assert lab.mock.calls[-1]["body"]["tool_choice"] == "none"


async def test_a_tool_that_cannot_be_offered_is_refused_with_the_reason(client: Any, lab: Lab) -> None:
    session, wrong = await begin(client), {"name": "no name", "type": "function", "function": {}}
    with pytest.raises(julep.BadRequestError, match="not a name for a tool"):
        await client.sessions.chat(session, messages=[user("a")], tools=[wrong])
    assert lab.mock.calls == []


@pytest.mark.parametrize("runs", [True, False])
async def test_a_tool_of_the_agent_that_cannot_be_offered_is_left_out_and_told_with_the_reason(
    client: Any, api: ApiServer, lab: Lab, runs: bool
) -> None:
    agent = await client.agents.create(name="Ada", model="mock")
    for tool in (SEARCH, WEATHER):
        await client.agents.tools.create(agent.id, **tool)
    session = (await client.sessions.create(agent=agent.id, auto_run_tools=runs)).id
    answer = await client.sessions.chat(session, messages=[user("a")])
    assert [tool["function"]["name"] for tool in lab.mock.calls[-1]["body"]["tools"]] == ["weather"]
    rendered = await client.sessions.render(session, messages=[user("a")])
    assert [tool.name for tool in rendered.tools] == ["weather"]
    [left_out] = (await api.http.get(f"/executions/{answer.id}")).json()["metadata"]["left_out"]
    assert (left_out["name"], rendered.left_out) == ("search", [left_out])
    assert "'brave' is switched on" in left_out["message"]
    # what a request asks for itself is not taken away from it
    with pytest.raises(julep.BadRequestError, match="'brave' is switched on"):
        await client.sessions.chat(session, messages=[user("a")], tools=[SEARCH])


async def test_a_key_of_the_caller_is_refused_since_histories_would_keep_it(client: Any, lab: Lab) -> None:
    session = await begin(client)
    with pytest.raises(julep.BadRequestError, match="X-Custom-Api-Key"):
        await client.sessions.chat(session, messages=[user("a")], x_custom_api_key="sk-mine")
    assert lab.mock.calls == []
