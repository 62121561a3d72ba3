"""What Julep's documentation says of its task language, statement by statement, as tasks that are run in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.control.compiling import compile_text
from engine.core.plan.ir import AgentSnapshot
from engine.core.run.effects import Call, Ok
from engine.dryrun.effects import Answered
from engine.dryrun.replies import chat_reply
from engine.dryrun.running import run_in_memory
from tests.support.memory import TOOLS, echo

Step = dict[str, Any]
ADA = AgentSnapshot(id="agent-1", name="Ada", model="m")
LOOKUP = {"name": "fetch", "type": "function", "function": {"parameters": {"type": "object"}}}


def run(
    main: list[Step] | Step,
    given: Any = None,
    *,
    dialect: Any = "julep-2025",
    answers: Any = (),
    handler: Any = echo,
    **lists: Any,
) -> Any:
    """Run a task as Julep's client sends it and return its output."""
    contracts = {tool.contract().name: tool.contract() for tool in TOOLS}
    text = json.dumps({"name": "t", "main": main, **lists})
    plan = compile_text(text, file="t.json", contracts=contracts, agent=ADA, dialect=dialect).plan
    result = run_in_memory(plan, {} if given is None else given, handler, answers=answers)
    assert result.finished is not None, result.waits
    assert isinstance(result.finished.outcome, Ok), result.finished
    return result.finished.outcome.value


ONE: Step = {"evaluate": {"x": "$ 1"}}
TWO: Step = {"evaluate": {"x": "$ 2"}}

