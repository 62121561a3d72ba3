"""`engine.testing.run_task`: a task in memory, for pytest."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from activities.tools.python import PythonTools
from engine.core.contracts.activities import CallContext, ToolParams
from engine.core.errors import BackendError, DefinitionError, InvalidInput, ToolError
from engine.core.run.effects import Call, Ok
from engine.dryrun.effects import Answered
from engine.testing import TaskRun, run_task
from engine.tooling import ToolCatalog, tool

GREET = """
name: greet
input_schema: {type: object, required: [name], properties: {name: {type: string}}}
main:
  - label: ask
    prompt: "Say hello to {{ _.name }}"
    unwrap: true
"""
TOOLS = """
name: tools
main:
  - {label: length, tool: measure, arguments: {text: $ _.text}}
  - {label: store, tool: keep, arguments: {number: $ _}}
"""
WAITS = """
name: waits
main:
  - parallel:
      - {label: one, wait_for_input: {info: {n: 1}}}
      - {label: two, wait_for_input: {info: {n: 2}, schema: {type: integer}}}
"""


@tool(effect="none")
async def measure(text: str) -> int:
    """Count characters."""
    return len(text)


@tool(effect="write")
def keep(number: int) -> dict[str, int]:
    """Write a number down."""
    return {"kept": number}


def test_a_task_runs_with_a_scripted_reply() -> None:
    run = run_task(GREET, {"name": "Ada"}, replies={"ask": "Hello Ada!"})
    assert run.result == "Hello Ada!"
    assert run.steps == {"ask": "Hello Ada!"}
    (call,) = run.calls
    assert (call["kind"], call["path"], call["reply"]) == ("prompt", "main.0", "Hello Ada!")
    assert call["request"]["messages"] == [{"role": "user", "content": "Say hello to Ada"}]


@pytest.mark.parametrize("name", ["ask", "main.0", "prompt"])
def test_a_reply_is_named_by_label_path_or_kind(name: str) -> None:
    assert run_task(GREET, {"name": "Ada"}, replies={name: "x"}).result == "x"


def test_replies_may_be_given_in_the_order_of_the_calls() -> None:
    text = "name: t\nmain:\n  - over: $ _\n    parallelism: 1\n    map: {prompt: '{{ _ }}', unwrap: true}\n"
    assert run_task(text, ["a", "b"], replies=["1", "2"]).result == ["1", "2"]
    left = run_task(text, ["a"], replies=["1", "2"])
    assert left.problems == ["1 of the replies was never asked for"]


def test_a_step_in_a_loop_is_named_with_or_without_its_counter() -> None:
    text = "name: t\nmain:\n  - over: $ _\n    map: {prompt: '{{ _ }}', unwrap: true}\n"
    run = run_task(text, ["a", "b", "c"], replies={"main.0.map[1].0": "second", "main.0.map.0": "other"})
    assert run.result == ["other", "second", "other"]


def test_a_call_without_a_reply_fails_the_test_even_if_the_task_catches_it() -> None:
    text = "name: t\nmain:\n  - label: ask\n    prompt: hi\n    on_error: {evaluate: caught}\n"
    run = run_task(text)
    assert (run.status, run.output) == ("succeeded", "caught")
    assert run.problems == ["prompt 'ask' at main.0 has no reply"]
    with pytest.raises(AssertionError, match=r"prompt 'ask' at main\.0 has no reply"):
        _ = run.result


def test_what_has_no_reply_is_made_up_on_request() -> None:
    assert run_task(GREET, {"name": "Ada"}, invent=True).result == "(reply to: Say hello to Ada)"


def test_a_scripted_error_is_an_error_of_the_call() -> None:
    failing = {"ask": [{"$error": {"code": "backend.overloaded", "retryable": True}}, "Hello!"]}
    run = run_task(GREET, {"name": "Ada"}, replies=failing)
    assert run.result == "Hello!"
    assert [call["attempt"] for call in run.calls] == [1, 2]
    assert run.calls[0]["error"]["code"] == "backend.overloaded"
    assert run_task(GREET, {"name": "Ada"}, replies={"ask": {"$error": "backend.refused"}}).error == {
        "code": "backend.refused",
        "message": "scripted backend.refused",
        "step": "main.0",
        "attempts": 1,
        "details": {},
        "retryable": False,
    }


def test_a_slow_reply_meets_the_timeout_of_the_step_without_anybody_waiting() -> None:
    text = "name: t\nmain:\n  - {label: ask, prompt: hi, timeout: 10s, retry: {attempts: 1}}\n"
    run = run_task(text, replies={"ask": {"$reply": "late", "$after": 60}})
    assert run.error is not None
    assert run.error["code"] == "backend.timeout"
    assert run.seconds == 10


def test_a_whole_message_may_be_scripted() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    text = "name: t\nmain:\n  - {label: ask, prompt: hi}\n  - evaluate: $ _.choices[0]\n"
    run = run_task(text, replies={"ask": {"$message": {"content": None, "tool_calls": calls}}})
    assert run.result["finish_reason"] == "tool_calls"
    assert run.calls[0]["reply"] == {"role": "assistant", "content": None, "tool_calls": calls}


def test_harmless_tools_run_and_others_only_if_they_are_named() -> None:
    run = run_task(TOOLS, {"text": "four"}, tools=[measure, keep])
    assert run.problems == [
        "tool 'store' at main.1 has no reply; "
        "write one under `replies`, or let the tool really run: `run_tools: [keep]`"
    ]
    assert run.steps == {"length": 4}
    assert run_task(TOOLS, {"text": "four"}, tools=[measure, keep], run_tools=["keep"]).result == {"kept": 4}
    scripted = run_task(TOOLS, {"text": "four"}, tools=[measure, keep], replies={"length": 7, "keep": "done"})
    assert (scripted.result, scripted.calls[1]["request"]) == ("done", {"number": 7})


async def test_an_async_tool_runs_within_an_async_test() -> None:
    run = run_task(TOOLS, {"text": "ab"}, tools=[measure, keep], run_tools=["keep"])
    assert run.result == {"kept": 2}


@pytest.mark.parametrize(
    "raised",
    [
        ToolError("the books are closed", code="books.closed", retryable=True),
        ToolError("closed", code="tool.closed", retryable=True, details={"until": (1, 2)}),
        ToolError("long " * 1000, code="tool.long"),
        BackendError("x", retryable=True),
        SystemExit(1),
        asyncio.CancelledError(),
        ValueError("boom"),
    ],
    ids=lambda raised: getattr(raised, "code", type(raised).__name__),
)
async def test_a_tool_that_raises_fails_in_a_test_just_as_in_a_worker(raised: BaseException) -> None:
    @tool(effect="none")
    async def book() -> None:
        raise raised

    text = "name: t\nmain:\n  - tool: book\n    retry: {attempts: 1}\n"
    tested = run_task(text, tools=[book]).error or {}
    params = ToolParams(
        context=CallContext(tenant="t", execution_id="e", path="main.0", key="k", attempt=1),
        tool=book.contract(),
        arguments={},
        timeout_s=10,
    )
    with pytest.raises(ToolError) as caught:
        await PythonTools(ToolCatalog.of(book), threads=1).call(params)
    worked = caught.value
    assert (tested["code"], tested["message"]) == (worked.code, worked.message)
    assert set(worked.details) <= set(tested["details"])


def test_a_scripted_failure_of_a_tool_has_only_codes_that_a_tool_can_have() -> None:
    text = "name: t\nmain:\n  - tool: measure\n    arguments: {text: x}\n    retry: {attempts: 3, on: [books]}\n"
    run = run_task(text, tools=[measure], replies={"measure": {"$error": {"code": "books.closed", "retryable": True}}})
    assert len(run.calls) == 1
    assert run.error is not None
    assert run.error["code"] == "tool.failed"
    assert run.error["message"].startswith("the reply of tool 'measure' has the code 'books.closed'")


def test_a_retry_on_a_code_that_no_tool_may_raise_does_not_fire_in_a_test_either() -> None:
    @tool(effect="none")
    def book() -> None:
        raise ToolError("the books are closed", code="books.closed", retryable=True)

    text = "name: t\nmain:\n  - tool: book\n    retry: {attempts: 3, on: [books]}\n"
    run = run_task(text, tools=[book])
    assert len(run.calls) == 1
    assert run.error is not None
    assert run.error["code"] == "tool.failed"
    assert "'tool.books_closed'" in run.error["hint"]


def test_a_function_may_answer_calls() -> None:
    def answer(call: Call) -> Answered | None:
        return Answered(Ok({"kept": 1})) if call.summary == "store" else None

    assert run_task(TOOLS, {"text": "four"}, tools=[measure, keep], replies=answer).result == {"kept": 1}


def test_waits_are_answered_by_label_or_in_their_order() -> None:
    assert run_task(WAITS, answers={"two": 2, "one": "first"}).result == ["first", 2]
    assert run_task(WAITS, answers=["first", 2]).result == ["first", 2]


def test_an_answer_that_does_not_fit_or_is_not_waited_for_is_a_problem() -> None:
    run = run_task(WAITS, answers={"one": 1, "two": "no number", "tree": 3})
    assert run.status == "waiting"
    assert [wait["label"] for wait in run.waits] == ["two"]
    assert run.problems == [
        "the answer 'tree' was never waited for",
        "the answer for main.0[1].0 was refused: value: 'no number' is not of type 'integer'",
    ]


def test_an_answer_may_come_too_late() -> None:
    text = """
