"""A task in Python: the file it stands for, its schemas, and findings that point at the author's lines."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from engine import (
    Allow,
    FunctionTool,
    HttpTool,
    Limits,
    Require,
    Step,
    Task,
    call_tool,
    evaluate,
    expr,
    if_,
    prompt,
    run_workflow,
)
from engine.control.compiling import compile_text, compile_tree
from engine.core.errors import CompileError, DefinitionError
from engine.core.plan.codec import plan_hash
from engine.core.plan.grant import NOTHING
from engine.tooling import ToolCatalog
from tests.support import author_helper
from tests.support.memory import TOOLS, lookup

CONTRACTS = ToolCatalog.of(*TOOLS).contracts()


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Item(BaseModel):
    name: str
    colour: Colour = Colour.RED


class Order(BaseModel):
    """An order of a customer."""

    model_config = ConfigDict(extra="forbid")

    items: list[Item]
    total: Annotated[float, Field(ge=0, title="Sum", description="In euros")]


def findings(task: Task) -> list[tuple[str, int, int]]:
    """Return code, line and column of what is wrong with a task."""
    with pytest.raises(CompileError) as caught:
        compile_tree(task.to_node(), source="", file="task.py", contracts=CONTRACTS)
    return [(item.code, item.position.line, item.position.column) for item in caught.value.diagnostics]


def here() -> int:
    """Return the number of the line that calls this."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def test_a_task_that_may_reach_nothing_says_so_with_an_empty_list() -> None:
    task = Task(name="t", allow=[], main=evaluate(1))
    assert task.to_json()["allow"] == []
    assert compile_tree(task.to_node(), source="", file="task.py", contracts={}).plan.allow == NOTHING
    with pytest.raises(DefinitionError, match=r"'allow' must be made by Allow\(…\), not list"):
        Task(name="t", allow=["lookup"], main=evaluate(1))  # type: ignore[list-item]


def test_all_settings_of_a_task_are_written() -> None:
    task = Task(
        name="order",
        description="Take an order.",
        canonical_name="order-v1",
        metadata={"team": "shop"},
        input={"type": "object"},
        require=[Require(if_="_.total > 0", message="nothing to pay")],
        allow=Allow(tools=[], hosts=["a.example"]),
        limits=Limits(steps=10, rounds=5, time="1h", tokens=1000),
        dispatch={"priority": 1},
        inherit_tools=False,
        tools=[lookup, FunctionTool(name="ask"), {"name": "raw", "type": "function"}],
        main=evaluate(1),
        workflows={"sub": evaluate(2)},
        finally_=[evaluate(3)],
    )
    assert task.to_json() == {
        "name": "order",
        "description": "Take an order.",
        "canonical_name": "order-v1",
        "metadata": {"team": "shop"},
        "input_schema": {"type": "object"},
        "require": [{"if": "_.total > 0", "message": "nothing to pay"}],
        "allow": {"tools": [], "hosts": ["a.example"]},
        "limits": {"steps": 10, "rounds": 5, "time": "1h", "tokens": 1000},
        "dispatch": {"priority": 1},
        "inherit_tools": False,
        "tools": [
            {"name": "lookup", "type": "python"},
            {"name": "ask", "type": "function"},
            {"name": "raw", "type": "function"},
        ],
        "main": {"evaluate": 1},
        "sub": [{"evaluate": 2}],
        "finally": [{"evaluate": 3}],
    }


def test_an_http_tool_is_written_with_its_request() -> None:
    tool = HttpTool(
        name="post",
        url="https://a.example",
        method="POST",
        headers={"x": "y"},
        json={"a": 1},
        timeout="5s",
        idempotent=True,
        effect="external",
        parameters={"type": "object"},
        description="Send it.",
    )
    assert Task(main=evaluate(1), tools=[tool]).to_json()["tools"] == [
        {
            "name": "post",
            "type": "api_call",
            "description": "Send it.",
            "parameters": {"type": "object"},
            "effect": "external",
            "idempotent": True,
            "timeout": "5s",
            "api_call": {"method": "POST", "url": "https://a.example", "headers": {"x": "y"}, "json": {"a": 1}},
        }
    ]


def test_the_schema_of_a_model_refers_to_itself_only_and_has_no_titles_that_nobody_wrote() -> None:
    assert Task(main=evaluate(1), input=Order).to_json()["input_schema"] == {
        "$defs": {
            "Colour": {"enum": ["red", "blue"], "type": "string"},
            "Item": {
                "properties": {
                    "name": {"type": "string"},
                    "colour": {"$ref": "#/$defs/Colour", "default": "red"},
                },
                "required": ["name"],
                "type": "object",
            },
        },
        "additionalProperties": False,
        "description": "An order of a customer.",
        "properties": {
            "items": {"items": {"$ref": "#/$defs/Item"}, "type": "array"},
            "total": {"description": "In euros", "minimum": 0, "title": "Sum", "type": "number"},
        },
        "required": ["items", "total"],
        "type": "object",
    }


def test_a_model_as_output_of_a_prompt_compiles_to_the_same_plan_as_its_schema() -> None:
    task = Task(name="t", main=prompt("x", output=Order))
    by_hand = Task(name="t", main=prompt("x", output=task.to_json()["main"]["output_schema"]))
    hashes = [plan_hash(compile_tree(one.to_node(), source="", file="t", contracts={}).plan) for one in (task, by_hand)]
    assert hashes[0] == hashes[1]


