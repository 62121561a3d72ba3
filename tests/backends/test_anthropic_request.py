"""What the Anthropic adapter says of a call: the conversation, settings, tools, and what is to be cached."""

from __future__ import annotations

import json
from typing import Any

import pytest

from activities.backends.anthropic_request import DEFAULT_MAX_TOKENS, request_body
from tests.backends.loopback import chat_params

CACHED = {"type": "ephemeral"}
LOOK = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}}}


def sent(*messages: dict[str, Any], **params: Any) -> dict[str, Any]:
    if messages:
        params["messages"] = list(messages)
    return request_body(chat_params(**params))


def said(role: str, *blocks: Any) -> dict[str, Any]:
    return {
        "role": role,
        "content": [{"type": "text", "text": item} if isinstance(item, str) else item for item in blocks],
    }


# --- the conversation ----------------------------------------------------------------------------------


def test_the_smallest_call_names_the_most_tokens_as_the_service_demands_it() -> None:
    assert sent() == {
        "model": "m",
        "max_tokens": DEFAULT_MAX_TOKENS,
        "messages": [said("user", "hello")],
        "stream": True,
    }


def test_system_messages_wherever_they_stand_become_the_system_text_in_order() -> None:
    body = sent(
        {"role": "system", "content": "One."},
        {"role": "user", "content": "hi"},
        {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
        settings={"cache_control": None},
    )
    assert body["system"] == [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    assert body["messages"] == [said("user", "hi")]
    assert "cache_control" not in body


def test_a_conversation_of_system_messages_only_is_what_the_user_says() -> None:
    body = sent({"role": "system", "content": "Tell a joke."})
    assert (body["messages"], "system" in body) == ([said("user", "Tell a joke.")], False)


def test_neighbours_of_one_role_are_one_turn_and_empty_messages_are_left_out() -> None:
    body = sent(
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": " \n"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
        {"role": "assistant", "content": "d"},
        {"role": "user", "content": "e"},
    )
    first, then, last = body["messages"]
    assert (first, then) == (said("user", "a", "b"), said("assistant", "c", "d"))
    assert last["content"] == [{"type": "text", "text": "e", "cache_control": CACHED}]


def test_a_refusal_of_the_past_is_what_the_assistant_said() -> None:
    refused = {"role": "assistant", "content": None, "refusal": "I must not"}
    body = sent({"role": "user", "content": "hi"}, refused, {"role": "user", "content": "why?"})
    assert body["messages"][1] == said("assistant", "I must not")


def test_tools_of_the_service_itself_are_passed_on_if_the_step_offers_none() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    made = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    body = sent({"role": "assistant", "tool_calls": [made]}, settings={"tools": [search]})
    assert (body["tools"], "tool_choice" in body) == ([search], False)


def test_tool_calls_and_their_results_are_blocks_and_the_results_share_a_turn() -> None:
    calls = [
        {"id": "a.1", "type": "function", "function": {"name": "look", "arguments": '{"at":"x"}'}},
        {"id": "b", "type": "function", "function": {"name": "look", "arguments": ""}},
        {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"at":'}},
    ]
    body = sent(
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a.1", "content": "red"},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "what?"}]},
        {"role": "user", "content": "so?"},
        tools=[LOOK],
    )
    assert body["messages"][1]["content"] == [
        {"type": "tool_use", "id": "a_1", "name": "look", "input": {"at": "x"}},
        {"type": "tool_use", "id": "b", "name": "look", "input": {}},
        {"type": "tool_use", "id": "c", "name": "look", "input": {"INVALID_JSON": '{"at":'}},
    ]
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a_1", "content": [{"type": "text", "text": "red"}]},
        {"type": "tool_result", "tool_use_id": "b"},
        {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "what?"}]},
        {"type": "text", "text": "so?", "cache_control": CACHED},
    ]


def test_calls_of_the_past_have_definitions_even_if_nothing_can_be_called_now() -> None:
    made = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    body = sent(
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "a", "content": "red"},
    )
    assert body["tools"] == [{"name": "look", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}


def test_images_are_sent_inline_or_by_their_address_and_documents_inline() -> None:
    urls = ["data:image/png;base64,AAAA", "https://example.org/a.jpg", "data:application/pdf;base64,BBBB"]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    assert sent({"role": "user", "content": parts})["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.jpg"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}},
    ]


