"""Tools that change after a task was stored: its next execution has them as they are, and tells what differs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from engine.control.definitions import DefinitionService
from engine.core.kinds import ToolEffect
from engine.core.plan.codec import plan_from_json
from engine.core.plan.drift import MOST_CHANGES, definition_hash, drift_of
from engine.core.plan.ir import ToolContract
from engine.core.plan.ops import PromptOp
from engine.store.database import open_database
from engine.store.definitions import Definitions
from tests.support.postgres import store_url

PAY = ToolContract(
    name="pay",
    type="mcp",
    parameters={"type": "object", "properties": {"sum": {"type": "integer"}, "to": {"type": "string"}}},
    description="Pay.",
    spec={"server": "bank", "kind": "tool", "tool": "pay"},
)
TASK = "name: t\nmain:\n  - {tool: pay, arguments: {sum: 1, to: Ann}}\n"


def changed(**members: Any) -> ToolContract:
    return replace(PAY, **members)


@pytest.fixture
async def definitions(tmp_path: Path) -> AsyncIterator[Definitions]:
    database = await open_database(store_url(tmp_path / "s.db"))
    yield Definitions(database)
    await database.close()


def test_what_differs_is_told_by_its_place() -> None:
    parameters = {"type": "object", "properties": {"sum": {"type": "number"}, "note": {"type": "string"}}}
    drift = drift_of(PAY, changed(parameters=parameters, effect=ToolEffect.READ))
    assert drift is not None
    assert drift.changes == (
        'parameters/properties/sum/type is "number", it was "integer"',
        'parameters/properties/to is gone, it was {"type":"string"}',
        'parameters/properties/note is new: {"type":"string"}',
        'effect is "read", it was "write"',
    )
    assert (drift.before, drift.after) == (
        definition_hash(PAY),
        definition_hash(changed(parameters=parameters, effect=ToolEffect.READ)),
    )


def test_how_the_operator_has_a_tool_called_is_no_part_of_its_definition() -> None:
    assert drift_of(PAY, changed(pool="gpu", tenants=("acme",))) is None
    assert definition_hash(PAY) == definition_hash(changed(pool="gpu"))


def test_a_long_difference_is_cut() -> None:
    properties = {f"p{number}": {"type": "string"} for number in range(100)}
    drift = drift_of(PAY, changed(parameters={"type": "object", "properties": properties}))
    assert drift is not None
    assert len(drift.changes) == MOST_CHANGES + 1
    assert drift.changes[-1] == "and more"


async def test_a_start_takes_the_tool_as_it_is_and_tells_once_how_it_differs(definitions: Definitions) -> None:
    made = await DefinitionService(definitions, {"pay": PAY}).create_task(TASK, tenant="acme")
    service = DefinitionService(definitions, {"pay": changed(idempotent=True)})
    with structlog.testing.capture_logs() as lines:
        plans = [plan_from_json(await service.plan_for_start(made.task)) for _ in range(2)]
    for plan in plans:
        assert plan.tools["pay"].idempotent
        (drift,) = plan.drift
        assert (drift.tool, drift.changes) == ("pay", ("idempotent is true, it was false",))
    assert [(line["event"], line["task"], line["version"], line["tool"]) for line in lines] == [
        ("tool.drift", "t", 1, "pay")
    ]


async def test_a_tool_that_has_not_changed_is_no_drift(definitions: Definitions) -> None:
    service = DefinitionService(definitions, {"pay": PAY})
    made = await service.create_task(TASK, tenant="acme")
    body = await service.plan_for_start(made.task)
    assert "drift" not in body
    assert plan_from_json(body) == plan_from_json(made.task.plan)


async def test_a_tool_that_is_gone_stays_as_it_was_and_is_told(definitions: Definitions) -> None:
    made = await DefinitionService(definitions, {"pay": PAY}).create_task(TASK, tenant="acme")
    plan = plan_from_json(await DefinitionService(definitions, {}).plan_for_start(made.task))
    assert plan.tools == {"pay": PAY}
    (drift,) = plan.drift
    assert (drift.after, drift.changes) == ("", ("the tool is gone",))


async def test_a_tool_that_the_task_brings_itself_does_not_drift(definitions: Definitions) -> None:
    text = """
name: t
tools:
  - {name: pay, type: api_call, api_call: {method: GET, url: "https://a.example/"}}
main:
  - {tool: pay, arguments: {}}
"""
    made = await DefinitionService(definitions, {}).create_task(text, tenant="acme")
    plan = plan_from_json(await DefinitionService(definitions, {"pay": PAY}).plan_for_start(made.task))
    assert plan.tools["pay"].type == "api_call"
    assert plan.drift == ()


async def test_what_the_task_says_of_an_operators_tool_itself_stays(definitions: Definitions) -> None:
    text = "name: t\ntools:\n  - {name: pay, description: Mine, timeout: 7s}\nmain:\n  - {tool: pay, arguments: {}}\n"
    made = await DefinitionService(definitions, {"pay": PAY}).create_task(text, tenant="acme")
    same = plan_from_json(await DefinitionService(definitions, {"pay": PAY}).plan_for_start(made.task))
    assert (same.tools["pay"].description, same.tools["pay"].timeout_s, same.drift) == ("Mine", 7.0, ())
    service = DefinitionService(definitions, {"pay": changed(description="Pay now.", idempotent=True, timeout_s=9.0)})
    later = plan_from_json(await service.plan_for_start(made.task))
    assert (later.tools["pay"].description, later.tools["pay"].timeout_s) == ("Mine", 7.0)
    assert [drift.changes for drift in later.drift] == [("idempotent is true, it was false",)]


async def test_a_prompt_offers_a_tool_as_it_is_and_what_its_author_wrote_as_it_was(definitions: Definitions) -> None:
    text = """
name: t
main:
  - prompt: "Pay Ann."
    tools: [pay]
  - if: $ _ == 1
    then:
      - prompt: "Pay Bob."
        tools:
          - {type: function, function: {name: pay, description: By hand, parameters: {type: object, properties: {}}}}
  - {tool: pay, arguments: {sum: 1}}
"""
    made = await DefinitionService(definitions, {"pay": PAY}).create_task(text, tenant="acme")
    parameters = {"type": "object", "properties": {"sum": {"type": "integer"}, "purpose": {"type": "string"}}}
    service = DefinitionService(definitions, {"pay": changed(parameters=parameters, description="Pay now.")})
    plan = plan_from_json(await service.plan_for_start(made.task))
    offered = [op.tools[0]["function"] for block in plan.blocks for op in block.ops if isinstance(op, PromptOp)]
    assert sorted(offered, key=lambda function: str(function["description"])) == [
        {"name": "pay", "description": "By hand", "parameters": {"type": "object", "properties": {}}},
        {"name": "pay", "description": "Pay now.", "parameters": parameters},
    ]
    assert plan.tools["pay"].parameters == parameters
