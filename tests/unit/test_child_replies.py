"""Other tasks in tests and dry runs: they are scripted like tools, and never run."""

from __future__ import annotations

import pytest

from engine.core.errors import InvalidInput
from engine.core.run.effects import Ok
from engine.dryrun.scripted import dry_run
from engine.testing import run_task
from tests.support.memory import compiled

TASK = "name: t\nmain: [{task: greet@prod, label: hello, arguments: {name: $ _}}, {evaluate: $ _ + '!'}]"


@pytest.mark.parametrize("name", ["hello", "main.0", "greet"])
def test_a_task_is_scripted_by_label_path_or_name(name: str) -> None:
    run = run_task(TASK, "Ada", replies={name: "Hello Ada"})
    assert run.result == "Hello Ada!"
    (call,) = run.calls
    assert (call["kind"], call["name"], call["label"], call["path"]) == ("task", "greet", "hello", "main.0")
    assert call["request"] == {"input": {"name": "Ada"}}
    assert call["reply"] == "Hello Ada"


def test_a_scripted_failure_is_that_of_the_child() -> None:
    run = run_task(TASK, "Ada", replies={"greet": {"$error": "tool.http_status"}})
    assert run.error is not None
    assert run.error["code"] == "tool.http_status"
    assert run.error["details"]["task"] == "greet"


def test_a_child_that_takes_long_meets_the_timeout_of_its_step() -> None:
    task = "name: t\nmain: [{task: greet, timeout: 1m}]"
    assert run_task(task, replies={"greet": {"$reply": 1, "$after": 59}}).result == 1
    late = run_task(task, replies={"greet": {"$reply": 1, "$after": 61}})
    assert late.error is not None
    assert late.error["code"] == "step.timeout"


def test_a_task_without_a_reply_fails_the_test() -> None:
    run = run_task(TASK, "Ada")
    assert run.problems == ["task 'hello' at main.0 has no reply"]


def test_a_task_can_be_made_up() -> None:
    run = run_task("name: t\nmain: [{task: greet, arguments: {a: 1}}]", invent=True)
    assert run.result == {"dry_run": True, "task": "greet", "arguments": {"a": 1}}


def test_a_dry_run_takes_replies_by_the_name_of_a_task_and_refuses_unknown_ones() -> None:
    plan = compiled(TASK)
    ended = dry_run(plan, "Ada", replies={"greet": "Hi"})
    assert ended.finished is not None
    assert ended.finished.outcome == Ok("Hi!")
    with pytest.raises(InvalidInput, match="greeet"):
        dry_run(plan, "Ada", replies={"greeet": "Hi"})
