"""What `check` does with a result that does not hold: the model repairs it, the attempt fails, or a person decides."""

from __future__ import annotations

import pytest

from engine.core.run.effects import Call, Ok
from engine.dryrun.effects import Answered
from engine.dryrun.replies import chat_reply
from tests.support.memory import compiled, error_of, output_of, run, script, seen

SHORT = """
name: t
main:
  - prompt: Say something
    unwrap: true
    check: {if: len(_) < 6, message: "{{ _ }} has {{ len(_) }} letters"}
"""


def test_a_reply_that_holds_goes_through():
    assert output_of(SHORT, None, script("short")) == "short"


def test_a_reply_that_does_not_hold_is_sent_back_with_what_is_wrong():
    asked: list[object] = []
    replies = iter(["much too long", "fits"])

    def handler(call: Call) -> Answered:
        asked.append(call.params.messages[-1]["content"])  # type: ignore[union-attr]
        return Answered(Ok(chat_reply(next(replies))))

    result = run(SHORT, None, handler)
    assert result.finished is not None
    assert result.finished.outcome == Ok("fits")
    assert asked[0] == "Say something"
    assert "much too long has 13 letters" in str(asked[1])
    failures = seen(result, "attempt.failed")
    assert [(event.body["error"]["code"], event.body["repair"]) for event in failures] == [("check.failed", 1)]


def test_a_reply_that_never_holds_fails_after_its_repair_rounds():
    error = error_of(SHORT + "    repair: 1\n", None, script("too long 1", "too long 2"))
    assert error.code == "check.failed"
    assert error.details["output"] == "too long 2"


def test_a_structured_reply_is_checked_after_its_schema():
    task = """
name: t
main:
  - prompt: How many?
    output_schema: {type: object, properties: {n: {type: integer}}, required: [n]}
    unwrap: true
    check: [{if: _.n > 3, message: more than 3}]
"""
    assert output_of(task, None, script("no json", '{"n": 1}', '{"n": 4}')) == {"n": 4}


def test_a_tool_that_does_not_hold_fails_and_its_author_may_try_again_or_handle_it():
    task = "name: t\nmain: [{tool: book, check: {if: $ _ == 'good'}%s}]"
    error = error_of(task % "", None, script("bad"))
    assert error.code == "check.failed"
    assert "`_ == 'good'` does not hold" in error.message
    assert output_of(task % ", retry: {attempts: 3}", None, script("bad", "bad", "good")) == "good"
    assert output_of(task % ", on_error: {evaluate: $ error.code}", None, script("bad")) == "check.failed"


ASK = """
name: t
main:
  - tool: lookup
    arguments: {name: x}
    label: price
    check: [{if: $ _ < 100, message: "{{ _ }} is much", on_fail: ask}]
"""


@pytest.mark.parametrize(("answer", "output"), [({"accept": True}, 120), ({"accept": True, "output": 99}, 99)])
def test_a_person_may_accept_or_replace_a_result(answer: object, output: object):
    result = run(ASK, None, script(120), answers=[answer])
    assert result.finished is not None
    assert result.finished.outcome == Ok(output)
    wait = seen(result, "wait")[0]
    assert wait.body["info"] == {"problem": "120 is much", "output": 120}
    assert wait.body["label"] == "price"


def test_a_person_may_refuse_a_result():
    result = run(ASK, None, script(120), answers=[{"accept": False}])
    assert result.events[-1].body["error"]["code"] == "check.failed"


def test_a_result_that_waits_for_a_person_survives_continue_as_new():
    task = ASK.replace("main:", "main:\n  - sleep: {seconds: 1}\n  - sleep: {seconds: 1}")
    result = run(task, None, script(120), answers=[{"accept": True}], carry_every=1)
    assert result.finished is not None
    assert result.finished.outcome == Ok(120)


def test_checks_do_not_change_the_plan_of_a_task_without_them():
    plan = compiled("name: t\nmain: [{tool: book}]")
    assert plan.blocks[0].ops[0].mods.checks == ()
