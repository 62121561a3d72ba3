"""`POST /sessions/{id}/render`, by Julep's own client: what a turn would send, without asking anybody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from julep import AsyncJulep, BadRequestError, DefaultAsyncHttpxClient, NotFoundError

from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.lab import Lab

HELLO = [{"role": "user", "content": "When do you open?"}]
HOURS = {"title": "Opening hours", "content": "We open at nine."}
WEATHER = {"name": "weather", "type": "function", "function": {"parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@pytest.fixture
async def julep(api: ApiServer) -> AsyncIterator[Any]:
    options: dict[str, Any] = {"max_retries": 0, "_strict_response_validation": True}
    http = DefaultAsyncHttpxClient(trust_env=False)
    # what it is given is checked by the server, what it gets by its own types
    async with AsyncJulep(base_url=f"{api.url}/api", api_key="any", http_client=http, **options) as client:
        yield client


def told_by(refused: pytest.ExceptionInfo[BadRequestError]) -> Any:
    """Return the body of a refusal."""
    return refused.value.body


async def talk(julep: Any, *, agent: dict[str, Any] | None = None, **session: Any) -> Any:
    """Make an agent and a session with it."""
    made = await julep.agents.create(name="Ada", about="A librarian.", model="mock", **(agent or {}))
    return await julep.sessions.create(agent=made.id, **session)


async def test_what_is_rendered_is_the_system_message_then_what_is_said_with_the_tools_of_the_agent(
    julep: Any, api: ApiServer
) -> None:
    settings = {"temperature": 0.2, "model": "three"}
    ada = await julep.agents.create(name="Ada", instructions=["Be kind."], default_settings=settings, model="one")
    await julep.agents.tools.create(agent_id=ada.id, **WEATHER)
    bo = await julep.users.create(name="Bo", about="reads a lot")
    session = await julep.sessions.create(agent=ada.id, user=bo.id, situation="It is late.")
    made = await julep.sessions.render(session.id, messages=HELLO, tool_choice="auto")
    system, said = made.messages
    assert (system.role, said.role, said.content) == ("system", "user", HELLO[0]["content"])
    for told in ("You are Ada.", "- Be kind.", "- Bo: reads a lot", "It is late."):
        assert told in system.content
    assert [(tool.name, tool.type, tool.function.parameters["type"]) for tool in made.tools] == [
        ("weather", "function", "object")
    ]
    assert made.tool_choice == "auto"
    assert made.docs == []
    for asked, model in (({}, "three"), ({"model": "two"}, "two")):
        body = {"messages": HELLO, "top_p": 0.5, **asked}
        told = (await api.http.post(f"/sessions/{session.id}/render", json=body)).json()
        assert (told["model"], told["settings"]) == (model, {"temperature": 0.2, "top_p": 0.5})
    # nothing was asked, nothing is kept
    assert (await julep.sessions.history(session.id)).entries == []


async def test_a_template_of_the_session_is_rendered_and_messages_only_if_it_says_so(julep: Any) -> None:
    template = "{{ agent.name }} for {{ session.metadata.team }}, at {{ settings.temperature }}"
    said = [{"role": "user", "content": "I use {{ agent.name }} and {braces}"}]
    for renders, told in ((False, said[0]["content"]), (True, "I use Ada and {braces}")):
        session = await talk(julep, system_template=template, metadata={"team": "desk"}, render_templates=renders)
        made = await julep.sessions.render(session.id, messages=said, temperature=0.5)
        assert [message.content for message in made.messages] == ["Ada for desk, at 0.5", told]


async def test_documents_of_all_users_and_the_agent_that_answers_are_told_to_the_model_and_the_client(
    julep: Any,
) -> None:
    ada = await julep.agents.create(name="Ada", model="mock")
    cy = await julep.agents.create(name="Cy", canonical_name="cy", model="mock")
    bo, eve = [await julep.users.create(name=name) for name in ("Bo", "Eve")]
    hours = await julep.agents.docs.create(agent_id=ada.id, **HOURS)
    late = await julep.agents.docs.create(agent_id=cy.id, title="Late", content="On Fridays we open at ten.")
    mine = await julep.users.docs.create(user_id=eve.id, title="Eve", content="Eve comes when you open.")
    options = {"mode": "text", "limit": 5, "num_search_messages": 1}
    session = await julep.sessions.create(agents=[ada.id, cy.id], users=[bo.id, eve.id], recall_options=options)
    made = await julep.sessions.render(session.id, messages=HELLO)
    assert {(doc.id, doc.owner.role, doc.owner.id) for doc in made.docs} == {
        (hours.id, "agent", ada.id),
        (mine.id, "user", eve.id),
    }
    assert "## Opening hours\nWe open at nine." in made.messages[0].content
    other = await julep.sessions.render(session.id, messages=HELLO, agent="cy")
    assert {doc.id for doc in other.docs} == {late.id, mine.id}
    assert other.messages[0].content.startswith("You are Cy.")
    assert (await julep.sessions.render(session.id, messages=HELLO, recall=False)).docs == []
    one = await julep.sessions.update(session.id, recall_options={"limit": 1, "metadata_filter": {"no": 1}})
    assert one.recall_options.num_search_messages == 1
    assert (await julep.sessions.render(session.id, messages=HELLO)).docs == []
    await julep.sessions.update(session.id, recall_options=None)
    assert (await julep.sessions.render(session.id, messages=HELLO)).docs == []


async def test_a_prompt_beyond_the_budget_is_refused_by_the_name_that_julep_gave_it(julep: Any, api: ApiServer) -> None:
    session = await talk(julep, token_budget=50)
    with pytest.raises(BadRequestError) as refused:
        await julep.sessions.render(session.id, messages=[{"role": "user", "content": "word " * 100}])
    told = told_by(refused)["error"]
    assert (told["type"], told["code"]) == ("PromptTooBigError", "session.prompt_too_big")
    assert len((await julep.sessions.render(session.id, messages=HELLO)).messages) == 2


async def test_the_context_of_the_model_is_the_budget_if_the_session_has_none(julep: Any, api: ApiServer) -> None:
    backend = {
        "name": "small",
        "base_url": "http://127.0.0.1:1/v1",
        "models": ["tiny", "free"],
        "capabilities": {"tiny": {"context": 100}},
    }
    assert (await api.http.post("/backends", json=backend)).status_code in (200, 201)
    session = await talk(julep)
    said = [{"role": "user", "content": "word " * 60}]
    assert len((await julep.sessions.render(session.id, messages=said, model="tiny")).messages) == 2
    with pytest.raises(BadRequestError) as refused:
        await julep.sessions.render(session.id, messages=said, model="tiny", max_tokens=50)
    assert "may have 50" in told_by(refused)["error"]["message"]
    # of the one nobody knows how much it takes
    assert (await julep.sessions.render(session.id, messages=said * 10, model="free")).messages


async def test_a_template_that_no_session_could_render_is_refused_when_it_is_stored(julep: Any) -> None:
    broken = "You are {{ agnt.name }}"
    with pytest.raises(BadRequestError) as of_agent:
        await julep.agents.create(name="Ada", default_system_template=broken)
    session = await talk(julep)
    with pytest.raises(BadRequestError) as of_session:
        await julep.sessions.update(session.id, system_template=broken)
    for refused in (of_agent, of_session):
        assert told_by(refused)["code"] == "template.invalid"
        assert "line 1, column 12" in told_by(refused)["error"]["message"]


async def test_what_cannot_be_rendered_is_refused_and_unknown_sessions_are_not_found(julep: Any) -> None:
    session = await talk(julep, system_template="{{ agent.name - 1 }}")
    with pytest.raises(BadRequestError) as refused:
        await julep.sessions.render(session.id, messages=HELLO)
    assert told_by(refused)["code"] == "template.failed"
    stranger = await julep.agents.create(name="Stranger", model="mock")
    with pytest.raises(BadRequestError) as other:
        await julep.sessions.render(session.id, messages=HELLO, agent=stranger.id)
    assert told_by(other)["code"] == "session.not_member"
    with pytest.raises(NotFoundError):
        await julep.sessions.render("00000000-0000-7000-8000-000000000000", messages=HELLO)
