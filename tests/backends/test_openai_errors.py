"""How the OpenAI-compatible adapter names what goes wrong."""

from __future__ import annotations

import datetime as dt
import email.utils
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from activities.backends.openai import OpenAIBackend
from activities.net import HTTP_EXCEPTIONS, NetFault, describe_fault, fault_of, retry_after_s
from engine.core.errors import BackendError
from engine.edge.mockllm.app import create_app
from engine.edge.mockllm.script import MockScript
from tests.backends.loopback import chat_params, config, raw_server, serving, unused_port


async def failure_of(url: str, *, listing: bool = False, **changes: Any) -> BackendError:
    backend = OpenAIBackend("b", config(url, **changes))
    try:
        with pytest.raises(BackendError) as caught:
            await (backend.list_models() if listing else backend.chat(chat_params()))
    finally:
        await backend.aclose()
    return caught.value


async def failure_under(rule: dict[str, Any]) -> BackendError:
    async with serving(create_app(MockScript.model_validate({"rules": [rule]}))) as url:
        return await failure_of(url)


@pytest.mark.parametrize(
    ("status", "body", "code", "retryable"),
    [
        (429, {"error": {"message": "slow down"}}, "backend.rate_limited", True),
        (429, {"error": {"message": "pay", "code": "insufficient_quota"}}, "backend.refused", False),
        (408, "late", "backend.timeout", True),
        (500, {"error": "boom"}, "backend.overloaded", True),
        (502, None, "backend.overloaded", True),
        (503, None, "backend.overloaded", True),
        (504, None, "backend.overloaded", True),
        (529, None, "backend.overloaded", True),
        (401, None, "backend.auth", False),
        (403, None, "backend.auth", False),
        (404, {"error": {"message": "no such model: m"}}, "backend.unknown_model", False),
        (404, {"detail": "Not Found"}, "backend.not_found", False),
        (400, {"error": {"message": "x", "code": "context_length_exceeded"}}, "backend.context_too_long", False),
        (413, {"error": {"message": "the prompt is too long"}}, "backend.context_too_long", False),
        (422, {"error": {"message": "exceeds the available context size"}}, "backend.context_too_long", False),
        (400, {"error": {"message": "bad temperature"}}, "backend.refused", False),
        (422, [1, 2], "backend.refused", False),
        (501, None, "backend.refused", False),
    ],
)
async def test_a_refusal_is_named_by_its_status_and_words(status: int, body: Any, code: str, retryable: bool) -> None:
    error = await failure_under({"status": status, "error": body})
    assert (error.code, error.retryable) == (code, retryable)
    assert error.details["status"] == status
    assert "backend 'b'" in error.message


async def test_the_servers_own_words_stand_bounded_in_the_details_only() -> None:
    error = await failure_under({"status": 400, "error": {"error": {"message": "WORDS " * 1000}}})
    assert "WORDS" not in error.message + error.hint
    assert len(error.details["reason"]) < 2_100


async def test_retry_after_in_seconds_is_passed_on() -> None:
    error = await failure_under({"status": 429, "retry_after_s": 7})
    assert error.details["retry_after_s"] == 7.0


@pytest.mark.parametrize(("text", "expected"), [("3", 3.0), ("", None), ("soon", None), ("-1", None), ("nan", None)])
def test_retry_after_is_read_only_if_it_makes_sense(text: str, expected: Any) -> None:
    assert retry_after_s(httpx.Headers({"retry-after": text})) == expected


def test_retry_after_may_be_a_date() -> None:
    now = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
    later = email.utils.format_datetime(now + dt.timedelta(seconds=90), usegmt=True)
    earlier = email.utils.format_datetime(now - dt.timedelta(seconds=90), usegmt=True)
    assert retry_after_s(httpx.Headers({"retry-after": later}), now=now) == 90.0
    assert retry_after_s(httpx.Headers({"retry-after": earlier}), now=now) == 0.0


async def test_a_stream_that_breaks_off_is_cut_off() -> None:
    error = await failure_under({"reply": "a long reply", "cut_after_chars": 3})
    assert (error.code, error.retryable) == ("backend.cut_off", True)


