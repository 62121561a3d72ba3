"""Where the Anthropic adapter sends its calls, and how it puts replies together."""

from __future__ import annotations

import json
from typing import Any

import pytest

from activities.backends.anthropic import AnthropicBackend
from activities.backends.anthropic_request import DEFAULT_MAX_TOKENS
from engine.core.contracts.activities import Usage
from engine.settings import BackendConfig
from tests.backends.adapters import scripted
from tests.backends.loopback import chat_params, header, raw_server, serving, simple_app
from tests.backends.test_anthropic_request import LOOK, sent


def sse(*events: Any) -> bytes:
    told = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    return (head + told).encode()


def whole(body: Any) -> bytes:
    text = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text)


def start(**usage: int) -> dict[str, Any]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-real", "content": []}
    return {"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage}}


def block(index: int, given: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": given},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text(index: int, *pieces: str) -> list[dict[str, Any]]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": piece} for piece in pieces))


def call(index: int, name: str, *pieces: str) -> list[dict[str, Any]]:
    head = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}
    return block(index, head, *({"type": "input_json_delta", "partial_json": piece} for piece in pieces))


def end(reason: str, **members: Any) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None, **members}
    return [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9}}, {"type": "message_stop"}]


async def ask(answer: bytes, told: list[tuple[str, str]] | None = None, **params: Any) -> Any:
    taken = [] if told is None else told
    async with raw_server(answer) as url:
        backend = AnthropicBackend("raw", BackendConfig(base_url=url))
        try:
            return await backend.chat(chat_params(**params), lambda kind, text, *_: taken.append((kind, text)))
        finally:
            await backend.aclose()


# --- headers and addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["", "/", "/v1", "/v1/"])
async def test_the_version_stands_in_every_request_and_the_base_url_may_name_it(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str, str, str]] = []

    async def handler(scope: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        names = ("anthropic-version", "x-api-key", "anthropic-beta")
        seen.append((scope["path"], *(header(scope, name) for name in names)))
        answer = {"type": "message", "content": [{"type": "text", "text": "x"}], "data": [{"id": "a"}]}
        return 200, {"content-type": "application/json"}, json.dumps(answer).encode()

    monkeypatch.setenv("SOME_KEY", "s3cret")
    async with serving(simple_app(handler)) as url:
        backend = AnthropicBackend("b", BackendConfig(base_url=url + base, api_key_env="SOME_KEY"))
        await backend.chat(chat_params(settings={"betas": ["one-1", "two-2"]}))
        keyless = AnthropicBackend("b", BackendConfig(base_url=url + base))
        await keyless.chat(chat_params(settings={"betas": "one-1"}))
        await keyless.list_models()
        await backend.aclose()
        await keyless.aclose()
    assert seen == [
        ("/v1/messages", "2023-06-01", "s3cret", "one-1,two-2"),
        ("/v1/messages", "2023-06-01", "", "one-1"),
        ("/v1/models", "2023-06-01", "", ""),
    ]


async def test_all_models_are_listed_on_one_page_but_those_no_longer_served() -> None:
    asked: list[bytes] = []

    async def handler(scope: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        asked.append(scope["query_string"])
        return 200, {}, json.dumps({"data": models, "has_more": False}).encode()

    models = [{"id": "new", "lifecycle": "active"}, {"id": "old", "lifecycle": "retired"}, {"id": "some"}]
    async with serving(simple_app(handler)) as url:
        backend = AnthropicBackend("b", BackendConfig(base_url=url))
        assert await backend.list_models() == ["new", "some"]
        await backend.aclose()
    assert asked == [b"limit=1000"]


@pytest.mark.parametrize(
    ("answer", "has"),
    [
        ({"type": "model", "id": "claude-x-20260101", "lifecycle": "active"}, True),
        ({"type": "model", "id": "claude-x-20260101"}, True),
        ({"type": "model", "id": "claude-x-20260101", "lifecycle": "retired"}, False),
        ({"data": []}, False),
        ([], False),
    ],
)
async def test_a_model_is_known_by_its_short_name_too(answer: Any, has: bool) -> None:
    async with raw_server(whole(answer)) as url:
        backend = AnthropicBackend("b", BackendConfig(base_url=url))
        assert await backend.has_model("claude-x") is has
        await backend.aclose()


async def test_the_scripted_server_says_which_models_it_has() -> None:
    async with scripted("anthropic", models=["org/m"]) as (backend, _):
        assert [await backend.has_model(name) for name in ("org/m", "m")] == [True, False]


# --- what comes back -------------------------------------------------------------------------------------------------


async def test_a_stream_is_put_together_and_what_is_unknown_in_it_is_left_out() -> None:
    told: list[tuple[str, str]] = []
    result = await ask(
        sse(
            start(input_tokens=5, output_tokens=1),
            {"type": "ping"},
            *text(0, "on", "e"),
            {"type": "something_new", "more": 1},
            *block(1, {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
            *block(2, {"type": "text", "text": ""}, {"type": "citations_delta", "citation": {}}),
            *text(3, " two"),
            *end("end_turn"),
        ),
        told,
    )
    assert result.message == {"role": "assistant", "content": "one two"}
    assert (result.id, result.model, result.finish_reason) == ("msg_1", "claude-real", "stop")
    assert [item for item in told if item[1]] == [("content", "on"), ("content", "e"), ("content", " two")]


async def test_arguments_in_pieces_belong_to_their_calls_and_text_stands_beside_them() -> None:
    searched = block(
        1,
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"q":1}'},
    )
    events = [*text(0, "I look."), *searched, *call(2, "look", '{"at"', ':"x"}'), *call(3, "plain", "")]
    result = await ask(sse(start(), *events, *end("tool_use")))
    assert result.finish_reason == "tool_calls"
    assert result.message == {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [
            {"id": "toolu_2", "type": "function", "function": {"name": "look", "arguments": '{"at":"x"}'}},
            {"id": "toolu_3", "type": "function", "function": {"name": "plain", "arguments": "{}"}},
        ],
    }


@pytest.mark.parametrize("pieces", [(), ("",), ('{"at":', '"x"}')])
async def test_arguments_that_come_whole_with_their_call_are_taken_once(pieces: tuple[str, ...]) -> None:
    given = {"type": "tool_use", "id": "a", "name": "look", "input": {"at": "x"}}
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    result = await ask(sse(start(), *block(0, given, *deltas), *end("tool_use")))
    assert result.message["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"at":"x"}'}


async def test_thoughts_are_told_and_are_no_part_of_a_reply_without_tool_calls() -> None:
    told: list[tuple[str, str]] = []
    thought = block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "s1"},
    )
    result = await ask(sse(start(), *thought, *text(1, "yes"), *end("end_turn")), told)
    assert result.message == {"role": "assistant", "content": "yes"}
    assert [item for item in told if item[1]] == [("reasoning", "hm"), ("content", "yes")]


async def test_thoughts_before_tool_calls_come_back_to_the_model_as_they_were() -> None:
    thought = block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "h"},
        {"type": "thinking_delta", "thinking": "m"},
        {"type": "signature_delta", "signature": "s1"},
    )
    hidden = block(1, {"type": "redacted_thinking", "data": "xyz"})
    unsigned = block(2, {"type": "thinking", "thinking": "?"})
    events = [start(), *thought, *hidden, *unsigned, *call(3, "look", "{}"), *end("tool_use")]
    result = await ask(sse(*events), tools=[LOOK])
    body = sent({"role": "user", "content": "hi"}, result.message, tools=[LOOK])
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "s1"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "tool_use", "id": "toolu_3", "name": "look", "input": {}},
    ]