name: t
main:
  - label: sure
    wait_for_input: {info: {q: 1}, deadline: 1h, default: nobody}
"""
    assert run_task(text, answers={"sure": {"$answer": "me", "$after": 60}}).result == "me"
    late = run_task(text, answers={"sure": {"$answer": "me", "$after": 7200}})
    assert (late.result, late.seconds) == ("nobody", 3600)


def test_instead_of_an_answer_the_execution_may_be_cancelled() -> None:
    text = """
name: t
main:
  - evaluate: 1
    undo: {evaluate: $ _, label: undone}
  - label: sure
    wait_for_input: {info: {q: 1}}
finally: {evaluate: $ _, label: last}
"""
    run = run_task(text, answers={"sure": {"$cancel": "no longer wanted", "$after": 60}})
    assert (run.status, run.output, list(run.steps)) == ("cancelled", None, ["undone", "last"])
    assert run.trace[-1]["type"] == "cancelled"
    assert (run.trace[-1]["reason"], run.seconds) == ("no longer wanted", 60)
    assert run.problems == []


def test_an_event_comes_by_its_name_or_the_label_of_its_wait() -> None:
    text = "name: t\nmain:\n  - {label: paid, wait_for_event: order.paid, key: $ _.order}\n"
    for name in ("order.paid", "paid"):
        assert run_task(text, {"order": 7}, answers={name: {"amount": 1}}).result == {"amount": 1}
    waiting = run_task(text, {"order": 7})
    assert [(wait["label"], wait["info"]) for wait in waiting.waits] == [("paid", {"event": "order.paid", "key": 7})]


def test_a_wrong_input_is_refused_before_anything_runs() -> None:
    run = run_task(GREET, {})
    assert (run.status, run.calls) == ("refused", [])
    assert run.error is not None
    assert run.error["code"] == "input.invalid"


def test_an_input_that_does_not_meet_a_requirement_is_refused_with_its_message() -> None:
    text = "name: t\nrequire: [{if: _.n > 0, message: n must be above 0}]\nmain:\n  - evaluate: 1\n"
    run = run_task(text, {"n": 0})
    assert (run.status, run.error) == ("refused", {"code": "input.requirement", "message": "n must be above 0"})


def test_the_trace_tells_every_event_with_its_time() -> None:
    text = "name: t\nmain:\n  - sleep: {hours: 1}\n  - evaluate: 1\n"
    trace = run_task(text).trace
    assert [(event["type"], event["at"]) for event in trace] == [("init", 0), ("step", 3600), ("finish", 3600)]


def test_a_wrong_task_is_told_with_its_lines() -> None:
    with pytest.raises(DefinitionError, match=r"task:3:5: error\[E206\]"):
        run_task("name: t\nmain:\n  - promt: hi\n")
    with pytest.raises(InvalidInput, match="cannot be read"):
        run_task("nowhere.yaml")


def test_a_file_runs_with_the_tools_of_its_project(tmp_path: Path) -> None:
    (tmp_path / "everstep.toml").write_text('[tools]\nmodules = ["own_tools.py"]\n')
    (tmp_path / "own_tools.py").write_text(
        "from engine.tooling import tool\n\n\n@tool(effect='none')\ndef double(n: int) -> int:\n    return n * 2\n"
    )
    (tmp_path / "twice.yaml").write_text("name: twice\nmain:\n  - {tool: double, arguments: {n: $ _}}\n")
    assert run_task(tmp_path / "twice.yaml", 4).result == 8


def test_a_task_in_python_runs_as_a_file_and_as_an_object(tmp_path: Path) -> None:
    from engine import Task, evaluate

    (tmp_path / "both.py").write_text(
        'from engine import Task, evaluate\n\none = Task(main=[evaluate({"n": 1})])\ntwo = Task(main=[evaluate(2)])\n'
    )
    assert run_task(f"{tmp_path / 'both.py'}:one").result == {"n": 1}
    assert run_task(Task(main=[evaluate({"n": 3})])).result == {"n": 3}


def test_a_run_that_failed_says_in_a_few_lines_why() -> None:
    run: TaskRun = run_task("name: t\nmain:\n  - {label: ask, prompt: hi}\n  - error: no way\n", replies=["x"])
    told: Any = None
    try:
        _ = run.result
    except AssertionError as error:
        told = str(error)
    assert told == "the task is failed\n  error[task.error]: no way\n  at step main.1\n  calls: prompt ask"


@pytest.mark.parametrize(
    "task", ["main: {evaluate: $ _ + 1}", '{"main": [{"evaluate": "$ _ + 1"}]}', "{main: {evaluate: 2}}"]
)
def test_a_task_in_one_line_is_a_task_and_not_the_name_of_a_file(task: str) -> None:
    assert run_task(task, 1).result == 2


def test_a_name_of_a_file_is_no_task() -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        run_task("nothing.py:main")
    with pytest.raises(InvalidInput, match="No such file"):
        run_task("nothing here.yaml")
