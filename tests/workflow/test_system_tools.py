"""System tools: tasks that read and make tasks and executions of their own tenant, within their own bound."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.errors import CompileError
from engine.core.plan.ir import Plan
from engine.settings import Project, ToolsConfig
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
        ("{resource: session, operation: chat}", "E207"),
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
