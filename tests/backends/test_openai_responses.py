"""OpenAI's Responses API: what is sent, how a response is read, and what its errors are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from activities.backends.openai_responses import ResponsesBackend
from activities.backends.openai_responses_request import request_body
from engine.core.contracts.activities import ChatResult, Usage
from engine.core.errors import BackendError
from tests.backends.loopback import chat_params, config, raw_server

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
LOOK = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}}}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}


def event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def over(status: str = "completed", **members: Any) -> bytes:
    response = {"id": "resp_1", "object": "response", "model": "m-1", "created_at": 1_700_000_001, "status": status}
    return event(f"response.{status}", response=response | members)


async def streamed(*events: bytes, told: list[tuple[str, str]] | None = None, head: bytes = HEAD) -> ChatResult:
    """Return what is read of the events that a server sends."""
    seen = [] if told is None else told
    async with raw_server(head, *events) as url:
        backend = ResponsesBackend("b", config(url))
        try:
            return await backend.chat(chat_params(), lambda kind, text, call, member: seen.append((kind, text)))
        finally:
            await backend.aclose()


async def failure(*events: bytes, head: bytes = HEAD) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await streamed(*events, head=head)
    return caught.value


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_settings_have_the_names_of_this_api_and_nothing_is_stored_unless_asked_for() -> None:
    settings = {
        "max_tokens": 9,
        "temperature": 0.5,
        "stop": ["END"],
        "seed": 7,
        "verbosity": "low",
        "n": 1,
        "user": "u",
    }
    body = request_body(chat_params(settings=settings))
    assert body == {
        "store": False,
        "max_output_tokens": 9,
        "temperature": 0.5,
        "stop": ["END"],
        "user": "u",
        "text": {"verbosity": "low"},
        "model": "m",
        "input": [{"type": "message", "role": "user", "content": "hello"}],
        "stream": True,
    }
    assert request_body(chat_params(settings={"store": True}))["store"] is True


def test_logprobs_and_sealed_thoughts_are_asked_for_by_name() -> None:
    body = request_body(chat_params(settings={"logprobs": True, "top_logprobs": 2, "reasoning_effort": "low"}))
    assert body["include"] == ["message.output_text.logprobs", "reasoning.encrypted_content"]
    assert (body["top_logprobs"], body["reasoning"]) == (2, {"effort": "low"})
    kept = request_body(chat_params(settings={"reasoning": {"effort": "low"}, "store": True}))
    assert "include" not in kept


def test_the_form_of_the_reply_stands_in_text() -> None:
    closed = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    body = request_body(chat_params(output_schema=closed, settings={"verbosity": "low"}))
    form = {"type": "json_schema", "name": "reply", "schema": closed, "strict": True}
    assert body["text"] == {"verbosity": "low", "format": form}
    assert request_body(chat_params(output_schema={"type": "object"}))["text"]["format"]["strict"] is False
    wished = request_body(chat_params(settings={"response_format": {"type": "json_object"}}))
    assert wished["text"] == {"format": {"type": "json_object"}}


def test_functions_are_not_strict_unless_they_say_so_and_the_providers_own_tools_stand_beside_them() -> None:
    params = chat_params(
        tools=[LOOK],
        tool_choice={"type": "function", "function": {"name": "look"}},
        settings={"tools": [{"type": "web_search"}], "parallel_tool_calls": False},
    )
    body = request_body(params)
    look = {
        "type": "function",
        "name": "look",
        "description": "Look.",
        "parameters": {"type": "object"},
        "strict": False,
    }
    assert body["tools"] == [{"type": "web_search"}, look]
    assert body["tool_choice"] == {"type": "function", "name": "look"}
    assert body["parallel_tool_calls"] is False


def test_thoughts_words_and_calls_of_the_past_are_items() -> None:
    sealed = {**THOUGHT, "encrypted_content": "xyz"}
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "assistant", "content": "I look.", "tool_calls": [call], "reasoning_items": [sealed]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "red"}]},
        {"role": "assistant", "content": None, "refusal": "No."},
    ]
    assert request_body(chat_params(messages=messages))["input"] == [
        {"type": "message", "role": "developer", "content": "Be brief."},
        sealed,
        {"type": "message", "role": "assistant", "content": "I look."},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"at":1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "red"},
        {"type": "message", "role": "assistant", "content": "No."},
    ]


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"settings": {"n": 2}}, "'n'"),
        ({"tools": [LOOK], "tool_choice": "sometimes"}, "tool_choice"),
        ({"settings": {"reasoning": "much"}}, "reasoning"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "video"),
    ],
)
async def test_what_it_has_no_word_for_is_refused_before_anything_is_sent(params: dict[str, Any], word: str) -> None:
    backend = ResponsesBackend("b", config("http://127.0.0.1:1"))
    with pytest.raises(BackendError) as caught:
        await backend.chat(chat_params(**params))
    await backend.aclose()
    assert caught.value.code == "backend.refused"
    assert word in caught.value.message


# --- what is read ----------------------------------------------------------------------------------------------------


async def test_thoughts_are_told_and_kept_only_where_they_are_sealed_and_a_tool_is_called() -> None:
    told: list[tuple[str, str]] = []
    call = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look"}
    events = (
        event("response.output_item.added", output_index=0, item={"type": "reasoning", "id": "rs_1"}),
        event("response.reasoning_summary_text.delta", output_index=0, delta="H"),
        event("response.reasoning_summary_text.delta", output_index=0, delta="m."),
        event("response.output_item.done", output_index=0, item={**THOUGHT, "encrypted_content": "xyz"}),
    )
    called = (
        event("response.output_item.added", output_index=1, item={**call, "arguments": ""}),
        event("response.function_call_arguments.delta", output_index=1, delta='{"at"'),
        event("response.function_call_arguments.delta", output_index=1, delta=":1}"),
        event("response.output_item.done", output_index=1, item={**call, "arguments": '{"at":1}'}),
    )
    usage = {"input_tokens": 5, "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 4}}
    result = await streamed(*events, *called, over(usage=usage), told=told)
    assert "".join(text for kind, text in told if kind == "reasoning") == "Hm."
    assert result.message == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}}],
        "reasoning_items": [{**THOUGHT, "encrypted_content": "xyz"}],
    }
    assert (result.finish_reason, result.id, result.model, result.created) == (
        "tool_calls",
        "resp_1",
        "m-1",
        1_700_000_001,
    )
    assert result.usage == Usage(prompt_tokens=5, completion_tokens=9, total_tokens=14, reasoning_tokens=4)
    said = await streamed(*events, event("response.output_text.delta", output_index=1, delta="Red."), over())
    assert said.message == {"role": "assistant", "content": "Red."}


async def test_items_that_come_in_one_piece_or_only_at_the_end_are_taken_once() -> None:
    message = {"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "Red."}]}
    done = event("response.output_item.done", output_index=0, item=message)
    assert (await streamed(done, over(output=[message]))).message["content"] == "Red."
    assert (await streamed(over(output=[message]))).message["content"] == "Red."
    piece = event("response.output_text.delta", output_index=0, delta="Red.")
    assert (await streamed(piece, done, over(output=[message]))).message["content"] == "Red."


async def test_a_response_that_is_not_streamed_is_read_alike() -> None:
    output = [
        {"type": "message", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
    ]
    body = {"id": "resp_1", "object": "response", "model": "m-1", "status": "completed", "output": output}
    result = await streamed(json.dumps(body).encode(), head=WHOLE)
    assert result.message["content"] == "I look."
    assert result.message["tool_calls"][0]["function"] == {"name": "look", "arguments": "{}"}


async def test_a_refusal_is_told_as_one() -> None:
    result = await streamed(event("response.refusal.delta", output_index=0, delta="I cannot."), over())
    assert result.message == {"role": "assistant", "content": "", "refusal": "I cannot."}


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("rate_limit_exceeded", "backend.rate_limited"),
        ("insufficient_quota", "backend.refused"),
        ("server_error", "backend.overloaded"),
        ("context_length_exceeded", "backend.context_too_long"),
        ("invalid_prompt", "backend.refused"),
        ("something_new", "backend.overloaded"),
    ],
)
async def test_an_error_within_the_stream_has_our_name(code: str, told: str) -> None:
    error = {"code": code, "message": "your input exceeds the context window" if "context" in code else "no"}
    assert (await failure(over("failed", error=error))).code == told
    assert (await failure(event("error", **error))).code == told


async def test_a_stream_without_its_last_event_is_cut_off() -> None:
    error = await failure(event("response.output_text.delta", output_index=0, delta="Re"))
    assert (error.code, error.retryable) == ("backend.cut_off", True)


async def test_only_openai_has_a_choice_of_api() -> None:
    with pytest.raises(ValueError, match="only a backend of kind openai"):
        config("http://127.0.0.1:1", kind="ollama", api="responses")