# --- settings and tools --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 6}, {"max_tokens": 6}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, {"max_tokens": 5}),
        ({"max_tokens": None}, {}),
        ({"temperature": 0, "top_p": 0.5, "top_k": 3}, {"temperature": 0, "top_p": 0.5, "top_k": 3}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["A", "B"]}, {"stop_sequences": ["A", "B"]}),
        ({"stop": []}, {}),
        ({"user": "u1"}, {"metadata": {"user_id": "u1"}}),
        ({"seed": 3, "n": 1, "frequency_penalty": 0, "repetition_penalty": 1, "logprobs": True}, {}),
        ({"service_tier": "auto"}, {"service_tier": "auto"}),
        ({"thinking": {"type": "adaptive"}}, {"thinking": {"type": "adaptive"}}),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": DEFAULT_MAX_TOKENS + 2000},
        ),
        ({"reasoning_effort": "high"}, {"output_config": {"effort": "high"}}),
        ({"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        ({"model": "x", "messages": [], "stream": False, "stream_options": {}, "parallel_tool_calls": False}, {}),
    ],
)
def test_settings_are_said_in_the_services_words(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sent(settings=settings) == {**sent(), **expected}


@pytest.mark.parametrize(
    ("choice", "settings", "expected"),
    [
        (None, {}, None),
        ("auto", {}, {"type": "auto"}),
        ("none", {"parallel_tool_calls": False}, {"type": "none"}),
        ("required", {"parallel_tool_calls": True}, {"type": "any"}),
        ({"type": "function", "function": {"name": "look"}}, {}, {"type": "tool", "name": "look"}),
        (None, {"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", {"parallel_tool_calls": False}, {"type": "any", "disable_parallel_tool_use": True}),
        (None, {"tools": ["mine"], "tool_choice": {"type": "any"}}, None),
    ],
)
def test_what_may_be_called_is_said_in_the_services_words(choice: Any, settings: Any, expected: Any) -> None:
    body = sent(tools=[LOOK], tool_choice=choice, settings=settings)
    look = {"name": "look", "description": "Look.", "input_schema": {"type": "object"}, "cache_control": CACHED}
    assert (body["tools"], body.get("tool_choice")) == ([look], expected)


def test_tools_and_system_text_are_marked_for_the_cache() -> None:
    plain = {"type": "function", "function": {"name": "plain"}}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    body = sent(*messages, tools=[plain, LOOK])
    assert ["cache_control" in tool for tool in body["tools"]] == [False, True]
    assert body["system"] == [{"type": "text", "text": "Be brief.", "cache_control": CACHED}]
    assert "cache_control" not in json.dumps(body["messages"])
    assert "cache_control" not in LOOK["function"]


def test_a_conversation_that_goes_on_is_marked_up_to_its_end_and_a_single_question_is_not() -> None:
    said_before = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}]
    question = {"role": "user", "content": [{"type": "text", "text": "who"}, {"type": "text", "text": "are you?"}]}
    turns = sent(*said_before, question)["messages"]
    marked = [["cache_control" in block for block in turn["content"]] for turn in turns]
    assert marked == [[False], [False], [False, True]]
    assert "cache_control" not in json.dumps(sent(question)["messages"])
    assert "cache_control" not in json.dumps(question)


@pytest.mark.parametrize("mark", [{"type": "ephemeral", "ttl": "1h"}, None])
def test_an_author_who_says_what_is_cached_decides_alone(mark: Any) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    body = sent(*messages, tools=[LOOK], settings={"cache_control": mark})
    assert body.get("cache_control") == mark
    assert "cache_control" not in json.dumps([body["tools"], body["system"]])
    part = {"type": "text", "text": "long", "cache_control": CACHED}
    brief = {"type": "text", "text": "Be brief."}
    body = sent({"role": "system", "content": "Be brief."}, {"role": "user", "content": [part]})
    assert (body["messages"][0]["content"], body["system"]) == ([part], [brief])
    body = sent({"role": "system", "content": [part, brief]}, {"role": "user", "content": "hi"})
    assert body["system"] == [part, brief]