STATEMENTS: list[tuple[str, list[Step], Any, Any]] = [
    (
        "nested values of evaluate",
        [{"evaluate": {"a": {"b": ["$ _.n", "l {_.n}"]}}}],
        {"n": 1},
        {"a": {"b": [1, "l 1"]}},
    ),
    ("arguments: _", [{"tool": "lookup", "arguments": "_"}], {"name": "x"}, {"name": "x"}),
    ("no arguments", [{"tool": "lookup"}], {"name": "x"}, {"name": "x"}),
    ("get after set", [{"set": {"a": "$ 1"}}, {"evaluate": {"x": "$ 9"}}, {"get": "a"}], {}, 1),
    ("get a list", [{"set": {"a": "$ 1", "b": "$ 2"}}, {"get": ["a", "b"]}], {}, {"a": 1, "b": 2}),
    (
        "state merges",
        [{"set": {"a": "$ 1"}}, {"set": {"b": "$ 2"}}, {"evaluate": {"s": "$ state.a + state.b"}}],
        {},
        {"s": 3},
    ),
    ("log passes on", [ONE, {"log": "now {_.x}"}, {"evaluate": {"y": "$ _.x"}}], {}, {"y": 1}),
    ("sleep passes on", [{"sleep": {"seconds": 1}}, {"evaluate": {"y": "$ _.n"}}], {"n": 1}, {"y": 1}),
    ("return an object", [{"return": {"v": "$ _.n"}}, ONE], {"n": 1}, {"v": 1}),
    ("return an expression", [{"return": "$ _.n"}], {"n": 1}, 1),
    ("if with else null", [{"if": "$ _.n > 5", "then": ONE, "else": None}], {"n": 1}, {"n": 1}),
    ("if without mark", [{"if": "_.n == 1", "then": ONE}], {"n": 1}, {"x": 1}),
    ("if in if", [{"if": "$ _.n", "then": {"if": "$ _.n > 5", "then": ONE, "else": TWO}}], {"n": 1}, {"x": 2}),
    ("then with several", [{"if": "$ _.n", "then": [ONE, {"evaluate": {"y": "$ _.x + 1"}}]}], {"n": 1}, {"y": 2}),
    ("switch", [{"switch": [{"case": "$ _.n == 2", "then": ONE}, {"case": "_", "then": TWO}]}], {"n": 1}, {"x": 2}),
    ("switch without a match", [{"switch": [{"case": "$ _.n == 2", "then": ONE}]}], {"n": 1}, {"n": 1}),
    ("case with several", [{"switch": [{"case": "_", "then": [ONE, TWO]}]}], {}, {"x": 2}),
    (
        "foreach",
        [{"foreach": {"in": "$ _.l", "do": {"evaluate": {"x": "$ _ * 2"}}}}],
        {"l": [1, 2]},
        [{"x": 2}, {"x": 4}],
    ),
    ("foreach with several", [{"foreach": {"in": "$ _.l", "do": [ONE, TWO]}}], {"l": [1]}, [{"x": 2}]),
    ("map without reduce", [{"over": "$ _.l", "map": {"evaluate": {"x": "$ _"}}}], {"l": [1, 2]}, [{"x": 1}, {"x": 2}]),
    (
        "map with several",
        [{"over": "$ _.l", "map": [{"evaluate": {"x": "$ _"}}, {"evaluate": {"y": "$ _.x"}}]}],
        {"l": [1]},
        [{"y": 1}],
    ),
    (
        "reduce",
        [{"over": "$ _.l", "map": {"evaluate": {"my_key": "$ _"}}, "reduce": "$ results + [_['my_key']]"}],
        {"l": [1, 2]},
        [1, 2],
    ),
    (
        "initial",
        [
            {
                "over": "$ _.l",
                "map": {"evaluate": {"k": "$ _"}},
                "reduce": "$ results + _.k",
                "initial": 10,
                "parallelism": 2,
            }
        ],
        {"l": [1, 2]},
        13,
    ),
    (
        "a map in its key",
        [{"map_reduce": {"over": "$ _.l", "map": {"evaluate": {"x": "$ _"}}}}],
        {"l": [1]},
        [{"x": 1}],
    ),
    ("map: {over}", [{"map": {"over": "$ _.l", "evaluate": {"x": "$ _"}}}], {"l": [1]}, [{"x": 1}]),
    ("parallel", [{"parallel": [ONE, TWO]}], {}, [{"x": 1}, {"x": 2}]),
    ("steps by number", [ONE, TWO, {"evaluate": {"y": "$ steps[0].output.x + steps[1].input.x"}}], {}, {"y": 2}),
    (
        "steps by label",
        [{**ONE, "label": "first one"}, {"evaluate": {"y": "$ steps['first one'].output.x"}}],
        {},
        {"y": 1},
    ),
    ("steps[0].input", [ONE, {"evaluate": {"y": "$ steps[0].input.topic"}}], {"topic": "tea"}, {"y": "tea"}),
    (
        "inputs and outputs",
        [ONE, {"evaluate": {"a": "$ outputs[0]['x']", "b": "$ inputs[0].n"}}],
        {"n": 3},
        {"a": 1, "b": 3},
    ),
    ("outputs without mark", [ONE, {"evaluate": {"a": "outputs[0]['x']"}}], {}, {"a": 1}),
    ("input.x", [ONE, {"evaluate": {"a": "$ input.n"}}], {"n": 3}, {"a": 3}),
    ("agent", [{"evaluate": {"a": "$ agent.name", "b": "$ agent.id"}}], {}, {"a": "Ada", "b": "agent-1"}),
    ("user and session", [{"evaluate": {"a": "$ user", "b": "$ session"}}], {}, {"a": None, "b": None}),
    ("arguments", [ONE, {"evaluate": {"a": "$ arguments.n"}}], {"n": 3}, {"a": 3}),
    (
        "constants",
        [{"evaluate": {"a": "$ NEWLINE.join(_.l)", "b": "$ [true, false, null]"}}],
        {"l": ["x", "y"]},
        {"a": "x\ny", "b": [True, False, None]},
    ),
    (
        "data wins over methods",
        [{"evaluate": {"a": "$ _.items", "b": "$ _.keys"}}],
        {"items": [1], "keys": 2},
        {"a": [1], "b": 2},
    ),
    (
        "f-string",
        [{"evaluate": {"a": "$ f'hello {_.n}'", "b": "hello {_.n.upper()}"}}],
        {"n": "a"},
        {"a": "hello a", "b": "hello A"},
    ),
    (
        "JSON",
        [
            {
                "evaluate": {
                    "a": "$ load_json(_.s)",
                    "b": "$ dump_json([1])",
                    "c": "$ extract_json('```json\\n{\"q\": 1}\\n```')",
                }
            }
        ],
        {"s": "[1]"},
        {"a": [1], "b": "[1]", "c": {"q": 1}},
    ),
    (
        "modules",
        [{"evaluate": {"a": "$ re.sub('a', 'b', 'aa')", "b": "$ math.floor(1.5)", "c": "$ statistics.mean([1, 3])"}}],
        {},
        {"a": "bb", "b": 1, "c": 2},
    ),
    (
        "zip in evaluate",
        [{"evaluate": {"a": "$ [{'n': n, 'm': m} for n, m in zip(_.a, _.b)]"}}],
        {"a": [1], "b": [2]},
        {"a": [{"n": 1, "m": 2}]},
    ),
    (
        "nothing but null",
        [
            {
                "prompt": "hi",
                "settings": None,
                "tools": None,
                "tool_choice": None,
                "unwrap": True,
                "label": None,
                "auto_run_tools": None,
                "disable_cache": None,
            }
        ],
        {},
        "hi",
    ),
    (
        "JSON in a prompt",
        [{"prompt": 'Give {"a": {"b": 1}} and {curly} """', "unwrap": True}],
        {},
        'Give {"a": {"b": 1}} and {curly} """',
    ),
    ("two braces in a prompt", [{"prompt": "about {{_.n}}", "unwrap": True}], {"n": "tea"}, "about tea"),
    ("any setting", [{"prompt": "hi", "settings": {"frobnicate": 1, "top_p": 0.1}, "unwrap": True}], {}, "hi"),
]


