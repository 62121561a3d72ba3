"""How the Ollama adapter names what goes wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from activities.backends.ollama import OllamaBackend
from engine.core.errors import BackendError
from engine.settings import BackendConfig
from tests.backends.adapters import scripted
from tests.backends.loopback import chat_params, raw_server

BEGINNING = {"model": "m", "message": {"role": "assistant", "content": "hal"}, "done": False}


async def failure_of(url: str, *, listing: bool = False, **params: Any) -> BackendError:
    """Ask a server that fails."""
    backend = OllamaBackend("b", BackendConfig(base_url=url))
    try:
        with pytest.raises(BackendError) as caught:
            await (backend.list_models() if listing else backend.chat(chat_params(**params)))
    finally:
        await backend.aclose()
    return caught.value


async def failure_in(*lines: bytes) -> BackendError:
    """Ask a server that streams these lines."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n"
    async with raw_server(head, *(line + b"\n" for line in lines)) as url:
        return await failure_of(url)


@pytest.mark.parametrize(
    ("status", "text", "code", "retryable"),
    [
        (404, "model 'm' not found", "backend.unknown_model", False),
        (404, 'model "m" not found, try pulling it first', "backend.unknown_model", False),
        (400, "registry.ollama.ai/library/m does not support tools", "backend.refused", False),
        (400, '"m" does not support thinking', "backend.refused", False),
        (500, "m does not support images", "backend.refused", False),
        (400, "invalid options: top_k", "backend.refused", False),
        (400, "the input length exceeds the context length", "backend.context_too_long", False),
        (500, "the input length exceeds the context length", "backend.context_too_long", False),
        (
            400,
            "request (5000 tokens) exceeds the available context size (4096 tokens)",
            "backend.context_too_long",
            False,
        ),
        (500, "cannot allocate the cache for context size 131072", "backend.overloaded", True),
        (500, "model requires more system memory (8.4 GiB) than is available (3.1 GiB)", "backend.overloaded", True),
        (500, "model runner has unexpectedly stopped, this may be due to limits", "backend.overloaded", True),
        (503, "server busy, please try again.  maximum pending requests exceeded", "backend.overloaded", True),
        (502, "the hosted model is away", "backend.overloaded", True),
        (401, "unauthorized", "backend.auth", False),
        (429, "you have reached your hourly usage limit", "backend.rate_limited", True),
    ],
)
async def test_a_refusal_is_named_by_its_status_and_words(status: int, text: str, code: str, retryable: bool) -> None:
    async with scripted("ollama", {"status": status, "error": {"error": text}}) as (backend, _):
        with pytest.raises(BackendError) as caught:
            await backend.chat(chat_params())
    error = caught.value
    assert (error.code, error.retryable) == (code, retryable)
    assert (error.details["status"], error.details["reason"]) == (status, text)
    assert text not in error.message + error.hint


@pytest.mark.parametrize(
    ("status", "text", "hint"),
    [(404, "model 'm' not found", "ollama pull"), (400, "input exceeds the context length", "num_ctx")],
)
async def test_a_refusal_says_what_helps_with_ollama(status: int, text: str, hint: str) -> None:
    async with scripted("ollama", {"status": status, "error": {"error": text}}) as (backend, _):
        with pytest.raises(BackendError) as caught:
            await backend.chat(chat_params())
    assert hint in caught.value.hint


async def test_an_address_with_a_path_of_another_dialect_is_not_found() -> None:
    async with raw_server(b"HTTP/1.1 404 Not Found\r\ncontent-length: 18\r\n\r\n404 page not found") as url:
        error = await failure_of(f"{url}/v1")
    assert error.code == "backend.not_found"
    assert "/api/chat" in error.hint


@pytest.mark.parametrize(
    ("problem", "code", "retryable"),
    [
        ("model runner has unexpectedly stopped", "backend.overloaded", True),
        ("an error was encountered while running the model: CUDA error", "backend.overloaded", True),
        ("the input length exceeds the context length", "backend.context_too_long", False),
        ("m does not support tools", "backend.refused", False),
        ({"message": "slow", "code": 429}, "backend.rate_limited", True),
    ],
)
async def test_an_error_inside_a_stream_is_named(problem: Any, code: str, retryable: bool) -> None:
    error = await failure_in(json.dumps(BEGINNING).encode(), json.dumps({"error": problem}).encode())
    assert (error.code, error.retryable) == (code, retryable)


async def test_an_error_of_a_reply_that_is_not_streamed_is_named() -> None:
    body = b'{"error":"model runner has unexpectedly stopped"}'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    async with raw_server(head % len(body) + body) as url:
        assert (await failure_of(url)).code == "backend.overloaded"


@pytest.mark.parametrize("lines", [[], [BEGINNING], [BEGINNING, BEGINNING | {"done_reason": "stop"}]])
async def test_a_stream_without_a_line_that_says_done_is_cut_off(lines: Any) -> None:
    error = await failure_in(*(json.dumps(line).encode() for line in lines))
    assert (error.code, error.retryable) == ("backend.cut_off", True)


@pytest.mark.parametrize(
    "line",
    [
        b"<html>",
        b"[]",
        b'{"done":"perhaps"}',
        b'{"message":[]}',
        b'{"message":{"content":3}}',
        b'{"message":{"tool_calls":[{"function":{}}]}}',
        b'{"done":true}',
        b"\xff\xfe",
    ],
)
async def test_a_line_of_another_shape_is_a_bad_reply(line: bytes) -> None:
    error = await failure_in(line)
    assert (error.code, error.retryable) == ("backend.bad_reply", True)


async def test_a_stream_of_another_dialect_is_a_bad_reply() -> None:
    event = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}'
    assert (await failure_in(event)).code == "backend.bad_reply"


@pytest.mark.parametrize("body", [b"[]", b'{"models":[{}]}', b'{"models":null}', b"no"])
async def test_a_list_of_models_of_another_shape_is_a_bad_reply(body: bytes) -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)) as url:
        assert (await failure_of(url, listing=True)).code == "backend.bad_reply"


async def test_whether_a_model_is_there_is_left_open_if_the_server_gives_no_answer_to_it() -> None:
    busy = b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n"
    async with raw_server(busy) as url:
        backend = OllamaBackend("b", BackendConfig(base_url=url))
        with pytest.raises(BackendError) as caught:
            await backend.has_model("m")
        await backend.aclose()
    assert caught.value.code == "backend.overloaded"


async def test_what_ollama_has_no_word_for_is_refused_before_anything_is_sent() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    async with scripted("ollama") as (backend, app):
        with pytest.raises(BackendError) as caught:
            await backend.chat(chat_params(messages=[{"role": "user", "content": [image]}]))
        assert app.calls == []
    error = caught.value
    assert (error.code, error.retryable, error.details) == ("backend.refused", False, {"backend": "b"})
    assert "fetches no images" in error.message
    assert "data:image/png;base64," in error.hint
