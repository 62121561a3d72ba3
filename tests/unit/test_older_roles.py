"""Messages with the roles of 2024, told as models take them today."""

from __future__ import annotations

from typing import Any

from engine.control.sessions.older_roles import in_present_roles
from engine.store.entries import EntryFacts

ASKED = {"role": "user", "content": "Rain?"}


def call(call_id: str, name: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": "{}"}}


def history(*messages: dict[str, Any]) -> list[EntryFacts]:
    """Return a history that ends with messages."""
    facts: dict[str, Any] = {"tenant": "t", "session_id": "s", "turn_id": "x", "source": "internal", "created_us": 1}
    return [EntryFacts(id=str(number), **{"content": "", **facts, **one}) for number, one in enumerate(messages)]


def told(*messages: dict[str, Any], past: list[EntryFacts] | None = None) -> list[dict[str, Any]]:
    return in_present_roles(messages, past or [], turn_id="turn")


def result(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "function_response", "content": content, **more}


def test_the_agent_is_the_assistant_auto_is_the_user_and_roles_of_today_stay() -> None:
    today = [{"role": role, "content": "x"} for role in ("user", "assistant", "system")]
    assert told(*today) == today
    found = told({"role": "agent", "content": "Yes?"}, {"role": "auto", "content": "Hello"})
    assert [message["role"] for message in found] == ["assistant", "user"]


def test_results_belong_to_the_calls_of_their_names_that_wait_for_them_and_others_to_the_first() -> None:
    calls = [call("c1", "weather"), call("c2", "clock")]
    past = history(ASKED, {"role": "assistant", "tool_calls": calls})
    found = told(result("nine", name="clock"), result("wet"), past=past)
    assert [(message["role"], message["tool_call_id"]) for message in found] == [("tool", "c2"), ("tool", "c1")]
    answered = [*past, *history({"role": "tool", "tool_call_id": "c1"})]
    assert told({"role": "function", "content": "nine"}, past=answered)[0]["tool_call_id"] == "c2"
    assert told(result("wet", tool_call_id="c1"), past=past)[0]["tool_call_id"] == "c1"


def test_a_result_that_nobody_waits_for_is_told_by_the_user_with_what_it_is() -> None:
    past = history({"role": "assistant", "tool_calls": [call("c1", "weather")]}, {"role": "user"})
    for given in ([], past):
        assert told(result("wet", name="weather"), past=given) == [
            {"role": "user", "content": "Result of the function weather:\nwet"}
        ]
    assert told(result("wet")) == [{"role": "user", "content": "Result of a function:\nwet"}]


def test_a_call_and_its_result_get_the_same_id_which_no_other_has() -> None:
    one = {"role": "function_call", "name": "weather", "content": '{"place": "Ghent"}'}
    other = {"role": "function_call", "content": '{"name": "clock", "arguments": {"zone": "CET"}}'}
    first, wet, second, nine = told(one, result("wet"), other, result("nine"))
    assert (first["role"], first["content"], second["role"]) == ("assistant", None, "assistant")
    functions = [message["tool_calls"][0]["function"] for message in (first, second)]
    assert functions == [
        {"name": "weather", "arguments": '{"place": "Ghent"}'},
        {"name": "clock", "arguments": '{"zone": "CET"}'},
    ]
    ids = [first["tool_calls"][0]["id"], second["tool_calls"][0]["id"]]
    assert [wet["tool_call_id"], nine["tool_call_id"]] == ids
    assert len({*ids, told(ASKED, one, result("wet"))[1]["tool_calls"][0]["id"]}) == 3


def test_a_call_without_a_result_and_one_that_says_nothing_to_call_is_what_the_assistant_said() -> None:
    open_call = {"role": "function_call", "name": "weather", "content": "{}"}
    assert told(open_call, ASKED)[0] == {"role": "assistant", "content": "Call of the function weather:\n{}"}
    for text in ("look it up", "[1]", '{"place": "Ghent"}'):
        said, heard = told({"role": "function_call", "content": text}, result("wet"))
        assert said == {"role": "assistant", "content": f"Call of the function:\n{text}"}
        assert heard["role"] == "user"