def test_any_type_that_json_can_carry_has_a_schema() -> None:
    @dataclass
    class Point:
        x: int

    assert Task(main=evaluate(1), input=Point).to_json()["input_schema"] == {
        "properties": {"x": {"type": "integer"}},
        "required": ["x"],
        "type": "object",
    }


def test_a_type_without_a_schema_is_refused_with_the_line() -> None:
    with pytest.raises(DefinitionError) as caught:
        Task(main=evaluate(1), input=type("Strange", (), {}))
    (found,) = caught.value.diagnostics
    assert (found.code, found.position.line) == ("E501", here() - 2)
    assert "Strange has no JSON Schema" in found.message


def test_findings_point_at_the_call_that_made_the_step() -> None:
    task = Task(
        main=[
            evaluate(1),
            if_("_ > 0", then=[call_tool("lookupp")]),
            prompt("{{ x }}"),
        ],
    )
    line = here() - 5
    assert findings(task) == [("E402", line + 1, 32), ("E401", line + 2, 13)]


def test_columns_are_counted_in_characters() -> None:
    task = Task(name="täsk", main=[evaluate("ä" * 3), evaluate(expr("nobody"))])
    assert findings(task) == [("E401", here() - 1, 55)]


def test_findings_about_the_task_itself_point_at_the_task() -> None:
    task = Task(main=[])
    assert findings(task) == [("E208", here() - 1, 12)]


def test_what_was_made_in_another_file_has_the_place_of_its_surroundings() -> None:
    task = Task(main=[if_("True", then=author_helper.wrong_step())])
    assert findings(task) == [("E401", here() - 1, 23)]


def test_settings_of_the_wrong_type_are_refused_with_the_line() -> None:
    with pytest.raises(DefinitionError) as caught:
        Task(main=evaluate(1), limits={"steps": 1})  # type: ignore[arg-type]
    (found,) = caught.value.diagnostics
    assert (found.code, found.position.line) == ("E203", here() - 2)
    assert found.message == "'limits' must be made by Limits(…), not dict"


def test_a_sub_workflow_cannot_have_the_name_of_a_setting() -> None:
    with pytest.raises(DefinitionError, match="cannot be called 'tools'"):
        Task(main=evaluate(1), workflows={"tools": evaluate(1)})


def test_a_task_in_python_compiles_to_the_plan_of_the_yaml_that_a_person_would_write() -> None:
    text = """
name: greet
input_schema: {type: object, required: [name], properties: {name: {type: string}}}
main:
  - label: found
    tool: lookup
    arguments: {name: $ _.name}
    retry: {attempts: 3}
  - if: _ != ''
    then:
      - workflow: ask
        arguments: {name: "$ steps['found'].output"}
ask:
  - prompt: Say hello to {{ _.name }}
    settings: {temperature: 0}
    unwrap: true
"""

    class Person(BaseModel):
        name: str

    from engine import Retry

    task = Task(
        name="greet",
        input=Person,
        main=[
            call_tool(lookup, {"name": expr("_.name")}, label="found", retry=Retry(attempts=3)),
            if_("_ != ''", then=[run_workflow("ask", {"name": expr("steps['found'].output")})]),
        ],
        workflows={"ask": prompt("Say hello to {{ _.name }}", settings={"temperature": 0}, unwrap=True)},
    )
    in_python = compile_tree(task.to_node(), source="", file="greet.py", contracts=CONTRACTS)
    in_yaml = compile_text(text, file="greet.yaml", contracts=CONTRACTS)
    assert plan_hash(in_python.plan) == plan_hash(in_yaml.plan)


def test_a_task_prints_as_yaml_that_people_like_to_read() -> None:
    task = Task(
        name="greet",
        description="Say hello.\nTwice.",
        input={"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
        main=[
            prompt("Say hello to {{ _.name }}: now.", label="hello", unwrap=True),
            if_("len(_) > 3", then=[evaluate({"text": expr("steps['hello'].output"), "on": "yes"})], timeout="30s"),
        ],
    )
    assert task.to_yaml() == (
        "name: greet\n"
        "description: |-\n"
        "  Say hello.\n"
        "  Twice.\n"
        "input_schema:\n"
        "  type: object\n"
        "  required: [name]\n"
        "  properties:\n"
        "    name:\n"
        "      type: string\n"
        "main:\n"
        "  - label: hello\n"
        "    prompt: 'Say hello to {{ _.name }}: now.'\n"
        "    unwrap: true\n"
        "  - if: len(_) > 3\n"
        "    then:\n"
        "      - evaluate:\n"
        "          text: $ steps['hello'].output\n"
        "          'on': 'yes'\n"
        "    timeout: 30s\n"
    )


def test_a_task_made_of_a_function_of_steps_may_be_built_by_ordinary_python() -> None:
    def twice(step: Step) -> list[Step]:
        return [step, step]

    values: list[Any] = [{"evaluate": number} for number in (1, 1)]
    assert Task(main=twice(evaluate(1))).to_json()["main"] == values