@pytest.mark.parametrize(
    ("main", "given", "output"), [item[1:] for item in STATEMENTS], ids=[item[0] for item in STATEMENTS]
)
def test_it_does_what_the_documentation_says(main: list[Step], given: Any, output: Any) -> None:
    assert run(main, given) == output


def test_a_list_is_run_with_its_own_steps_and_may_run_itself() -> None:
    again: Step = {
        "if": "$ _.n > 0",
        "then": {"workflow": "down", "arguments": {"n": "$ _.n - 1"}},
        "else": {"return": {"end": "$ steps[0].input.n"}},
    }
    assert run([{"workflow": "down", "arguments": {"n": "$ 3"}}, {"evaluate": {"got": "$ _.end"}}], down=[again]) == {
        "got": 0
    }


def test_a_return_inside_a_branch_ends_the_list_around_it() -> None:
    inner: list[Step] = [{"if": "$ _.n > 0", "then": {"return": {"v": "$ _.n"}}}, {"evaluate": {"v": "$ 0"}}]
    assert run([{"workflow": "sub", "arguments": {"n": 3}}, {"evaluate": {"r": "$ _.v"}}], sub=inner) == {"r": 3}


def test_each_item_of_a_foreach_may_wait() -> None:
    wait: Step = {"foreach": {"in": "$ _.l", "do": {"wait_for_input": {"info": {"q": "$ _"}}}}}
    assert run([wait], {"l": [1, 2]}, answers=["a", "b"]) == ["a", "b"]


