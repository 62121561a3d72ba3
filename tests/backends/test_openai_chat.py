"""What the OpenAI-compatible adapter sends, and how it puts replies together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from activities.backends.openai import OpenAIBackend, fits_strict_mode, request_body
from engine.core.contracts.activities import ChatResult, Usage
from engine.edge.mockllm.app import MockLlm, create_app
from engine.edge.mockllm.script import MockScript
from tests.backends.loopback import chat_params, config, header, raw_server, serving, simple_app
from tests.support.patience import PATIENCE_S


@asynccontextmanager
async def mock_backend(*rules: dict[str, Any], **changes: Any) -> AsyncIterator[tuple[OpenAIBackend, MockLlm]]:
    app = create_app(MockScript.model_validate({"rules": list(rules)}))
    async with serving(app) as url:
        backend = OpenAIBackend("mock", config(url, **changes))
        try:
            yield backend, app
        finally:
            await backend.aclose()


def sse(*events: Any, done: bool = True) -> bytes:
    body = "".join(f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events)
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    return (head + body + ("data: [DONE]\n\n" if done else "")).encode()


def whole(body: Any) -> bytes:
    text = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text)


async def ask(answer: bytes, **changes: Any) -> Any:
    async with raw_server(answer) as url:
        backend = OpenAIBackend("raw", config(url))
        try:
            return await backend.chat(chat_params(**changes))
        finally:
            await backend.aclose()


async def test_a_streamed_reply_is_put_together_with_its_usage() -> None:
    rule = {
        "reply": "one two three",
        "stream": {"chunk_chars": 2},
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    }
    async with mock_backend(rule) as (backend, _):
        result = await backend.chat(chat_params())
    assert result.message == {"role": "assistant", "content": "one two three"}
    assert (result.finish_reason, result.model, result.backend) == ("stop", "m", "mock")
    assert result.usage == Usage(prompt_tokens=7, completion_tokens=3, total_tokens=10)
    assert result.id == "chatcmpl-mock-1"
    assert result.created > 1_700_000_000


async def used(**usage: Any) -> Usage | None:
    """Return what is read of the usage of a whole reply."""
    choice = {"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}
    result: ChatResult = await ask(whole({"choices": [choice], "usage": usage}))
    return result.usage


@pytest.mark.parametrize(
    "told",
    [
        {"prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0}},
        {"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36},
        {"cached_tokens": 64},
        {"prompt_cache_hit_tokens": 64, "prompt_tokens_details": {"cached_tokens": 64}, "cached_tokens": None},
    ],
)
async def test_tokens_of_the_cache_are_found_by_every_name_that_servers_have_for_them(told: dict[str, Any]) -> None:
    found = await used(prompt_tokens=100, completion_tokens=5, total_tokens=105, **told)
    assert found == Usage(prompt_tokens=100, completion_tokens=5, total_tokens=105, cached_tokens=64)


async def test_tokens_that_went_into_the_cache_are_told_by_servers_that_know_them() -> None:
    found = await used(prompt_tokens=100, completion_tokens=5, prompt_tokens_details={"cache_write_tokens": 90})
    assert found == Usage(prompt_tokens=100, completion_tokens=5, total_tokens=105, cache_write_tokens=90)


async def test_thoughts_that_a_server_counts_beside_the_reply_are_a_part_of_it_here() -> None:
    details = {"reasoning_tokens": 386}
    beside = await used(prompt_tokens=12, completion_tokens=1, total_tokens=399, completion_tokens_details=details)
    assert beside == Usage(prompt_tokens=12, completion_tokens=387, total_tokens=399, reasoning_tokens=386)
    inside = await used(prompt_tokens=12, completion_tokens=387, total_tokens=399, completion_tokens_details=details)
    assert inside == beside


@pytest.mark.parametrize("details", [None, [], "none", {"cached_tokens": None}, {"cached_tokens": "many"}, {}, -7])
async def test_details_of_another_shape_make_no_reply_a_bad_one(details: Any) -> None:
    found = await used(
        prompt_tokens=3,
        completion_tokens=1,
        total_tokens=4,
        prompt_tokens_details=details,
        completion_tokens_details=details,
        prompt_cache_hit_tokens=details,
    )
    assert found is not None
    assert (found.total_tokens, found.cached_tokens, found.reasoning_tokens) == (4, 0, 0)


async def test_parts_are_never_more_than_the_whole() -> None:
    found = await used(
        prompt_tokens=10,
        completion_tokens=2,
        total_tokens=12,
        prompt_tokens_details={"cached_tokens": 11, "cache_write_tokens": 5},
        completion_tokens_details={"reasoning_tokens": -3},
    )
    assert found == Usage(prompt_tokens=10, completion_tokens=2, total_tokens=12, cached_tokens=10)


async def test_tool_calls_that_come_in_pieces_are_put_together_in_order() -> None:
    calls = [{"name": "add", "arguments": {"a": 1, "b": 22}}, {"name": "look", "arguments": {}}]
    async with mock_backend({"tool_calls": calls, "stream": {"chunk_chars": 3}}) as (backend, _):
        result = await backend.chat(chat_params())
    assert result.finish_reason == "tool_calls"
    assert result.message == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1_0", "type": "function", "function": {"name": "add", "arguments": '{"a":1,"b":22}'}},
            {"id": "call_1_1", "type": "function", "function": {"name": "look", "arguments": "{}"}},
        ],
    }


async def test_tool_calls_without_numbers_are_told_apart() -> None:
    first = {"id": "a", "function": {"name": "add", "arguments": {"a": 1}}}
    second = {"id": "b", "function": {"name": "add", "arguments": '{"a":'}}
    rest = {"function": {"arguments": "2}"}}
    deltas = [{"tool_calls": [first]}, {"tool_calls": [second]}, {"tool_calls": [rest]}]
    result = await ask(sse(*({"choices": [{"index": 0, "delta": delta}]} for delta in deltas)))
    calls = result.message["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"a": 1}, {"a": 2}]
    assert result.finish_reason == "tool_calls"


async def test_a_server_that_does_not_stream_is_understood() -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "length"}
    usage = {"prompt_tokens": 4, "completion_tokens": 1}
    result = await ask(whole({"id": "x", "model": "real", "created": 5, "choices": [choice], "usage": usage}))
    assert result.message == {"role": "assistant", "content": "hi"}
    assert (result.id, result.model, result.created, result.finish_reason) == ("x", "real", 5, "length")
    assert result.usage == Usage(prompt_tokens=4, completion_tokens=1, total_tokens=5)


async def test_a_stream_that_ends_after_its_finish_reason_needs_no_done_mark() -> None:
    event = {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}
    assert (await ask(sse(event, done=False))).message["content"] == "hi"


async def test_line_separators_inside_the_text_do_not_cut_the_stream() -> None:
    text = "a\u2028b\u2029c\x85d\x0be"
    event = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]}
    assert (await ask(sse(event))).message["content"] == text


async def test_comments_blank_lines_and_carriage_returns_of_a_stream_are_passed_over() -> None:
    event = json.dumps({"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]})
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    body = f": ping\r\n\r\nevent: x\r\nid: 1\r\ndata:{event}\r\n\r\n\r\ndata: [DONE]"
    assert (await ask((head + body).encode())).message["content"] == "hi"


async def test_other_choices_than_the_first_are_left_out() -> None:
    event = {"choices": [{"index": 1, "delta": {"content": "no"}}, {"index": 0, "delta": {"content": "yes"}}]}
    assert (await ask(sse(event))).message["content"] == "yes"


async def test_content_parts_are_joined_and_a_refusal_is_kept() -> None:
    message = {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "refusal": "I must not"}
    result = await ask(whole({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))
    assert result.message == {"role": "assistant", "content": "ab", "refusal": "I must not"}


async def test_the_request_carries_settings_tools_schema_and_idempotency_key() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    async with mock_backend() as (backend, app):
        await backend.chat(
            chat_params(
                settings={"temperature": 0, "top_k": 3, "stream": False, "model": "other"},
                tools=[tool],
                tool_choice="auto",
                output_schema=schema,
            )
        )
    call = app.calls[0]
    assert (call["model"], call["stream"], call["idempotency_key"]) == ("m", True, "e1/main.0")
    assert call["messages"] == [{"role": "user", "content": "hello"}]
    assert call["body"] == {
        "response_format": {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}},
        "temperature": 0,
        "top_k": 3,
        "stream_options": {"include_usage": True},
        "tools": [tool],
        "tool_choice": "auto",
    }


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "object", "properties": {}, "additionalProperties": False}, True),
        ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, False),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, False),
        ({"type": "array", "items": {"type": "object"}}, False),
        ({"type": "string"}, True),
        ({"anyOf": [{"type": "null"}, {"type": "object"}]}, False),
        ({"$defs": {"x": {"type": "object"}}, "$ref": "#/$defs/x"}, False),
    ],
)
def test_strict_mode_is_asked_for_only_where_servers_grant_it(schema: Any, strict: bool) -> None:
    assert fits_strict_mode(schema) is strict


async def test_the_key_is_read_from_the_environment_at_the_time_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    async def handler(scope: Any, body: Any) -> tuple[int, dict[str, str], bytes]:
        seen.append(header(scope, "authorization"))
        return (
            200,
            {"content-type": "application/json"},
            json.dumps({"choices": [{"message": {"content": "x"}}]}).encode(),
        )

    async with serving(simple_app(handler)) as url:
        backend = OpenAIBackend("b", config(url, api_key_env="SOME_KEY"))
        monkeypatch.setenv("SOME_KEY", "first\n")
        await backend.chat(chat_params())
        monkeypatch.setenv("SOME_KEY", "second")
        await backend.chat(chat_params())
        await backend.aclose()
    assert seen == ["Bearer first", "Bearer second"]


async def test_a_key_of_foreign_letters_becomes_a_legal_header() -> None:
    async with mock_backend() as (backend, app):
        params = chat_params()
        context = type(params.context)(tenant="t", execution_id="e", path="hauptschlüssel", key="e/schlüssel\n.0")
        await backend.chat(chat_params(context=context))
    assert app.calls[0]["idempotency_key"] == "e/schl%C3%BCssel%0A.0"


async def test_models_are_listed() -> None:
    async with mock_backend() as (backend, _):
        assert await backend.list_models() == ["mock"]


async def test_many_calls_at_one_time_are_spread_over_several_small_pools() -> None:
    async with mock_backend({"delay_s": 0.05}, max_connections=28) as (backend, app):
        results = await asyncio.gather(*(backend.chat(chat_params(f"q{number}")) for number in range(56)))
    assert [result.message["content"] for result in results] == [f"q{number}" for number in range(56)]
    # 28 at one time: the second half starts when the first has ended
    times = sorted(call["time"] for call in app.calls)
    assert times[28] - times[0] >= 0.04
    assert times[27] - times[0] < times[28] - times[0]


async def test_a_cancelled_call_lets_go_of_the_connection_at_once() -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        arrived.set()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b": hold on\n\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    async with serving(app) as url:
        backend = OpenAIBackend("slow", config(url))
        call = asyncio.create_task(backend.chat(chat_params()))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(gone.wait(), PATIENCE_S)
        await backend.aclose()


async def test_a_conversation_goes_on_without_what_another_providers_adapter_kept_in_it() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    own = {"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "c2ln"}]}
    signed = {**call, "extra_content": {"google": {"thought_signature": "c2ln"}}}
    messages = [
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": "I look.", **own, "tool_calls": [signed]},
        {"role": "tool", "tool_call_id": "c1", "content": "red"},
    ]
    sent = request_body(chat_params(messages=messages))["messages"]
    assert sent == [messages[0], {"role": "assistant", "content": "I look.", "tool_calls": [call]}, messages[2]]
