"""Tasks with all that the notebooks of Julep's documentation show, created and run through its SDK as they do it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from julep import BadRequestError, DefaultHttpxClient, Julep
from julep.types import Execution

from engine.core.spec.nodes import node_to_json
from engine.source.parse import parse_source
from tests.backends.smtp_receiver import MailServer
from tests.julep.installation import installation
from tests.julep.services import KEYS, Services, mails, services
from tests.support.patience import PATIENCE_S

TASKS = Path(__file__).parent / "tasks"
PROJECT = """
[http]
allow = ["127.0.0.1:*"]
[backends.mock]
base_url = "MODEL"
default_model = "mock"
[tools]
system = ["*"]
[tools.integrations.web]
[tools.integrations.arxiv]
base_url = "SERVICE/arxiv"
[tools.integrations.brave]
base_url = "SERVICE/brave"
api_key_env = "NO_KEY_OF_THE_OPERATOR"
[tools.integrations.weather]
base_url = "SERVICE/weather"
api_key_env = "NO_KEY_OF_THE_OPERATOR"
[tools.integrations.email]
host = "127.0.0.1"
tls = "none"
"""
CLICK = {"name": "computer", "arguments": {"action": "click"}}
SCRIPT: dict[str, Any] = {
    "rules": [
        {
            "match": "How warm is it in Ghent",
            "turn": 0,
            "tool_calls": [{"name": "get_warmth", "arguments": {"params": {"q": "Ghent"}}}],
        },
        {"match": "How warm is it in Ghent", "turn": 1, "reply": "12.5 degrees"},
        {"match": "Write a mail as JSON", "json": {"subject": "Re: tea", "body": "{last}"}},
        {"match": "Edits as JSON", "json": {"edits": ["crop", "fade"]}},
        {"match": "buy tea", "tool_calls": [CLICK, {"name": "computer", "arguments": {"action": "type"}}]},
        {"match": "did type", "tool_calls": [CLICK]},
        {"match": "did click", "reply": "it is bought"},
    ]
}
ENDED = ("succeeded", "failed", "cancelled")


@dataclass
class World:
    """An installation, and what its tasks reach.

    Attributes:
        julep: The SDK.
        services: The services.
        mails: The mail server.
        agent: Id of the agent.
    """

    julep: Julep
    services: Services
    mails: MailServer
    agent: str

    def task(self, name: str) -> dict[str, Any]:
        """Return a task of the folder as its author would have read it from a file."""
        text = (TASKS / f"{name}.yaml").read_text(encoding="utf-8")
        text = text.replace("SERVICE", self.services.url).replace("MAIL_PORT", str(self.mails.port))
        task: dict[str, Any] = node_to_json(parse_source(text, name))
        return task

    def begin(self, name: str, given: dict[str, Any]) -> Execution:
        """Create a task and start it."""
        task = self.julep.tasks.create(agent_id=self.agent, **self.task(name))
        return self.julep.executions.create(task_id=task.id, input=given)

    def poll(self, execution: Execution, *statuses: str) -> Execution:
        """Ask for an execution again and again, as the documentation does."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            found = self.julep.executions.get(execution.id)
            if found.status in (statuses or ENDED):
                return found
            assert found.status not in ENDED, found
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def run(self, name: str, **given: Any) -> Any:
        """Run a task of the folder to its end and return its output."""
        ended = self.poll(self.begin(name, given))
        assert ended.status == "succeeded", ended
        return ended.output