LEGACY: list[tuple[str, list[Step], Any, Any]] = [
    ("evaluate", [{"kind_": "evaluate", "evaluate": {"x": "a + 1"}}], {"a": 1}, {"x": 2}),
    ("tool_call", [{"kind_": "tool_call", "tool": "lookup", "arguments": {"name": "n"}}], {"n": "x"}, {"name": "x"}),
    (
        "prompt",
        [{"kind_": "prompt", "prompt": [{"role": "user", "content": "hi {{ a }}"}], "settings": {}, "unwrap": True}],
        {"a": 1},
        "hi 1",
    ),
    ("wait_for_input", [{"kind_": "wait_for_input", "info": {"q": "'why'"}}], {}, "because"),
    (
        "if_else",
        [
            {
                "kind_": "if_else",
                "if": "a > 1",
                "then": {"kind_": "error", "error": "no"},
                "else": {"kind_": "evaluate", "evaluate": {"x": "a"}},
            }
        ],
        {"a": 1},
        {"x": 1},
    ),
    ("sleep", [{"kind_": "sleep", "sleep": {"seconds": 1}}], {"a": 1}, {"a": 1}),
    (
        "map_reduce",
        [
            {
                "kind_": "map_reduce",
                "over": "l",
                "map": {"kind_": "evaluate", "evaluate": {"x": "_"}},
                "reduce": "results + [_['x']]",
            }
        ],
        {"l": [1, 2]},
        [1, 2],
    ),
    ("inputs", [{"evaluate": {"a": "inputs[0]['l']"}}, {"evaluate": {"b": "outputs[0]['a']"}}], {"l": [1]}, {"b": [1]}),
    ("a key called user", [{"evaluate": {"x": "user"}}], {"user": "Ada"}, {"x": "Ada"}),
]


@pytest.mark.parametrize(("main", "given", "output"), [item[1:] for item in LEGACY], ids=[item[0] for item in LEGACY])
def test_flat_steps_of_the_older_client_are_read_by_their_kind(main: list[Step], given: Any, output: Any) -> None:
    assert run(main, given, dialect="julep-2024", answers=["because"]) == output


# --- prompts that run their tools -----------------------------------------------------------------------------------


def asks_for_a_tool_first(call: Call) -> Answered:
    messages = getattr(call.params, "messages", None)
    if messages is None:
        return Answered(Ok(f"found {call.params.arguments['name']}"))  # type: ignore[union-attr]
    if messages[-1]["role"] == "tool":
        return Answered(Ok(chat_reply(f"it is {messages[-1]['content']}")))
    wanted = [{"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": '{"name": "tea"}'}}]
    reply = chat_reply("")
    reply["message"] = {"role": "assistant", "content": None, "tool_calls": wanted}
    return Answered(Ok(reply))


@pytest.mark.parametrize("offered", ["all", [{"ref": {"name": "lookup"}}], ["lookup"]])
def test_a_prompt_that_runs_its_tools_gives_the_last_reply(offered: Any) -> None:
    step: Step = {"prompt": "look up tea", "tools": offered, "auto_run_tools": True}
    tools = [{"name": "lookup"}]
    assert run([{**step, "unwrap": True}], handler=asks_for_a_tool_first, tools=tools) == "it is found tea"
    whole = run([step], handler=asks_for_a_tool_first, tools=tools)
    assert whole["choices"][0]["message"]["content"] == "it is found tea"


def test_a_prompt_that_shall_run_tools_and_names_none_is_offered_all() -> None:
    step: Step = {"prompt": "look up tea", "auto_run_tools": True, "unwrap": True}
    assert run([step], handler=asks_for_a_tool_first, tools=[{"name": "lookup"}]) == "it is found tea"
    assert run([{**step, "prompt": "hi"}]) == "hi"


def test_with_an_empty_list_of_tools_it_stays_a_prompt_and_a_warning_says_so() -> None:
    main = [{"prompt": "hi", "tools": [], "auto_run_tools": True, "unwrap": True}]
    assert run(main) == "hi"
    found = compile_text(json.dumps({"main": main}), file="t.json", contracts={}, dialect="julep-2025").warnings
    assert [(item.code, item.path) for item in found] == [("W612", "main[0].auto_run_tools")]
