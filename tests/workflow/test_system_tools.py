"""System tools: tasks that work with tasks, executions and documents of their own tenant, within their own bound."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from engine.control.documents import DocumentService
from engine.control.systemdocs import SystemDocs
from engine.core.contracts.activities import CallContext
from engine.core.contracts.lookups import Owner
from engine.core.errors import CompileError
from engine.core.plan.ir import Plan
from engine.settings import Project, ToolsConfig
from engine.store.docs import DocStore
from tests.support.lab import TENANT, Ended, Lab, plan_of

HELLO = "name: hello\nmain: [{evaluate: {said: $ _.name}}]"
OTHER = "name: other\nmain: [{evaluate: $ 1}]"


def using(system: str, arguments: str = "$ _", more: str = "") -> str:
    return f"name: t\n{more}\ntools: [{{name: x, system: {system}}}]\nmain: [{{tool: x, arguments: {arguments}}}]"


async def run(lab: Lab, text: str, given: Any = None) -> Ended:
    async with lab.worker():
        return await lab.run(plan_of(text), given)


def permit(lab: Lab, *globs: str) -> None:
    lab.project = Project(http=lab.http, tools=ToolsConfig(system=list(globs)))


async def test_a_task_lists_and_shows_the_tasks_of_its_tenant_alone(lab: Lab) -> None:
    made = await lab.definitions.create_task(HELLO, tenant=TENANT)
    await lab.definitions.create_task(OTHER, tenant="another")
    listed = await run(lab, using("{resource: task, operation: list}", "{limit: 5}"))
    assert [task["name"] for task in listed.output] == ["hello"]
    shown = await run(lab, using("{resource: task, operation: get}", "{id: hello}"))
    assert (shown.output["id"], shown.output["main"][0]["evaluate"]) == (made.task.id, {"said": "$ _.name"})
    hidden = await run(lab, using("{resource: task, operation: get}", "{id: other}"))
    assert hidden.error is not None
    assert hidden.error["code"] == "task.not_found"


async def test_a_task_starts_another_one_once_and_looks_at_it(lab: Lab) -> None:
    await lab.definitions.create_task(HELLO, tenant=TENANT)
    system = "{resource: task, subresource: execution, operation: create, resource_id: hello}"
    async with lab.worker():
        handle = await lab.start(plan_of(using(system, "{input: {name: Ada}, labels: [made]}")))
        started = (await lab.end_of(handle)).output
        assert started["task"] == "hello"
        other = lab.client.get_workflow_handle(started["id"])
        assert (await lab.end_of(other)).output == {"said": "Ada"}
        await lab.until(other, "finish")
        shown = await lab.run(plan_of(using("{resource: execution, operation: get}", "{id: $ _}")), started["id"])
        assert (shown.output["id"], shown.output["input"]) == (started["id"], {"name": "Ada"})
        listed = await lab.run(plan_of(using("{resource: execution, operation: list}", "{task: hello}")))
    assert [item["id"] for item in listed.output] == [started["id"]]


async def test_tasks_are_written_only_where_the_operator_permits_it(lab: Lab) -> None:
    text = using("{resource: task, operation: create}", "{task: $ _}")
    refused = await run(lab, text, HELLO)
    assert refused.error is not None
    assert (refused.error["code"], "task.create" in refused.error["hint"]) == ("authority.denied", True)
    permit(lab, "task.*")
    made = await run(lab, text, {"name": "hello", "main": [{"evaluate": 1}]})
    assert made.output["version"] == 1
    changed = await run(lab, using("{resource: task, operation: update, resource_id: hello}", "{task: $ _}"), HELLO)
    assert (changed.output["id"], changed.output["version"]) == (made.output["id"], 2)
    gone = await run(lab, using("{resource: task, operation: delete}", "{id: hello}"))
    assert gone.output == {"id": made.output["id"], "name": "hello"}
    assert await lab.definitions.definitions.list_tasks(tenant=TENANT) == []


async def test_a_bounded_task_gets_no_further_than_its_bound(lab: Lab) -> None:
    permit(lab, "*")
    await lab.definitions.create_task(HELLO, tenant=TENANT)
    await lab.definitions.create_task(OTHER, tenant=TENANT)
    await lab.definitions.create_task("name: wide\nmain: [{prompt: hi, model: big}]", tenant=TENANT)
    bound = "allow: {tools: [x], tasks: [hello, wide], models: []}"
    listed = await run(lab, using("{resource: task, operation: list}", "{}", bound))
    assert {task["name"] for task in listed.output} == {"hello", "wide"}
    create = "{resource: execution, operation: create}"
    started = await run(lab, using(create, "{task: hello, input: {name: Bo}}", bound))
    assert started.output["task"] == "hello"
    cases = {
        using(create, "{task: other}", bound): "may not run the task 'other'",
        using(create, "{task: wide}", bound): "may touch more",
        using("{resource: task, operation: create}", "{task: x}", bound): "may not create tasks",
        using("{resource: task, operation: delete}", "{id: hello}", bound): "may not remove tasks",
    }
    for text, said in cases.items():
        ended = await run(lab, text)
        assert ended.error is not None, text
        assert (ended.error["code"], said in ended.error["message"]) == ("authority.denied", True), ended.error


@pytest.mark.parametrize(
    ("system", "code"),
    [
        ("{resource: session, operation: embed}", "E207"),
        ("{resource: task}", "E202"),
        ("{resource: task, operation: get, arguments: {nam: x}}", "E505"),
        ("list", "E203"),
    ],
)
def test_what_is_not_there_is_told_when_the_task_is_read(system: str, code: str) -> None:
    with pytest.raises(CompileError) as caught:
        plan_of(using(system))
    assert [item.code for item in caught.value.diagnostics] == [code]


def test_what_the_definition_fixes_is_no_argument() -> None:
    plan: Plan = plan_of(using("{resource: task, operation: get, resource_id: hello}", "{}"))
    assert plan.tools["x"].parameters == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }


# --- documents -----------------------------------------------------------------------------------------------------


def about(operation: str, arguments: str = "{}", *, owner: str = "user, subresource: doc, resource_id: ada") -> str:
    return using(f"{{resource: {owner}, operation: {operation}}}", arguments)


async def test_a_task_keeps_finds_and_deletes_the_documents_of_a_user(lab: Lab) -> None:
    permit(lab, "*")
    given = {"content": ["Cats hunt at dusk.", "They sleep all day."], "title": "Cats", "metadata": {"kind": "pet"}}
    made = (await run(lab, about("create", "$ _"), given)).output
    assert (made["owner"], made["pieces"], made["title"]) == ({"kind": "user", "id": "ada"}, 2, "Cats")
    await run(lab, about("create", "{content: Dogs bark.}"))
    listed = await run(lab, about("list", "{metadata_filter: {kind: pet}}"))
    assert [(doc["id"], doc["content"]) for doc in listed.output] == [(made["id"], given["content"])]
    assert made["content"] == given["content"]
    assert len((await run(lab, about("list", "{limit: 1, offset: 1}"))).output) == 1
    shown = await run(lab, about("get", "{id: $ _}"), made["id"])
    assert [piece["content"] for piece in shown.output["snippets"]] == given["content"]
    found = await run(lab, about("search", "{text: dusk, alpha: 0}"))
    assert [(doc["id"], doc["snippet"]["index"]) for doc in found.output["docs"]] == [(made["id"], 0)]
    gone = await run(lab, about("delete", "{id: $ _}"), made["id"])
    assert gone.output == {"id": made["id"], "title": "Cats"}
    assert [(doc["title"], doc["content"]) for doc in (await run(lab, about("list"))).output] == [("", "Dogs bark.")]


async def test_a_document_is_added_once_however_often_its_call_is_made(lab: Lab) -> None:
    context = CallContext(tenant=TENANT, execution_id="e", path="main.0", key="e:main.0")
    docs = SystemDocs(DocumentService(DocStore(lab.store.database)))
    made = [await docs.run("user.doc.create", {"user": "ada", "content": "Cats."}, context) for _ in range(2)]
    assert made[0] == made[1]
    assert len(await DocStore(lab.store.database).page(tenant=TENANT)) == 1


@pytest.mark.parametrize("owner", ["agent, subresource: doc, resource_id: ada", "doc"])
async def test_documents_of_others_are_not_there(lab: Lab, owner: str) -> None:
    permit(lab, "*")
    service = DocumentService(DocStore(lab.store.database))
    theirs = await service.add("Cats hunt.", tenant=TENANT, owner=Owner(kind="user", id="ada"))
    foreign = await service.add("Cats hunt.", tenant="another", owner=Owner())
    for doc in (theirs, foreign):
        for operation in ("get", "delete"):
            ended = await run(lab, about(operation, "{id: $ _}", owner=owner), doc.id)
            assert ended.error is not None
            assert ended.error["code"] == "doc.not_found"
    assert (await run(lab, about("list", owner=owner))).output == []
    assert (await run(lab, about("search", "{text: cats, alpha: 0}", owner=owner))).output == {"docs": []}
    assert len(await service.store.page(tenant=TENANT)) == 1


async def test_documents_are_read_unless_the_operator_says_otherwise_and_written_only_if_he_does(lab: Lab) -> None:
    for operation, arguments in {"create": "{content: x}", "delete": "{id: x}"}.items():
        ended = await run(lab, about(operation, arguments))
        assert ended.error is not None
        assert (ended.error["code"], f"user.doc.{operation}" in ended.error["hint"]) == ("authority.denied", True)
    assert (await run(lab, about("search", "{text: cats}"))).output == {"docs": []}
    permit(lab, "user.doc.list")
    ended = await run(lab, about("search", "{text: cats}"))
    assert ended.error is not None
    assert ended.error["code"] == "authority.denied"


async def test_a_search_by_meaning_asks_no_model_beyond_the_bound(lab: Lab) -> None:
    store = DocStore(lab.store.database)
    await DocumentService(store).add("Felines hunt.", tenant=TENANT, owner=Owner(kind="user", id="ada"))
    async with lab.worker():
        await lab.embed_documents()
        open_task = about("search", "{text: a cat on the prowl, alpha: 1}")
        found = await lab.run(plan_of(open_task))
        bounded = await lab.run(plan_of(f"allow: {{tools: [x], models: [big]}}\n{open_task}"))
    assert [doc["snippet"]["content"] for doc in found.output["docs"]] == ["Felines hunt."]
    assert bounded.error is not None
    assert bounded.error["code"] == "authority.denied"


async def test_documents_are_searched_by_a_vector_too_and_by_nothing_they_are_not(lab: Lab) -> None:
    service = DocumentService(DocStore(lab.store.database))
    for content in ("Felines hunt.", "Invoices are due."):
        await service.add(content, tenant=TENANT, owner=Owner(kind="user", id="ada"))
    task = """\
