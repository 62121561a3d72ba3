"""DESIGN §3, "Kinds": `output_schema` of a prompt."""

from __future__ import annotations

from activities.backends.openai import request_body
from tests.language.words import Noting
from tests.support.memory import error_of, output_of, run, script, seen

SCHEMA = "{type: object, required: [n], properties: {n: {type: integer}}}"
TASK = f"name: t\nmain: [{{prompt: how many?, unwrap: true, output_schema: {SCHEMA}, repair: 2}}]"


def test_the_backend_is_asked_for_its_own_json_mode():
    """A prompt with `output_schema` uses the backend's native JSON mode."""
    desk = Noting(script('{"n": 1}'))
    output_of(TASK, None, desk)
    sent = request_body(desk.calls[0].params)  # type: ignore[arg-type]
    assert sent["response_format"]["type"] == "json_schema"
    assert sent["response_format"]["json_schema"]["schema"]["required"] == ["n"]


def test_a_reply_is_checked_against_the_schema_and_repaired():
    """A structured reply is validated, and repaired by another round."""
    desk = Noting(script("three", '{"n": "three"}', '{"n": 3}'))
    assert output_of(TASK, None, desk) == {"n": 3}
    told = [call.params.messages[-1]["content"] for call in desk.calls]  # type: ignore[union-attr]
    assert told[0] == "how many?"
    assert "'three' is not of type 'integer'" in told[2]


def test_a_reply_is_repaired_so_many_times_and_no_more():
    """A reply is repaired up to N times."""
    desk = Noting(script("a", "b", "c"))
    error = error_of(TASK, None, desk)
    assert (error.code, len(desk.calls)) == ("backend.bad_reply", 3)
    none = Noting(script("a"))
    assert error_of(TASK.replace("repair: 2", "repair: 0"), None, none).code == "backend.bad_reply"
    assert len(none.calls) == 1


def test_each_round_of_repair_stands_in_the_history():
    """Each attempt at a structured reply stands in the history."""
    result = run(TASK, None, script("a", '{"n": "b"}', '{"n": 3}'))
    assert len(seen(result, "effect.started")) == 3
    assert [event.body["repair"] for event in seen(result, "attempt.failed")] == [1, 2]
    problems = [event.body["error"]["message"] for event in seen(result, "attempt.failed")]
    assert "not JSON" in problems[0]
    assert "not of type 'integer'" in problems[1]
