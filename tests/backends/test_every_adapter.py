"""What every adapter does alike, each against the scripted server in its own dialect."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest

from engine.core.contracts.activities import ChatResult, Usage
from engine.core.errors import BackendError
from engine.edge.mockllm.app import MockLlm
from tests.backends.adapters import ADAPTERS, backend_at, scripted
from tests.backends.loopback import chat_params, serving
from tests.support.patience import PATIENCE_S

pytestmark = pytest.mark.parametrize("kind", ADAPTERS)

USAGE = {"prompt_tokens": 7, "completion_tokens": 3}
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look something up.",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
    },
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


async def asked(kind: str, *rules: dict[str, Any], **params: Any) -> tuple[ChatResult, MockLlm]:
    """Make one call; return its result and the server."""
    async with scripted(kind, *rules) as (backend, app):
        return await backend.chat(chat_params(**params)), app


async def failure(kind: str, rule: dict[str, Any], **params: Any) -> BackendError:
    """Make one call that fails."""
    async with scripted(kind, rule) as (backend, _):
        with pytest.raises(BackendError) as caught:
            await backend.chat(chat_params(**params))
    return caught.value


# --- replies ---------------------------------------------------------------------------------------------------------


async def test_a_streamed_reply_is_told_as_it_comes_and_put_together_with_its_usage(kind: str) -> None:
    told: list[tuple[str, str]] = []
    rule = {"reply": "one two three", "stream": {"chunk_chars": 2}, "usage": USAGE}
    async with scripted(kind, rule) as (backend, app):
        result = await backend.chat(chat_params(), lambda what, text, call, member: told.append((what, text)))
    assert app.calls[0]["stream"] is True
    assert result.message == {"role": "assistant", "content": "one two three"}
    assert (result.finish_reason, result.model, result.backend) == ("stop", "m", "b")
    assert result.usage == Usage(prompt_tokens=7, completion_tokens=3, total_tokens=10)
    assert result.created > 1_700_000_000
    pieces = [text for what, text in told if what == "content" and text]
    assert "".join(pieces) == "one two three"
    assert len(pieces) > 3


async def test_parts_of_the_tokens_are_told_as_far_as_the_provider_has_words_for_them(kind: str) -> None:
    parts = {"cached_tokens": 60, "cache_write_tokens": 30, "reasoning_tokens": 8}
    words = {
        "openai": ("cached_tokens", "reasoning_tokens"),
        "responses": ("cached_tokens", "reasoning_tokens"),
        "anthropic": ("cached_tokens", "cache_write_tokens", "reasoning_tokens"),
        "gemini": ("cached_tokens", "reasoning_tokens"),
        "ollama": (),
    }
    result, _ = await asked(kind, {"reply": "x", "usage": {"prompt_tokens": 100, "completion_tokens": 20, **parts}})
    told = {name: parts[name] for name in words[kind]}
    assert result.usage == Usage(prompt_tokens=100, completion_tokens=20, total_tokens=120, **told)


async def test_tool_calls_that_come_in_pieces_are_put_together_in_order(kind: str) -> None:
    calls = [{"name": "add", "arguments": {"a": 1, "b": 22}}, {"name": "look", "arguments": {"at": "ü"}}]
    result, _ = await asked(kind, {"tool_calls": calls, "stream": {"chunk_chars": 3}}, tools=[LOOK])
    assert result.finish_reason == "tool_calls"
    made = result.message["tool_calls"]
    assert [call["function"]["name"] for call in made] == ["add", "look"]
    assert [json.loads(call["function"]["arguments"]) for call in made] == [{"a": 1, "b": 22}, {"at": "ü"}]
    assert len({call["id"] for call in made}) == 2


async def test_text_may_stand_beside_a_tool_call(kind: str) -> None:
    rule = {"reply": "I look.", "tool_calls": [{"name": "look", "arguments": {"at": "x"}}]}
    result, _ = await asked(kind, rule, tools=[LOOK])
    assert result.message["content"] == "I look."
    assert result.message["tool_calls"][0]["function"]["name"] == "look"


async def test_thoughts_are_told_beside_the_reply_and_are_no_part_of_it(kind: str) -> None:
    told: list[tuple[str, str]] = []
    async with scripted(kind, {"reasoning": "Hm. Red?", "reply": "Red.", "stream": {"chunk_chars": 3}}) as (backend, _):
        result = await backend.chat(chat_params(), lambda what, text, call, member: told.append((what, text)))
    assert result.message == {"role": "assistant", "content": "Red."}
    assert "".join(text for what, text in told if what == "reasoning") == "Hm. Red?"
    assert [what for what, _ in itertools.groupby(what for what, text in told if text)] == ["reasoning", "content"]


async def test_how_likely_tokens_were_is_told_where_the_provider_has_words_for_it(kind: str) -> None:
    rule = {"reply": "Red.", "logprob": -0.5, "stream": {"chunk_chars": 2}}
    result, app = await asked(kind, rule, settings={"logprobs": True, "top_logprobs": 1})
    if kind == "anthropic":
        assert (result.logprobs, "logprob" in json.dumps(app.calls[0]["body"])) == (None, False)
        return
    assert result.logprobs is not None
    assert [(item["token"], item["logprob"]) for item in result.logprobs] == [("Re", -0.5), ("d.", -0.5)]
    assert "logprobs" in json.dumps(app.calls[0]["body"]).lower()
    unasked, _ = await asked(kind, {"reply": "Red."})
    assert unasked.logprobs is None


async def test_a_seed_reaches_providers_that_have_one(kind: str) -> None:
    _, app = await asked(kind, {"reply": "x"}, settings={"seed": 4711})
    has_one = kind not in ("anthropic", "responses")
    assert ("4711" in json.dumps(app.calls[0]["body"])) is has_one


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
async def test_why_a_reply_ended_is_said_in_our_words(kind: str, reason: str) -> None:
    result, _ = await asked(kind, {"reply": "x", "finish_reason": reason})
    assert result.finish_reason == reason


# --- what is sent ----------------------------------------------------------------------------------------------------


async def test_a_whole_conversation_arrives_as_it_was_meant(kind: str) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is it?"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":"a"}'}},
                {"id": "c2", "type": "function", "function": {"name": "look", "arguments": '{"at":"b"}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "red"},
        {"role": "tool", "tool_call_id": "c2", "content": "blue"},
        {"role": "user", "content": "So?"},
    ]
    result, app = await asked(kind, {"reply": "{last}"}, messages=messages, tools=[LOOK])
    assert result.message["content"] == "So?"
    arrived = app.calls[0]["messages"]
    assert [message["role"] for message in arrived] == ["system", "user", "assistant", "tool", "tool", "user"]
    called = arrived[2]["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in called] == [{"at": "a"}, {"at": "b"}]
    assert [message["content"] for message in arrived[3:5]] == ["red", "blue"]


async def test_an_image_arrives_with_its_type_and_data(kind: str) -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    _, app = await asked(kind, messages=[{"role": "user", "content": parts}])
    assert app.calls[0]["messages"][0]["content"] == parts


async def test_a_schema_reaches_the_provider_with_all_its_members(kind: str) -> None:
    schema = {"type": "object", "properties": {"stars": {"type": "integer"}}, "required": ["stars"]}
    result, app = await asked(kind, {"json": {"stars": 4}}, output_schema=schema, model="claude-opus-4-6")
    assert result.message["content"] == '{"stars":4}'
    assert '"stars"' in json.dumps(app.calls[0]["body"])
    assert len(app.calls[0]["messages"]) == 1, "the schema is no instruction"


async def test_settings_cannot_replace_what_the_engine_decides(kind: str) -> None:
    settings = {"temperature": 0.5, "max_tokens": 9, "stop": ["END"], "stream": False, "model": "other"}
    _, app = await asked(kind, {"reply": "x"}, settings=settings)
    call = app.calls[0]
    assert (call["stream"], call["model"]) == (True, "m")
    assert "0.5" in json.dumps(call["body"])
    assert '"END"' in json.dumps(call["body"])


async def test_the_key_of_the_call_and_of_the_backend_stand_in_headers(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        seen.append({name.decode(): value.decode() for name, value in scope["headers"]} | {"path": scope["path"]})
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 401, "headers": head})
        await send({"type": "http.response.body", "body": b"{}"})

    monkeypatch.setenv("SOME_KEY", "s3cret")
    async with serving(app) as url:
        backend = backend_at(kind, url, api_key_env="SOME_KEY")
        with pytest.raises(BackendError) as caught:
            await backend.chat(chat_params())
        await backend.aclose()
    assert caught.value.code == "backend.auth"
    assert "s3cret" not in f"{caught.value.message} {caught.value.hint} {caught.value.details}"
    assert seen[0]["idempotency-key"] == "e1/main.0"
    assert any("s3cret" in value for value in seen[0].values())
    assert "s3cret" not in seen[0]["path"]


async def test_models_are_listed_by_the_names_that_prompts_use(kind: str) -> None:
    async with scripted(kind, models=["m1", "m2"]) as (backend, _):
        assert await backend.list_models() == ["m1", "m2"]
        assert [await backend.has_model(name) for name in ("m2", "m3")] == [True, False]


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (401, "backend.auth", False),
        (403, "backend.auth", False),
        (429, "backend.rate_limited", True),
        (500, "backend.overloaded", True),
        (503, "backend.overloaded", True),
    ],
)
async def test_a_refusal_has_our_name_for_it(kind: str, status: int, code: str, retryable: bool) -> None:
    error = await failure(kind, {"status": status})
    assert (error.code, error.retryable, error.details["status"]) == (code, retryable, status)


async def test_a_limit_says_how_long_to_wait(kind: str) -> None:
    error = await failure(kind, {"status": 429, "retry_after_s": 7})
    assert (error.code, error.details["retry_after_s"]) == ("backend.rate_limited", 7.0)


async def test_a_reply_that_breaks_off_is_no_reply(kind: str) -> None:
    error = await failure(kind, {"reply": "one two three", "stream": {"chunk_chars": 3}, "cut_after_chars": 6})
    assert (error.code, error.retryable) == ("backend.cut_off", True)


async def test_a_reply_that_cannot_be_read_is_a_bad_one(kind: str) -> None:
    error = await failure(kind, {"bad_json": True})
    assert (error.code, error.retryable) == ("backend.bad_reply", True)


async def test_a_cancelled_call_lets_go_of_the_server_at_once(kind: str) -> None:
    rule = {"reply": "word " * 2_000, "stream": {"chunk_chars": 5, "delay_s": 0.05}}
    arrived = asyncio.Event()
    async with scripted(kind, rule) as (backend, app):
        call = asyncio.create_task(backend.chat(chat_params(), lambda *_: arrived.set()))
        await asyncio.wait_for(arrived.wait(), PATIENCE_S)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert len(app.calls) == 1
