"""How the Anthropic adapter names what goes wrong, and what it refuses itself."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from activities.backends.anthropic import STATUS, AnthropicBackend
from engine.core.errors import BackendError
from engine.edge.mockllm.app import create_app
from engine.edge.mockllm.script import MockScript
from engine.settings import BackendConfig
from tests.backends.adapters import scripted
from tests.backends.loopback import chat_params, raw_server, serving

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
START = {"type": "message_start", "message": {"id": "m", "model": "m", "content": []}}
TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hal"}}
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}


def problem(kind: str, message: str = "words") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def events(*told: dict[str, Any]) -> bytes:
    return STREAM + b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in told)


async def failure_of(answer: bytes, **params: Any) -> BackendError:
    async with raw_server(answer) as url:
        backend = AnthropicBackend("b", BackendConfig(base_url=url))
        try:
            with pytest.raises(BackendError) as caught:
                await backend.chat(chat_params(**params))
        finally:
            await backend.aclose()
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "code", "retryable"),
    [
        (400, problem("invalid_request_error", "max_tokens: 9 > 8"), "backend.refused", False),
        (
            400,
            problem("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
            "backend.context_too_long",
            False,
        ),
        (
            400,
            problem("invalid_request_error", "input length and `max_tokens` exceed context limit: 9 + 8 > 10"),
            "backend.context_too_long",
            False,
        ),
        (401, problem("authentication_error", "invalid x-api-key"), "backend.auth", False),
        (402, problem("billing_error"), "backend.refused", False),
        (403, problem("permission_error"), "backend.auth", False),
        (404, problem("not_found_error", "model: claude-x"), "backend.unknown_model", False),
        (404, problem("not_found_error", "Not Found"), "backend.not_found", False),
        (413, problem("request_too_large", "Request exceeds the maximum size"), "backend.refused", False),
        (429, problem("rate_limit_error"), "backend.rate_limited", True),
        (500, problem("api_error", "Internal server error"), "backend.overloaded", True),
        (504, problem("timeout_error"), "backend.overloaded", True),
        (529, problem("overloaded_error", "Overloaded"), "backend.overloaded", True),
    ],
)
async def test_a_refusal_is_named_by_its_status_and_words(status: int, body: Any, code: str, retryable: bool) -> None:
    async with scripted("anthropic", {"status": status, "error": body}) as (backend, _):
        with pytest.raises(BackendError) as caught:
            await backend.chat(chat_params())
    error = caught.value
    assert (error.code, error.retryable, error.details["status"]) == (code, retryable, status)
    assert error.details["reason"] == body["error"]["message"]


@pytest.mark.parametrize(
    ("kind", "message", "code", "retryable"),
    [
        ("overloaded_error", "Overloaded", "backend.overloaded", True),
        ("api_error", "Internal server error", "backend.overloaded", True),
        ("timeout_error", "late", "backend.overloaded", True),
        ("rate_limit_error", "slow down", "backend.rate_limited", True),
        ("invalid_request_error", "prompt is too long", "backend.context_too_long", False),
        ("invalid_request_error", "bad", "backend.refused", False),
        ("authentication_error", "bad key", "backend.auth", False),
        ("billing_error", "pay", "backend.refused", False),
        ("something_new", "x", "backend.overloaded", True),
    ],
)
async def test_an_error_in_the_middle_of_a_stream_is_named_as_outside_of_it(
    kind: str, message: str, code: str, retryable: bool
) -> None:
    error = await failure_of(events(START, TEXT, problem(kind, message)))
    assert (error.code, error.retryable) == (code, retryable)
    assert error.details["status"] == STATUS.get(kind, 500)
    assert error.details["reason"] == message


@pytest.mark.parametrize(
    "told", [(), (START,), (START, TEXT), (START, TEXT, END), (START, TEXT, {"type": "content_block_stop", "index": 0})]
)
async def test_a_stream_that_ends_before_its_end_mark_is_cut_off(told: Any) -> None:
    error = await failure_of(events(*told))
    assert (error.code, error.retryable) == ("backend.cut_off", True)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"type":"message","content":"no"}', b"\xff\xfe", b""])
async def test_a_body_of_another_shape_is_a_bad_reply(body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    error = await failure_of(head + body)
    assert (error.code, error.retryable) == ("backend.bad_reply", True)


@pytest.mark.parametrize(
    "event",
    [
        b"data: {no\n\n",
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":[]}}\n\n',
        b'data: {"type":"content_block_delta","index":0,"delta":7}\n\n',
    ],
)
async def test_an_event_of_another_shape_is_a_bad_reply(event: bytes) -> None:
    error = await failure_of(events(START) + event)
    assert (error.code, error.retryable) == ("backend.bad_reply", True)


async def test_a_stream_without_a_message_is_a_bad_reply() -> None:
    error = await failure_of(events({"type": "ping"}, {"type": "message_stop"}))
    assert (error.code, error.retryable) == ("backend.bad_reply", True)


@pytest.mark.parametrize("body", [b"[]", b'{"data":[{}]}', b'{"data":["a"]}', b'{"data":7}', b"no"])
async def test_a_list_of_models_of_another_shape_is_a_bad_reply(body: bytes) -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)) as url:
        backend = AnthropicBackend("b", BackendConfig(base_url=url))
        with pytest.raises(BackendError) as caught:
            await backend.list_models()
        await backend.aclose()
    assert caught.value.code == "backend.bad_reply"


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"settings": {"frequency_penalty": 0.5}}, "frequency_penalty"),
        ({"settings": {"logit_bias": {"5": -100}}}, "logit_bias"),
        ({"settings": {"n": 2}}, "'n'"),
        ({"settings": {"stop": ["\n"]}}, "stop"),
        ({"messages": user([{"type": "input_audio", "input_audio": {}}])}, "input_audio"),
        ({"messages": user([{"type": "image_url", "image_url": {"url": "http://x/a.png"}}])}, "http://x/a.png"),
        ({"messages": user(7)}, "content"),
        ({"messages": user([7])}, "content"),
        ({"messages": user(" ")}, "without text"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]}, "tool call"),
        ({"messages": [{"role": "assistant", "tool_calls": ["a"]}]}, "tool_calls"),
        ({"settings": {"user": "u", "metadata": 3}}, "metadata"),
        ({"messages": [{"role": "function", "content": "x"}]}, "function"),
        (
            {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": "https://x/a"}]}]},
            "system",
        ),
        ({"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "some"}, "tool_choice"),
    ],
)
async def test_what_the_service_has_no_word_for_is_refused_before_anything_is_sent(params: Any, named: str) -> None:
    async with scripted("anthropic") as (backend, app):
        with pytest.raises(BackendError) as caught:
            await backend.chat(chat_params(**params))
    error = caught.value
    assert (error.code, error.retryable, app.calls) == ("backend.refused", False, [])
    assert named in error.message
    assert error.hint


async def test_the_scripted_server_demands_a_number_of_tokens_and_lists_models_to_those_who_name_a_version() -> None:
    app = create_app(MockScript(models=["m1"]))
    async with serving(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        refused = await client.post("/v1/messages", json={"model": "m1", "messages": user("x")})
        headers = {"anthropic-version": "2023-06-01"}
        listed, one, none = [
            await client.get(path, headers=headers) for path in ("/v1/models", "/v1/models/m1", "/v1/models/m2")
        ]
        plain = await client.get("/v1/models")
        whole = await client.post(
            "/v1/messages", json={"model": "m1", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        )
    assert (refused.status_code, "max_tokens" in refused.text) == (400, True)
    assert (listed.json()["first_id"], listed.json()["data"][0]["type"]) == ("m1", "model")
    assert (one.json()["id"], none.status_code) == ("m1", 404)
    assert plain.json()["object"] == "list"
    assert whole.json()["content"] == [{"type": "text", "text": "hi"}]
    assert (whole.json()["stop_reason"], whole.json()["usage"]["output_tokens"]) == ("end_turn", 1)
