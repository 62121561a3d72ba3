"""System tools for sessions: a task begins one, talks in it, reads it and deletes it, within its own bound."""

from __future__ import annotations

from typing import Any

from engine.control.agents import AgentService
from engine.control.sessions.sessions import Members, SessionService
from engine.edge.mockllm.script import MockRule, MockScript
from engine.settings import BackendConfig, Project, ToolsConfig
from engine.store.agents import AgentStore
from tests.support.lab import TENANT, Lab, plan_of

NAMES = ("create", "update", "chat", "history", "list", "get", "delete", "create_or_update")
TOOLS = "\n".join(
    f"  - {{name: {name}, type: system, system: {{resource: session, operation: {name}}}}}" for name in NAMES
)
TALK = f"""\
name: talk
dialect: julep-2025
tools:
{TOOLS}
main:
  - label: begun
    tool: create
    arguments:
      agent: $ _.agent
      situation: at the desk
      metadata: "$ dict(by='task')"
  - label: first
    tool: chat
    arguments:
      session_id: $ steps['begun'].output.id
      messages: "$ [dict(role='user', content='Hello')]"
  - tool: update
    arguments:
      session_id: $ steps['begun'].output.id
      data: {{situation: leaving}}
  - label: said
    tool: history
    arguments:
      session_id: $ steps['begun'].output.id
  - label: listed
    tool: list
    arguments:
      metadata_filter: "$ dict(by='task')"
  - label: gone
    tool: delete
    arguments:
      session_id: $ steps['begun'].output.id
  - evaluate:
      answer: $ steps['first'].output.choices[0].message.content
      said: $ [entry.content for entry in steps['said'].output.entries]
      listed: $ [session.situation for session in steps['listed'].output]
      gone: $ steps['gone'].output.id == steps['begun'].output.id
"""


def permit(lab: Lab, *globs: str) -> None:
    model = BackendConfig(base_url=lab.llm_url, default_model="mock")
    lab.project = Project(backends={"mock": model}, http=lab.http, tools=ToolsConfig(system=list(globs)))


async def agent(lab: Lab) -> str:
    """Make an agent and return its id."""
    made = await AgentService(AgentStore(lab.store.database)).create({"name": "Ada"}, tenant=TENANT)
    return made.id


async def run(lab: Lab, text: str, given: Any = None) -> Any:
    async with lab.worker():
        ended = await lab.run(plan_of(text), given)
    return ended.output if ended.error is None else ended.error["code"]


async def test_a_task_begins_a_session_talks_reads_and_deletes_it(lab: Lab) -> None:
    permit(lab, "session.*")
    told = await run(lab, TALK, {"agent": await agent(lab)})
    assert told == {"answer": "Hello", "said": ["Hello", "Hello"], "listed": ["leaving"], "gone": True}
    assert len(lab.mock.calls) == 1
    assert await SessionService(lab.store.database).page(tenant=TENANT) == []


async def test_a_task_reads_sessions_but_writes_only_where_the_operator_permits_it(lab: Lab) -> None:
    service = SessionService(lab.store.database)
    session = await service.create(Members(agent=await agent(lab)), {}, tenant=TENANT)
    text = f"name: t\ntools:\n{TOOLS}\nmain: [{{tool: get, arguments: {{id: {session.id}}}}}]"
    assert (await run(lab, text))["id"] == session.id
    hello = "[{role: user, content: Hello}]"
    for name, more in (("chat", f", messages: {hello}"), ("delete", "")):
        other = text.replace("tool: get", f"tool: {name}").replace(session.id, session.id + more)
        assert await run(lab, other) == "authority.denied", name
    permit(lab, "session.*")
    bounded = text.replace("tool: get", "tool: delete").replace("name: t\n", "name: t\nallow: {tools: [delete]}\n")
    assert await run(lab, bounded) == "authority.denied"


async def test_a_model_that_refuses_fails_the_call_with_its_reason(lab: Lab) -> None:
    permit(lab, "session.*")
    lab.mock.use(MockScript(rules=[MockRule(status=400)]))
    assert await run(lab, TALK, {"agent": await agent(lab)}) == "backend.refused"