tools:
  - {name: x, type: system, system: {resource: user, subresource: doc, operation: search, resource_id: ada}}
main:
  - embed: a cat on the prowl
  - tool: x
    arguments: {vector: "$ _.vectors[0]", limit: 1, include_embeddings: true}
"""
    async with lab.worker():
        await lab.embed_documents()
        found = await lab.run(plan_of(task))
        empty = await lab.run(plan_of(about("search", "{limit: 1}")))
    ((content, vector),) = [(doc["snippet"]["content"], doc["snippet"]["embedding"]) for doc in found.output["docs"]]
    assert (content, len(vector)) == ("Felines hunt.", 384)
    assert empty.error is not None
    assert empty.error["code"] == "search.empty"


@pytest.mark.parametrize("arguments", ["{content: ''}", "{content: []}", "{content: '  '}", "{content: x, user: bo}"])
async def test_documents_that_mean_nothing_are_refused(lab: Lab, arguments: str) -> None:
    permit(lab, "*")
    ended = await run(lab, about("create", "$ _"), yaml.safe_load(arguments))
    assert ended.error is not None
    assert ended.error["code"] in ("tool.bad_arguments", "doc.empty")
    assert await DocStore(lab.store.database).page(tenant=TENANT) == []


def test_whose_documents_they_are_is_asked_for_unless_it_is_fixed() -> None:
    plan = plan_of(using("{resource: agent, subresource: doc, operation: search}", "{agent: a, text: b}"))
    assert plan.tools["x"].parameters["required"] == ["agent"]
    fixed = plan_of(using("{resource: agent, subresource: doc, operation: search, resource_id: a}", "{text: b}"))
    assert (fixed.tools["x"].spec, fixed.tools["x"].parameters["required"]) == (
        {"operation": "agent.doc.search", "arguments": {"agent": "a"}},
        [],
    )


async def test_an_agent_is_created_once_and_found_by_those_of_its_tenant(lab: Lab) -> None:
    permit(lab, "agent.*")
    async with lab.worker():
        text = using("{resource: agent, operation: create}", "{name: Ann, instructions: Be kind., metadata: {a: 1}}")
        made = (await lab.run(plan_of(text))).output
        assert (made["name"], made["instructions"], made["metadata"]) == ("Ann", "Be kind.", {"a": 1})
        shown = await lab.run(plan_of(using("{resource: agent, operation: get}", "{id: $ _}")), made["id"])
        assert shown.output == made
        bounded = await lab.run(
            plan_of(using("{resource: agent, operation: create}", "{name: Bob}", "allow: {tools: [x]}"))
        )
    assert bounded.error is not None
    assert bounded.error["code"] == "authority.denied"
    assert [agent.name for agent in await lab.definitions.definitions.agents.page(tenant=TENANT)] == ["Ann"]