async def test_prompt_tokens_include_those_that_were_cached_and_the_last_counts_hold() -> None:
    begun = start(input_tokens=5, cache_creation_input_tokens=20, cache_read_input_tokens=300, output_tokens=1)
    result = await ask(sse(begun, *text(0, "x"), *end("end_turn")))
    assert result.usage == Usage(
        prompt_tokens=325, completion_tokens=9, total_tokens=334, cached_tokens=300, cache_write_tokens=20
    )


async def test_a_server_that_counts_nothing_has_no_usage() -> None:
    message = {"type": "message", "content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn"}
    assert (await ask(whole(message))).usage is None


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
async def test_why_the_model_stopped_is_said_in_our_words(reason: str, ours: str) -> None:
    assert (await ask(sse(start(), *text(0, "x"), *end(reason)))).finish_reason == ours


async def test_why_the_model_refuses_is_kept() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "I must not"}
    result = await ask(sse(start(), *text(0, ""), *end("refusal", stop_details=details)))
    assert (result.message["refusal"], result.finish_reason) == ("I must not", "content_filter")


async def test_a_server_that_does_not_stream_is_understood() -> None:
    message = {
        "id": "msg_2",
        "type": "message",
        "model": "real",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "hi", "citations": None},
            {"type": "tool_use", "id": "a", "name": "look", "input": {"at": "x"}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 4, "output_tokens": 1, "cache_read_input_tokens": None},
    }
    result = await ask(whole(message))
    assert (result.id, result.model, result.finish_reason) == ("msg_2", "real", "tool_calls")
    assert result.message["content"] == "hi"
    assert result.message["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"at":"x"}'}
    assert result.usage == Usage(prompt_tokens=4, completion_tokens=1, total_tokens=5)


async def test_the_scripted_server_hears_the_system_text_and_the_rest_of_the_body() -> None:
    async with scripted("anthropic", {"reply": "{last}!"}) as (backend, app):
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
        result = await backend.chat(chat_params(messages=messages, settings={"temperature": 0}))
    assert (result.message["content"], result.id) == ("hi!", "msg_mock-1")
    assert app.calls[0]["messages"] == messages
    assert app.calls[0]["body"] == {"max_tokens": DEFAULT_MAX_TOKENS, "temperature": 0}
