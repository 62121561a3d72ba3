"""How the Gemini adapter names what goes wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from activities.backends.gemini import GeminiBackend
from engine.core.errors import BackendError
from engine.settings import BackendConfig
from tests.backends.adapters import scripted
from tests.backends.loopback import chat_params, raw_server

TYPES = "type.googleapis.com/google.rpc"
WAIT = {"@type": f"{TYPES}.RetryInfo", "retryDelay": "17.5s"}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def problem(code: int, status: str, message: str, *details: Any) -> dict[str, Any]:
    return {"code": code, "message": message, "status": status, **({"details": list(details)} if details else {})}


def used_up(*quotas: str) -> dict[str, Any]:
    return {"@type": f"{TYPES}.QuotaFailure", "violations": [{"quotaMetric": "x", "quotaId": name} for name in quotas]}


def because(reason: str) -> dict[str, Any]:
    return {"@type": f"{TYPES}.ErrorInfo", "reason": reason, "domain": "googleapis.com"}


QUOTA = "You exceeded your current quota, please check your plan and billing details."
PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
TABLE: list[tuple[dict[str, Any], str, bool]] = [
    (problem(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted."), "backend.rate_limited", True),
    (problem(429, "RESOURCE_EXHAUSTED", QUOTA, used_up(PER_MINUTE), WAIT), "backend.rate_limited", True),
    (problem(429, "RESOURCE_EXHAUSTED", QUOTA, used_up(PER_MINUTE, PER_DAY), WAIT), "backend.refused", False),
    (problem(400, "INVALID_ARGUMENT", "API key not valid.", because("API_KEY_INVALID")), "backend.auth", False),
    (problem(401, "UNAUTHENTICATED", "no credentials"), "backend.auth", False),
    (problem(403, "PERMISSION_DENIED", "not enabled", because("SERVICE_DISABLED")), "backend.auth", False),
    (problem(404, "NOT_FOUND", "models/m is not found for API version v1beta"), "backend.unknown_model", False),
    (
        problem(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed (8)."),
        "backend.context_too_long",
        False,
    ),
    (problem(400, "INVALID_ARGUMENT", "Unknown name 'x' at 'generation_config'"), "backend.refused", False),
    (problem(400, "FAILED_PRECONDITION", "User location is not supported."), "backend.refused", False),
    (problem(500, "INTERNAL", "An internal error has occurred."), "backend.overloaded", True),
    (problem(503, "UNAVAILABLE", "The model is overloaded."), "backend.overloaded", True),
    (problem(504, "DEADLINE_EXCEEDED", "too late"), "backend.overloaded", True),
]


async def failure_of(*answers: bytes, listing: bool = False, **params: Any) -> BackendError:
    async with raw_server(*answers) as url:
        backend = GeminiBackend("b", BackendConfig(base_url=f"{url}/v1beta"))
        with pytest.raises(BackendError) as caught:
            await (backend.list_models() if listing else backend.chat(chat_params(**params)))
        await backend.aclose()
    return caught.value


def event(body: Any) -> bytes:
    return f"data: {json.dumps(body)}\r\n\r\n".encode()


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": [{"text": words}], "role": "model"}, "index": 0, **more}]}


@pytest.mark.parametrize("listed", [False, True], ids=["alone", "in a list"])
@pytest.mark.parametrize(("told", "code", "retryable"), TABLE)
async def test_a_refusal_is_named_by_its_status_words_and_details(
    told: dict[str, Any], code: str, retryable: bool, listed: bool
) -> None:
    body: Any = {"error": told}
    rule = {"status": told["code"], "error": [body] if listed else body}
    async with scripted("gemini", rule) as (backend, _):
        with pytest.raises(BackendError) as caught:
            await backend.chat(chat_params())
    error = caught.value
    assert (error.code, error.retryable) == (code, retryable)
    assert (error.details["status"], error.details["reason"]) == (told["code"], told["message"])


@pytest.mark.parametrize(("told", "code", "retryable"), TABLE)
async def test_an_error_inside_a_stream_has_the_same_name(told: dict[str, Any], code: str, retryable: bool) -> None:
    error = await failure_of(HEAD, event(text("half ")), event({"error": told}))
    assert (error.code, error.retryable, error.details["status"]) == (code, retryable, told["code"])


async def test_the_wait_that_the_body_asks_for_is_passed_on() -> None:
    told = {"error": problem(429, "RESOURCE_EXHAUSTED", QUOTA, used_up(PER_MINUTE), WAIT)}
    async with scripted("gemini", {"status": 429, "error": told}) as (backend, _):
        with pytest.raises(BackendError) as caught:
            await backend.chat(chat_params())
    assert caught.value.details["retry_after_s"] == 17.5
    assert (await failure_of(HEAD, event(told))).details["retry_after_s"] == 17.5


async def test_the_wait_of_the_header_comes_before_that_of_the_body() -> None:
    told = {"error": problem(429, "RESOURCE_EXHAUSTED", QUOTA, WAIT)}
    async with scripted("gemini", {"status": 429, "error": told, "retry_after_s": 3}) as (backend, _):
        with pytest.raises(BackendError) as caught:
            await backend.chat(chat_params())
    assert caught.value.details["retry_after_s"] == 3.0


@pytest.mark.parametrize("delay", ["soon", "17", "-1s", 17, None, "1e9s"])
async def test_a_wait_that_makes_no_sense_is_left_out(delay: Any) -> None:
    told = problem(429, "RESOURCE_EXHAUSTED", QUOTA, {"retryDelay": delay}, "no object", {"violations": 7})
    error = await failure_of(HEAD, event({"error": told}))
    assert error.code == "backend.rate_limited"
    assert "retry_after_s" not in error.details


async def test_a_page_instead_of_an_answer_points_to_a_wrong_base_url() -> None:
    page = b"<!DOCTYPE html><p>The requested URL /models/m:streamGenerateContent was not found."
    error = await failure_of(b"HTTP/1.1 404 Not Found\r\ncontent-length: %d\r\n\r\n%s" % (len(page), page))
    assert error.code == "backend.not_found"
    assert "streamGenerateContent" in error.hint


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_blocked_prompt_is_refused_with_the_reason_even_in_the_middle_of_a_reply(is_stream: bool) -> None:
    body = {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": "no such thing"},
        "usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4},
    }
    raw = json.dumps(body).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(raw)
    error = await (failure_of(HEAD, event(text("half ")), event(body)) if is_stream else failure_of(head, raw))
    assert (error.code, error.retryable) == ("backend.refused", False)
    assert error.details["reason"] == "PROHIBITED_CONTENT no such thing"
    assert "safetySettings" in error.hint


@pytest.mark.parametrize(
    "reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE", "OTHER", "SOMETHING_NEW"]
)
async def test_a_reply_that_went_wrong_is_worth_a_second_try(reason: str) -> None:
    error = await failure_of(HEAD, event(text("x", finishReason=reason)))
    assert (error.code, error.retryable) == ("backend.bad_reply", True)
    assert reason in error.message


@pytest.mark.parametrize(
    "part",
    [
        {"inlineData": {"mimeType": "image/png", "data": "QUJD"}},
        {"functionCall": {"name": "look", "partialArgs": [{"jsonPath": "$.at", "stringValue": "a"}]}},
    ],
)
async def test_parts_that_no_message_can_hold_are_told(part: Any) -> None:
    body = {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}
    assert (await failure_of(HEAD, event(body))).code == "backend.bad_reply"


@pytest.mark.parametrize(
    "events",
    [
        [text("half ")],
        [text("half ", finishReason="FINISH_REASON_UNSPECIFIED")],
        [text("half "), {"usageMetadata": {"promptTokenCount": 1}}],
        [],
    ],
)
async def test_a_stream_without_a_finish_reason_is_cut_off(events: list[Any]) -> None:
    error = await failure_of(HEAD, *(event(body) for body in events))
    assert (error.code, error.retryable) == ("backend.cut_off", True)


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"{}", b"[]", b'{"candidates":[]}', b'{"candidates":"no"}', b'{"candidates":[{"content":[]}]}', b""],
)
async def test_a_body_of_another_shape_is_a_bad_reply(body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    error = await failure_of(head, body)
    assert (error.code, error.retryable) == ("backend.bad_reply", True)


@pytest.mark.parametrize("body", [b"[]", b'{"data":[]}', b'{"models":[{}]}', b"no"])
async def test_a_list_of_models_of_another_shape_is_a_bad_reply(body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert (await failure_of(head, body, listing=True)).code == "backend.bad_reply"


async def test_what_has_no_word_is_refused_before_anything_is_sent() -> None:
    async with scripted("gemini") as (backend, app):
        with pytest.raises(BackendError) as caught:
            await backend.chat(chat_params(settings={"logit_bias": {"1": 2}}))
    error = caught.value
    assert (error.code, error.retryable) == ("backend.refused", False)
    assert "'b' has no word for the setting 'logit_bias'" in error.message
    assert error.hint
    assert app.calls == []
