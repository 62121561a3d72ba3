"""What each function of the author API writes: the same members that a task file has."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any

import pytest

import engine
from engine import (
    Approval,
    Cache,
    Check,
    FunctionTool,
    HttpTool,
    Next,
    Retry,
    Step,
    Task,
    ToolRule,
    evaluate,
    expr,
)
from engine.core.errors import DefinitionError
from engine.core.spec import vocabulary
from tests.support.memory import lookup

INC = evaluate(expr("_ + 1"))
INC_BODY = {"evaluate": "$ _ + 1"}
NUMBERS = {"type": "array", "items": {"type": "integer"}}


def body(step: Step) -> dict[str, Any]:
    """Return a step as a task file has it."""
    made: dict[str, Any] = Task(main=step).to_json()["main"]
    return made


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (evaluate(None), {"evaluate": None}),
        (
            evaluate({"a": expr("_.x"), "b": ["{{ _ }}", (1, 2.5)]}),
            {"evaluate": {"a": "$ _.x", "b": ["{{ _ }}", [1, 2.5]]}},
        ),
        (engine.return_(expr("_")), {"return": "$ _"}),
        (engine.error("no {{ _ }}"), {"error": "no {{ _ }}"}),
        (engine.log("saw {{ _ }}"), {"log": "saw {{ _ }}"}),
        (engine.set_({"k": expr("_")}), {"set": {"k": "$ _"}}),
        (engine.get("k"), {"get": "k"}),
        (engine.sleep(30), {"sleep": 30}),
        (engine.sleep(timedelta(minutes=2)), {"sleep": 120}),
        (engine.sleep(expr("_.pause")), {"sleep": "$ _.pause"}),
        (engine.sleep(minutes=5, hours=1), {"sleep": {"minutes": 5, "hours": 1}}),
        (engine.if_("_ > 3", then=INC), {"if": "_ > 3", "then": INC_BODY}),
        (engine.if_(True, then=[INC], else_=INC), {"if": True, "then": [INC_BODY], "else": INC_BODY}),
        (
            engine.switch(engine.case(expr("_ > 3"), then=INC), engine.otherwise([INC])),
            {"switch": [{"case": "$ _ > 3", "then": INC_BODY}, {"case": "_", "then": [INC_BODY]}]},
        ),
        (engine.foreach("_.items", do=INC), {"foreach": {"in": "_.items", "do": INC_BODY}}),
        (engine.foreach([1, expr("_")], do=INC), {"foreach": {"in": [1, "$ _"], "do": INC_BODY}}),
        (
            engine.map_("_", map=INC, reduce="results + _", initial=0, parallelism=2, on_item_error="skip"),
            {
                "over": "_",
                "map": INC_BODY,
                "reduce": "results + _",
                "initial": 0,
                "parallelism": 2,
                "on_item_error": "skip",
            },
        ),
        (engine.parallel(INC, [INC, INC], parallelism=2), {"parallel": [INC_BODY, [INC_BODY] * 2], "parallelism": 2}),
        (engine.race(INC, INC, take=1, stagger="800ms"), {"race": [INC_BODY] * 2, "take": 1, "stagger": "800ms"}),
        (engine.while_("_ < 9", do=INC, max_rounds=20), {"while": "_ < 9", "do": INC_BODY, "max_rounds": 20}),
        (engine.until("_ > 9", do=[INC]), {"until": "_ > 9", "do": [INC_BODY]}),
        (engine.run_workflow("sub"), {"workflow": "sub"}),
        (engine.run_workflow("sub", expr("_.x")), {"workflow": "sub", "arguments": "$ _.x"}),
        (engine.run_task("other@live", {"a": 1}), {"task": "other@live", "arguments": {"a": 1}}),
        (engine.run_task(Task(name="other", main=INC)), {"task": "other"}),
        (
            engine.run_task("other", {"a": 1}, version=3),
            {"task": "other", "version": 3, "arguments": {"a": 1}},
        ),
        (engine.call_tool("lookup", {"name": expr("_")}), {"tool": "lookup", "arguments": {"name": "$ _"}}),
        (engine.call_tool(lookup), {"tool": "lookup"}),
        (engine.call_tool(HttpTool(name="fetch", url="https://a.example")), {"tool": "fetch"}),
        (engine.wait_for_input(), {"wait_for_input": {}}),
        (
            engine.wait_for_input({"n": expr("_")}, schema=list[int], deadline="2h", default=None),
            {"wait_for_input": {"info": {"n": "$ _"}, "schema": NUMBERS, "deadline": "2h", "default": None}},
        ),
        (
            engine.approve("Pay {{ _ }}?", deadline=expr("_.until"), default={"approved": False}),
            {"approve": {"info": "Pay {{ _ }}?", "deadline": "$ _.until", "default": {"approved": False}}},
        ),
        (
            engine.wait_for_event("paid", key=expr("_.order"), schema=True, deadline=60, default=0),
            {"wait_for_event": "paid", "key": "$ _.order", "schema": True, "deadline": 60, "default": 0},
        ),
        (engine.prompt("Hello {{ _ }}"), {"prompt": "Hello {{ _ }}"}),
        (
            engine.prompt([engine.system("Be short."), engine.user("{{ _ }}"), engine.assistant("ok")]),
            {
                "prompt": [
                    {"role": "system", "content": "Be short."},
                    {"role": "user", "content": "{{ _ }}"},
                    {"role": "assistant", "content": "ok"},
                ]
            },
        ),
        (
            engine.prompt(
                expr("_.messages"),
                model="small",
                settings={"temperature": 0},
                extra_settings={"top_k": 5},
                tools=[lookup, "pay", FunctionTool(name="ask", parameters={"type": "object"})],
                tool_choice=lookup,
                output=list[int],
                repair=0,
                unwrap=True,
            ),
            {
                "prompt": "$ _.messages",
                "model": "small",
                "settings": {"temperature": 0, "top_k": 5},
                "tools": ["lookup", "pay", {"name": "ask", "type": "function", "parameters": {"type": "object"}}],
                "tool_choice": {"type": "function", "function": {"name": "lookup"}},
                "output_schema": NUMBERS,
                "repair": 0,
                "unwrap": True,
            },
        ),
        (
            engine.prompt(
                "x",
                model=["fast", engine.expr("_.model")],
                needs={"vision": True, "max_price": 2.5},
                tool_mode="json",
            ),
            {
                "prompt": "x",
                "model": ["fast", "$ _.model"],
                "needs": {"vision": True, "max_price": 2.5},
                "tool_mode": "json",
            },
        ),
        (
            engine.agent("x", model=("small", "large"), needs={"tools": True}, tool_mode="native"),
            {"agent": "x", "model": ["small", "large"], "needs": {"tools": True}, "tool_mode": "native"},
        ),
        (
            engine.prompt("x", tools="all", tool_choice="required"),
            {"prompt": "x", "tools": "all", "tool_choice": "required"},
        ),
        (
            engine.agent(
                [engine.system("Be short."), engine.user("{{ _ }}")],
                instructions="Look twice.",
                settings={"temperature": 0},
                tools=[lookup, FunctionTool(name="ask", parameters={"type": "object"})],
                rules=[
                    ToolRule(
                        lookup, first=True, at_most=2, next=[Next(lookup, "_.more"), "ask"], approve="_.name == 'x'"
                    ),
                    ToolRule("ask", only_after=[lookup], required=True, ends=True, approve=Approval(deadline="1h")),
                ],
                max_rounds=5,
                parallelism=2,
                on_overflow="truncate",
                output=list[int],
                repair=0,
                unwrap=True,
            ),
            {
                "agent": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "{{ _ }}"}],
                "instructions": "Look twice.",
                "settings": {"temperature": 0},
                "tools": ["lookup", {"name": "ask", "type": "function", "parameters": {"type": "object"}}],
                "rules": {
                    "lookup": {
                        "first": True,
                        "next": [{"if": "_.more", "tool": "lookup"}, "ask"],
                        "at_most": 2,
                        "approve": "_.name == 'x'",
                    },
                    "ask": {"only_after": ["lookup"], "ends": True, "required": True, "approve": {"deadline": "1h"}},
                },
                "max_rounds": 5,
                "parallelism": 2,
                "on_overflow": "truncate",
                "output_schema": NUMBERS,
                "repair": 0,
                "unwrap": True,
            },
        ),
        (engine.agent("x", tools="all"), {"agent": "x", "tools": "all"}),
        (engine.embed(["a", expr("_")], model="m"), {"embed": {"text": ["a", "$ _"], "model": "m"}}),
        (
            engine.search("x", vector=[0.5], user="u", options={"limit": 3}),
            {"search": {"text": "x", "vector": [0.5], "user": "u", "limit": 3}},
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_function_writes_the_members_of_its_step(step: Step, expected: dict[str, Any]) -> None:
    assert body(step) == expected


def test_there_is_a_function_for_every_kind_of_step() -> None:
    special = {"tool": "call_tool", "workflow": "run_workflow", "task": "run_task", "over": "map_"}
    reserved = {"if": "if_", "while": "while_", "return": "return_", "set": "set_"}
    assert [
        marker for marker in vocabulary.MARKERS if not hasattr(engine, {**special, **reserved}.get(marker, marker))
    ] == []


def test_modifiers_are_written_around_the_step() -> None:
    step = evaluate(
        1,
        label="one",
        when="_ != 0",
        retry=Retry(attempts=3, initial="1s", factor=2, max=timedelta(seconds=9), on=["backend"]),
        timeout=5,
        total_timeout=timedelta(hours=1),
        on_error=INC,
        undo=[INC],
        check=[Check(if_="_ < 3", message="too large", on_fail="error")],
    )
    assert body(step) == {
        "label": "one",
        "evaluate": 1,
        "when": "_ != 0",
        "retry": {"attempts": 3, "initial": "1s", "factor": 2, "max": 9, "on": ["backend"]},
        "timeout": 5,
        "total_timeout": 3600,
        "check": [{"if": "_ < 3", "message": "too large", "on_fail": "error"}],
        "undo": [INC_BODY],
        "on_error": INC_BODY,
    }


def test_enumerations_of_text_stand_for_their_value() -> None:
    class Colour(StrEnum):
        RED = "red"

    value = body(evaluate([Colour.RED]))["evaluate"]
    assert value == ["red"]
    assert type(value[0]) is str


def refused(make: Any) -> tuple[str, str, str]:
    """Return code, message and hint of the one finding that a call is refused with."""
    with pytest.raises(DefinitionError) as caught:
        make()
    (found,) = caught.value.diagnostics
    assert caught.value.file == __file__
    return found.code, found.message, found.hint


def test_a_keyword_that_does_not_exist_is_refused_with_the_nearest_one() -> None:
    keyword: dict[str, Any] = {"unwarp": True}
    code, message, hint = refused(lambda: engine.prompt("x", **keyword))
    assert (code, message) == ("E201", "a step 'prompt' takes no 'unwarp'")
    assert hint == "did you mean 'unwrap'?"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: evaluate(object()), "'evaluate' holds a value of type object, which a task cannot hold"),  # type: ignore[arg-type]
        (lambda: evaluate(float("nan")), "'evaluate' holds the number nan, which a task cannot hold"),
        (lambda: evaluate(INC), "'evaluate' holds a value of type Step, which a task cannot hold"),  # type: ignore[arg-type]
        (lambda: engine.if_("_", then="x"), "'then' must be a step or a list of steps, not str"),  # type: ignore[arg-type]
        (lambda: engine.parallel(INC, INC_BODY), "'parallel' must be a step or a list of steps, not dict"),  # type: ignore[arg-type]
        (lambda: engine.switch(INC), "a branch of 'switch' must be case(…) or otherwise(…), not Step"),  # type: ignore[arg-type]
        (lambda: evaluate(1, retry={"attempts": 2}), "'retry' must be made by Retry(…), not dict"),  # type: ignore[arg-type]
        (lambda: engine.call_tool(print), "'call_tool' must be a tool, not builtin_function_or_method"),  # type: ignore[arg-type]
    ],
)
def test_what_is_of_the_wrong_type_is_refused_at_once(make: Any, message: str) -> None:
    assert refused(make)[:2] == ("E203", message)


def test_a_value_that_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert refused(lambda: evaluate(endless))[0] == "E106"


def test_steps_that_are_nested_too_deeply_for_a_task_file_are_refused() -> None:
    def nested(depth: int) -> Step:
        step = INC
        for _ in range(depth):
            step = engine.if_("_", then=step)
        return step

    assert Task(name="deep", main=[nested(97)]).to_yaml().count("then:") == 97
    assert refused(lambda: nested(98))[0] == "E106"


def test_half_of_a_surrogate_pair_is_refused() -> None:
    assert refused(lambda: evaluate("\ud83d"))[0] == "E101"


def test_a_key_that_is_no_text_is_refused() -> None:
    keys: Any = {1: "x"}
    assert refused(lambda: evaluate(keys))[0] == "E110"


def test_two_durations_of_one_sleep_are_refused() -> None:
    assert refused(lambda: engine.sleep(5, minutes=1))[0] == "E509"


def test_a_step_does_not_change_when_the_value_it_was_made_of_does() -> None:
    value = {"a": [1]}
    step = evaluate(value)
    value["a"].append(2)
    assert body(step) == {"evaluate": {"a": [1]}}


def test_an_output_is_cached_for_a_time_or_by_a_key() -> None:
    assert body(evaluate(1, cache=timedelta(hours=1))) == {"evaluate": 1, "cache": 3600}
    assert body(evaluate(1, cache=Cache(ttl="1h", key=expr("_.id")))) == {
        "evaluate": 1,
        "cache": {"ttl": "1h", "key": "$ _.id"},
    }


def test_a_tool_has_one_rule() -> None:
    with pytest.raises(DefinitionError, match="the tool 'lookup' has two rules"):
        engine.agent("x", rules=[ToolRule(lookup, first=True), ToolRule("lookup", ends=True)])