@pytest.fixture(scope="module")
def world(temporal_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("fifteen")
    with services() as served, mails() as taken:
        project = PROJECT.replace("SERVICE", served.url)
        with installation(folder, temporal_address, project=project, script_of=SCRIPT) as running:
            key = running.new_key()
            http = DefaultHttpxClient(trust_env=False)
            strict: dict[str, Any] = {"_strict_response_validation": True, "max_retries": 0}
            with Julep(base_url=running.url, api_key=key.text, http_client=http, timeout=PATIENCE_S, **strict) as julep:
                agent = julep.agents.create(name="Ada", about="you know tea.", model="mock")
                for name, value in KEYS.items():
                    julep.secrets.create(name=f"{name}_key", value=value)
                yield World(julep, served, taken, agent.id)


# --- prompts and tools ----------------------------------------------------------------------------------------------


def test_a_prompt_tells_about_the_input(world: World) -> None:
    assert world.run("simple_task", topic="tea") == "Tell me about tea in one sentence."


def test_an_input_that_does_not_fit_is_refused_before_anything_starts(world: World) -> None:
    task = world.julep.tasks.create(agent_id=world.agent, **world.task("simple_task"))
    with pytest.raises(BadRequestError):
        world.julep.executions.create(task_id=task.id, input={"topic": 3})
    assert list(world.julep.executions.list(task.id)) == []


def test_the_model_chooses_a_tool_of_the_agent(world: World) -> None:
    call: Any = {"method": "GET", "url": f"{world.services.url}/weather/weather", "params": {"appid": KEYS["weather"]}}
    world.julep.agents.tools.create(world.agent, name="get_warmth", type="api_call", api_call=call)
    assert world.run("tool_choice", city="Ghent") == "12.5 degrees"
    assert ("/weather/weather", {"appid": KEYS["weather"], "q": "Ghent"}) in world.services.asked


def test_prompts_run_side_by_side_and_come_back_in_order(world: World) -> None:
    output = world.run("parallel_prompts", texts=["a", "b", "c"])
    assert output == {"summaries": ["Summarise: a", "Summarise: b", "Summarise: c"], "count": 3}


def test_a_page_is_read_and_told(world: World) -> None:
    output = world.run("crawler", url=f"{world.services.url}/page.html")
    assert "Hot water on leaves." in output


def test_a_trip_is_planned_of_weather_and_sights(world: World) -> None:
    output = world.run("trip", locations=["Ghent", "Bruges"])
    first, second = output["plan"].split("\n---\n")
    assert first.startswith("Plan a day in Ghent: In Ghent: rain, 12.5 °C")
    assert "On sights in Bruges" in second


def test_an_api_is_called_with_parameters_and_a_secret(world: World) -> None:
    assert world.run("reels", topic="tea", at_least=10) == {"hooks": ["Write a hook for: tea"], "documents": "0"}


def test_what_a_model_says_as_json_becomes_arguments_of_a_tool(world: World) -> None:
    assert world.run("video", wish="shorter", video="v1") == {"url": "https://v.example/v1/crop/fade"}


def test_a_newsletter_is_made_of_five_maps_with_an_address_for_each_item(world: World) -> None:
    output = world.run("newsletter", most=3)
    assert output == {"letter": "# First\nSum up: what page 1 says\n# Third\nSum up: what page 3 says"}
    execution = world.begin("newsletter", {"most": 1})
    world.poll(execution)
    labels = {item.step_label for item in world.julep.executions.transitions.list(execution.id)}
    assert {"stories", "ids", "details", "letter"} <= labels


# --- documents and sessions -----------------------------------------------------------------------------------------


def test_a_mail_is_answered_with_what_the_documents_know(world: World) -> None:
    world.julep.agents.docs.create(world.agent, title="Tea", content="Tea needs hot water.")
    output = world.run("email_assistant", subject="tea", **{"from": "grace@example.org"})
    assert output["success"] is True
    [mail] = world.mails.mails
    assert (mail.receivers, mail.message["Subject"]) == (["grace@example.org"], "Re: tea")
    assert "Tea needs hot water." in mail.message.get_content()


def test_what_research_finds_is_kept_for_the_user(world: World) -> None:
    user = world.julep.users.create(name="Grace", about="asks")
    output = world.run("research", questions=["tea", "milk"], user_id=user.id)
    assert output["titles"] == sorted(["Paper on tea", "Paper on milk", "On tea", "On milk"])
    kept = list(world.julep.users.docs.list(user.id, metadata_filter={"kind": "found"}))
    assert len(kept) == 4


def test_an_agent_in_a_session_acts_until_nothing_is_left_to_do(world: World) -> None:
    output = world.run("browser", goal="buy tea")
    assert output == {"said": "it is bought", "done": ["click", "type", "click"]}
    assert world.services.acts == ["click", "type", "click"]


def test_a_text_is_indexed_and_a_chat_cites_it(world: World) -> None:
    agent = world.julep.agents.create(name="Librarian", about="knows books", model="mock")
    task = world.julep.tasks.create(agent_id=agent.id, **world.task("rag_index"))
    ended = world.poll(world.julep.executions.create(task_id=task.id, input={}))
    assert ended.status == "succeeded", ended
    assert len(list(world.julep.agents.docs.list(agent.id))) == ended.output["kept"] > 0  # type: ignore[index]
    session = world.julep.sessions.create(agent=agent.id, recall_options={"mode": "text"})
    told: Any = world.julep.sessions.chat(session.id, messages=[{"role": "user", "content": "coffee beans"}])
    assert told.docs
    chunks: Any = world.julep.sessions.chat(session.id, messages=[{"role": "user", "content": "say it"}], stream=True)
    said = "".join(str(chunk.choices[0].delta.content or "") for chunk in chunks if chunk.choices)
    assert said == "say it"


def test_an_agent_greets_in_a_session(world: World) -> None:
    session = world.julep.sessions.create(agent=world.agent, situation="You are polite.")
    told: Any = world.julep.sessions.chat(session.id, messages=[{"role": "user", "content": "hello"}])
    assert told.choices[0].message.content == "hello"
    assert [entry.role for entry in world.julep.sessions.history(session.id).entries] == ["user", "assistant"]


def test_documents_are_recalled_in_a_chat(world: World) -> None:
    agent = world.julep.agents.create(name="Cook", about="cooks", model="mock")
    world.julep.agents.docs.create(agent.id, title="Soup", content="Soup needs carrots.")
    session = world.julep.sessions.create(agent=agent.id, recall_options={"mode": "text"})
    told: Any = world.julep.sessions.chat(session.id, messages=[{"role": "user", "content": "carrots"}])
    assert [doc.title for doc in told.docs or []] == ["Soup"]


def test_a_companion_learns_about_its_user(world: World) -> None:
    user = world.julep.users.create(name="Linus", about="new")
    session = world.julep.sessions.create(agent=world.agent, user=user.id, situation="You meet.")
    world.julep.sessions.chat(session.id, messages=[{"role": "user", "content": "I like tea"}])
    assert world.run("companion", session_id=session.id, user_id=user.id) == {"memories": "1"}
    assert "I like tea" in str(world.julep.users.get(user.id).about)
    assert world.julep.sessions.get(session.id).situation == "You remember 1 things."


# --- what no notebook shows -----------------------------------------------------------------------------------------


def test_an_order_waits_for_a_person_and_for_the_client_itself(world: World) -> None:
    execution = world.begin("order", {"amount": 50})
    world.poll(execution, "awaiting_input")
    [wait] = [item for item in world.julep.executions.transitions.list(execution.id) if item.type == "wait"]
    assert wait.output == {"question": "Pay 50?"}
    world.julep.executions.change_status(execution.id, status="running", input={"ok": True})
    deadline = time.monotonic() + PATIENCE_S
    while len(calls := _function_calls(world, execution)) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "pay" in json.dumps(calls[0])
    world.poll(execution, "awaiting_input")
    world.julep.executions.change_status(execution.id, status="running", input={"receipt": "r-1"})
    ended = world.poll(execution)
    assert ended.output == {"paid": "50", "receipt": "r-1"}


def _function_calls(world: World, execution: Execution) -> list[Any]:
    waits = [item for item in world.julep.executions.transitions.list(execution.id) if item.type == "wait"]
    return [item.output for item in waits if "pay" in json.dumps(item.output)]


@pytest.mark.parametrize(
    ("amount", "status", "output"), [(5, "succeeded", {"paid": "no need"}), (5000, "failed", None)]
)
def test_a_switch_ends_an_order_early(world: World, amount: int, status: str, output: Any) -> None:
    ended = world.poll(world.begin("order", {"amount": amount}))
    assert ended.status == status
    if output is not None:
        assert ended.output == output
    else:
        assert "5000 is too much" in str(ended.error)


@pytest.mark.parametrize(
    "step",
    [
        {"sleep": {"days": 3}},
        {"wait_for_input": {"info": {"q": "why"}}},
        {"over": "$ [1, 2]", "map": {"workflow": "rest", "arguments": "_"}},
    ],
    ids=["sleep", "wait", "map"],
)
def test_what_waits_can_be_cancelled(world: World, step: Any) -> None:
    rest: Any = [{"sleep": {"days": 1}}]
    more: dict[str, Any] = {"rest": rest} if "over" in step else {}
    task = world.julep.tasks.create(agent_id=world.agent, name="waits", main=[step], **more)
    execution = world.julep.executions.create(task_id=task.id, input={})
    world.poll(execution, "starting", "running", "awaiting_input")
    world.julep.executions.change_status(execution.id, status="cancelled", reason="not needed")
    assert world.poll(execution).status == "cancelled"
    assert [event.status for event in world.julep.executions.status.stream(execution.id)] == ["cancelled"]


def test_an_update_makes_a_version_and_executions_keep_theirs(world: World) -> None:
    wait: Any = {"wait_for_input": {"info": {"q": "go on"}}}
    chosen = world.julep.tasks.create(agent_id=world.agent, name="v", main=[wait, {"return": {"v": "one"}}])
    execution = world.julep.executions.create(task_id=chosen.id, input={})
    world.poll(execution, "awaiting_input")
    new: Any = [{"return": {"v": "two"}}]
    changed = world.julep.tasks.create_or_update(chosen.id, agent_id=world.agent, name="v", main=new)
    assert changed.id == chosen.id
    world.julep.executions.change_status(execution.id, status="running", input={})
    assert world.poll(execution).output == {"v": "one"}
    again = world.julep.executions.create(task_id=chosen.id, input={})
    assert world.poll(again).output == {"v": "two"}


def test_a_later_change_of_an_agent_s_tool_holds_for_new_executions(world: World) -> None:
    agent = world.julep.agents.create(name="Actor", about="acts", model="mock")
    call: Any = {"method": "POST", "url": f"{world.services.url}/act", "json": {"action": "first"}}
    tool = world.julep.agents.tools.create(agent.id, name="act", type="api_call", api_call=call)
    main: Any = [{"tool": "act", "arguments": {}}, {"evaluate": {"did": "$ _.json.did"}}]
    task = world.julep.tasks.create(agent_id=agent.id, name="acts", main=main, inherit_tools=True)
    assert world.poll(world.julep.executions.create(task_id=task.id, input={})).output == {"did": "first"}
    changed: Any = {**call, "json": {"action": "second"}}
    world.julep.agents.tools.update(tool.id, agent_id=agent.id, api_call=changed)
    assert world.poll(world.julep.executions.create(task_id=task.id, input={})).output == {"did": "second"}
