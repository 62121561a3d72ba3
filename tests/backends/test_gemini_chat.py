"""How the Gemini adapter asks and puts replies together, and what the scripted server says in this dialect."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from activities.backends.gemini import GeminiBackend
from engine.core.contracts.activities import ChatResult, Usage
from engine.edge.mockllm.app import create_app
from engine.edge.mockllm.gemini import GeminiDialect
from engine.edge.mockllm.script import MockScript
from engine.settings import BackendConfig
from tests.backends.adapters import scripted
from tests.backends.gemini_words import call_of, said, sent
from tests.backends.loopback import chat_params, header, raw_server, serving, simple_app


def chunk(*parts: Any, finish: str = "", usage: Any = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], **({"usageMetadata": usage} if usage else {}), **more}


def sse(*events: Any) -> bytes:
    body = "".join(f"data: {json.dumps(event, ensure_ascii=False)}\r\n\r\n" for event in events)
    return ("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + body).encode()


def whole(body: Any) -> bytes:
    text = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text)


WRONG: list[dict[str, Any]] = [
    {},
    {"contents": []},
    {"contents": [{"role": "tool", "parts": [{}]}]},
    {"contents": [{}]},
]


async def ask(answer: bytes, tell: Any = lambda *_: None, **params: Any) -> ChatResult:
    async with raw_server(answer) as url:
        backend = GeminiBackend("raw", BackendConfig(base_url=f"{url}/v1beta"))
        try:
            return await backend.chat(chat_params(**params), tell)
        finally:
            await backend.aclose()


# --- how it asks -----------------------------------------------------------------------------------------------------


async def test_the_call_is_sent_to_the_streaming_address_with_the_key_in_a_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    async def handler(scope: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        seen.append((scope["path"], scope["query_string"], header(scope, "x-goog-api-key"), json.loads(body)))
        return 200, {"content-type": "application/json"}, json.dumps(chunk({"text": "x"}, finish="STOP")).encode()

    monkeypatch.setenv("SOME_KEY", "k1")
    async with serving(simple_app(handler)) as url:
        backend = GeminiBackend("b", BackendConfig(base_url=f"{url}/v1beta/", api_key_env="SOME_KEY"))
        await backend.chat(chat_params())
        await backend.aclose()
    body = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
    assert seen == [("/v1beta/models/m:streamGenerateContent", b"alt=sse", "k1", body)]


async def test_only_models_that_write_are_listed() -> None:
    models = [
        {"name": "models/embedding-1", "supportedGenerationMethods": ["embedContent"]},
        {"name": "models/gemini-2.5-flash", "supportedGenerationMethods": ["generateContent"]},
        {"name": "tunedModels/mine"},
    ]
    async with raw_server(whole({"models": models})) as url:
        backend = GeminiBackend("b", BackendConfig(base_url=f"{url}/v1beta"))
        assert await backend.list_models() == ["gemini-2.5-flash", "tunedModels/mine"]
        await backend.aclose()


# --- what comes back -------------------------------------------------------------------------------------------------


async def test_thoughts_are_shown_but_are_no_part_of_the_reply() -> None:
    told: list[tuple[str, str]] = []
    events = [
        chunk({"text": "hm, ", "thought": True}, modelVersion="gemini-2.5-flash-002", responseId="r1"),
        chunk({"text": "one "}, {"text": "two"}, responseId="r1"),
        chunk({"text": "", "thoughtSignature": "c2ln"}, finish="STOP", responseId="r1"),
    ]
    result = await ask(sse(*events), lambda kind, text, call, member: told.append((kind, text)))
    assert result.message == {"role": "assistant", "content": "one two"}
    assert (result.id, result.model, result.finish_reason) == ("r1", "gemini-2.5-flash-002", "stop")
    assert told == [("reasoning", "hm, "), ("content", "one "), ("content", "two")]


async def test_parallel_calls_without_ids_get_ids_that_other_replies_do_not_use() -> None:
    calls = [{"functionCall": {"name": "look", "args": {"at": at}}} for at in ("ä", "b")]
    events = [chunk(calls[0], responseId="r-1"), chunk(calls[1], {"functionCall": {"name": "stop"}}, finish="STOP")]
    result = await ask(sse(*events))
    assert result.finish_reason == "tool_calls"
    assert result.message == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            call_of("call_r-1_0", arguments='{"at":"ä"}'),
            call_of("call_r-1_1", arguments='{"at":"b"}'),
            call_of("call_r-1_2", "stop", "{}"),
        ],
    }
    assert max(len(call["id"]) for call in result.message["tool_calls"]) <= 40


async def test_ids_and_signatures_of_calls_are_kept_and_understood_when_they_come_back() -> None:
    parts = [
        {"functionCall": {"id": "f1", "name": "look", "args": {"at": "a"}}, "thoughtSignature": "c2ln"},
        {"functionCall": {"id": "f2", "name": "look", "args": {"at": "b"}}},
    ]
    message = (await ask(sse(chunk(*parts, finish="STOP")))).message
    assert [call["id"] for call in message["tool_calls"]] == ["f1", "f2"]
    assert sent(model="gemini-3-pro", messages=[message])["contents"] == [{"role": "model", "parts": parts}]


async def test_cached_and_tool_tokens_are_prompt_and_thoughts_are_completion() -> None:
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 80,
        "toolUsePromptTokenCount": 5,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 20,
        "totalTokenCount": 132,
    }
    early = {"promptTokenCount": 100, "totalTokenCount": 100}
    events = [chunk({"text": "x"}, usage=early), chunk(finish="STOP", usage=usage)]
    result = await ask(sse(*events))
    assert result.usage == Usage(
        prompt_tokens=105, completion_tokens=27, total_tokens=132, cached_tokens=80, reasoning_tokens=20
    )


async def test_a_reply_without_usage_has_none() -> None:
    assert (await ask(sse(chunk({"text": "x"}, finish="STOP")))).usage is None


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
    ],
)
async def test_why_a_reply_ended_is_said_in_our_words(named: str, reason: str) -> None:
    assert (await ask(sse(chunk({"text": "x"}), {"candidates": [{"finishReason": named}]}))).finish_reason == reason


async def test_a_call_cut_off_by_the_limit_ended_by_the_limit() -> None:
    event = chunk({"functionCall": {"name": "look", "args": {}}}, finish="MAX_TOKENS")
    assert (await ask(sse(event))).finish_reason == "length"


async def test_other_candidates_than_the_first_and_unknown_parts_are_left_out() -> None:
    event = chunk({"text": "yes"}, {"executableCode": {"code": "1"}}, finish="STOP")
    event["candidates"].append({"index": 1, "content": {"parts": [{"text": "no"}]}, "finishReason": "MAX_TOKENS"})
    result = await ask(sse(event))
    assert (result.message["content"], result.finish_reason) == ("yes", "stop")


@pytest.mark.parametrize("listed", [True, False])
async def test_a_server_that_does_not_stream_is_understood(listed: bool) -> None:
    events = [chunk({"text": "one "}), chunk({"text": "two"}, finish="STOP")]
    result = await ask(whole(events if listed else chunk({"text": "one two"}, finish="STOP")))
    assert (result.message["content"], result.finish_reason) == ("one two", "stop")


# --- the scripted server ---------------------------------------------------------------------------------------------


async def test_the_scripted_server_answers_whole_in_googles_shape() -> None:
    rule = {"reply": "I look.", "tool_calls": [{"name": "look", "id": "mine", "arguments": {"q": "{last}"}}]}
    usage = {"prompt_tokens": 5, "completion_tokens": 6}
    app = create_app(MockScript.model_validate({"rules": [rule | {"usage": usage}]}))
    question = {"contents": [{"role": "user", "parts": [{"text": "a"}]}], "generationConfig": {"seed": 1}}
    async with serving(app) as url, httpx.AsyncClient(base_url=f"{url}/v1beta", trust_env=False) as client:
        reply = (await client.post("/models/m1:generateContent", json=question)).json()
    assert reply["candidates"] == [
        {
            "content": {
                "parts": [
                    {"text": "I look."},
                    {"functionCall": {"id": "mine", "name": "look", "args": {"q": "a"}}},
                ],
                "role": "model",
            },
            "index": 0,
            "finishReason": "STOP",
        }
    ]
    assert reply["usageMetadata"] == {"promptTokenCount": 5, "candidatesTokenCount": 6, "totalTokenCount": 11}
    assert (reply["modelVersion"], app.calls[0]["model"], app.calls[0]["stream"]) == ("m1", "m1", False)
    assert app.calls[0]["body"] == {"generationConfig": {"seed": 1}}


async def test_the_scripted_server_ends_a_stream_with_a_finish_reason_and_no_further_mark() -> None:
    app = create_app(MockScript.model_validate({"rules": [{"reply": "abcde", "stream": {"chunk_chars": 2}}]}))
    question = {"contents": [{"parts": [{"text": "a"}]}]}
    async with serving(app) as url, httpx.AsyncClient(base_url=f"{url}/v1beta", trust_env=False) as client:
        reply = await client.post("/models/m1:streamGenerateContent?alt=sse", json=question)
    assert reply.headers["content-type"] == "text/event-stream"
    events = [json.loads(block.removeprefix("data: ")) for block in reply.text.split("\r\n\r\n") if block]
    candidates = [event["candidates"][0] for event in events]
    assert [each["content"]["parts"][0]["text"] for each in candidates] == ["ab", "cd", "e", ""]
    assert [each.get("finishReason") for each in candidates] == [None, None, None, "STOP"]
    assert [event.get("usageMetadata", {}).get("candidatesTokenCount") for event in events] == [None, None, None, 1]


async def test_the_scripted_server_lists_models_and_refuses_in_googles_shape() -> None:
    rule = {"status": 429, "retry_after_s": 1.5}
    app = create_app(MockScript.model_validate({"rules": [rule], "models": ["m1", "m2"]}))
    question = {"contents": [{"role": "user", "parts": [{"text": "a"}]}]}
    async with serving(app) as url, httpx.AsyncClient(base_url=f"{url}/v1beta", trust_env=False) as client:
        listed = (await client.get("/models")).json()["models"]
        one, none = await client.get("/models/m2"), await client.get("/models/m3")
        refused = await client.post("/models/m1:generateContent", json=question)
        wrong = [await client.post("/models/m1:generateContent", json=body) for body in WRONG]
        nowhere = await client.post("/models/m1:embedContent", json=question)
    assert [(item["name"], item["supportedGenerationMethods"][0]) for item in listed] == [
        ("models/m1", "generateContent"),
        ("models/m2", "generateContent"),
    ]
    assert (one.json()["name"], none.status_code, nowhere.status_code) == ("models/m2", 404, 404)
    assert refused.json()["error"] == {
        "code": 429,
        "message": "scripted status 429",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.5s"}],
    }
    assert [answer.status_code for answer in wrong] == [400, 400, 400, 400]


def test_the_scripted_server_parts_results_from_what_is_said_beside_them() -> None:
    result = {"functionResponse": {"id": "c1", "name": "look", "response": {"output": "red"}}}
    body = {"contents": [{"role": "user", "parts": [result, {"text": "So?"}]}], "tools": []}
    asked = GeminiDialect().asked("/v1beta/models/m:generateContent", body)
    assert asked.messages == [
        {"role": "tool", "tool_call_id": "c1", "name": "look", "content": "red"},
        {"role": "user", "content": "So?"},
    ]
    assert (asked.model, asked.stream, asked.rest) == ("m", False, {"tools": []})


@pytest.mark.parametrize(
    "messages",
    [
        [said("system", "S"), said("user", "u"), said("assistant", "a"), said("user", "v")],
        [
            said(
                "user", [{"type": "text", "text": "t"}, {"type": "image_url", "image_url": {"url": "https://x.test/a"}}]
            )
        ],
        [
            said("user", "u"),
            said("assistant", None, tool_calls=[call_of("c1")]),
            {"role": "tool", "tool_call_id": "c1", "name": "look", "content": '{"a":1}'},
        ],
    ],
)
async def test_the_scripted_server_tells_what_it_was_asked_in_our_words(messages: Any) -> None:
    async with scripted("gemini") as (backend, app):
        await backend.chat(chat_params(messages=messages))
    assert app.calls[0]["messages"] == messages