async def test_a_stream_that_ends_without_finish_reason_is_cut_off() -> None:
    event = b'data: {"choices":[{"index":0,"delta":{"content":"hal"}}]}\n\n'
    async with raw_server(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n", event
    ) as url:
        error = await failure_of(url)
    assert (error.code, error.retryable) == ("backend.cut_off", True)


async def test_broken_json_is_a_bad_reply() -> None:
    error = await failure_under({"bad_json": True})
    assert (error.code, error.retryable) == ("backend.bad_reply", True)


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"{}", b'{"choices":[]}', b'{"choices":"no"}', b'{"choices":[{"message":[]}]}', b"\xff\xfe", b""],
)
async def test_a_body_of_another_shape_is_a_bad_reply(body: Any) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with raw_server(head + body) as url:
        error = await failure_of(url)
    assert (error.code, error.retryable) == ("backend.bad_reply", True)


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        ({"message": "server fell over"}, "backend.overloaded"),
        ({"message": "slow", "code": 429}, "backend.rate_limited"),
        ({"message": "maximum context length", "code": 400}, "backend.context_too_long"),
        ("just words", "backend.overloaded"),
    ],
)
async def test_an_error_inside_a_stream_is_named(problem: Any, code: str) -> None:
    event = b"data: " + json.dumps({"error": problem}).encode() + b"\n\n"
    async with raw_server(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n", event
    ) as url:
        assert (await failure_of(url)).code == code


async def test_a_server_that_does_not_listen_is_unreachable() -> None:
    with unused_port() as port:
        error = await failure_of(f"http://127.0.0.1:{port}")
    assert (error.code, error.retryable) == ("backend.unreachable", True)
    assert str(port) in error.message
    assert error.hint


async def test_a_server_that_hangs_up_without_a_word_is_unreachable() -> None:
    async with raw_server(drop=True) as url:
        error = await failure_of(url)
    assert (error.code, error.retryable) == ("backend.unreachable", True)


@pytest.mark.parametrize(
    "url", ["nonsense", "http://127.0.0.1:99999", "http://127.0.0.1:port", "ftp://127.0.0.1", "http://xn--a"]
)
async def test_an_address_that_is_none_is_not_worth_a_second_try(url: str) -> None:
    error = await failure_of(url)
    assert (error.code, error.retryable) == ("backend.unreachable", False)


async def test_a_redirect_points_to_a_wrong_base_url() -> None:
    async with raw_server(b"HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n") as url:
        error = await failure_of(url)
    assert error.code == "backend.not_found"
    assert "base_url" in error.hint


async def test_a_missing_key_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    error = await failure_of("http://127.0.0.1:1", api_key_env="NO_SUCH_KEY")
    assert error.code == "backend.auth"
    assert "NO_SUCH_KEY" in error.message


async def test_a_key_that_no_header_can_hold_is_not_repeated_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODD_KEY", "top\nsecret")
    error = await failure_of("http://127.0.0.1:1", api_key_env="ODD_KEY")
    assert error.code == "backend.unreachable"
    assert "secret" not in error.message


@pytest.mark.parametrize("body", [b"[]", b'{"data":[{}]}', b"no"])
async def test_a_list_of_models_of_another_shape_is_a_bad_reply(body: Any) -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)) as url:
        assert (await failure_of(url, listing=True)).code == "backend.bad_reply"


def _httpx_exceptions() -> Iterator[type[Exception]]:
    for name in httpx.__all__:
        value = getattr(httpx, name)
        if isinstance(value, type) and issubclass(value, Exception):
            yield value


@pytest.mark.parametrize("kind", list(_httpx_exceptions()), ids=lambda kind: kind.__name__)
def test_every_exception_of_httpx_has_a_meaning(kind: type[Exception]) -> None:
    assert issubclass(kind, HTTP_EXCEPTIONS)
    error = kind.__new__(kind)
    assert fault_of(error) in set(NetFault)
    assert describe_fault(error, where="http://x")


def test_only_exceptions_before_the_request_left_count_as_not_sent() -> None:
    not_sent = {kind for kind in _httpx_exceptions() if fault_of(kind.__new__(kind)) is NetFault.NOT_SENT}
    assert not_sent == {httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError}
