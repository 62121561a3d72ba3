"""What the Ollama adapter sends, how it puts replies together, and how the scripted server speaks Ollama."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from activities.backends.base import tell_nobody
from activities.backends.ollama import OllamaBackend
from activities.backends.ollama_request import NoWordForIt, request_body
from engine.core.contracts.activities import ChatResult, Usage
from engine.core.contracts.conversations import Conversation
from engine.edge.mockllm.app import create_app
from engine.edge.mockllm.script import MockScript
from engine.settings import BackendConfig
from tests.backends.adapters import scripted
from tests.backends.loopback import chat_params, header, raw_server, serving, simple_app
from tests.support.patience import PATIENCE_S

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
PNG = "iVBORw0KGgo="
JPEG = "/9j/4AAQSkY="


def lines(*events: Any) -> bytes:
    """Return a streamed reply of these lines."""
    body = "".join(f"{json.dumps(event, ensure_ascii=False)}\n" for event in events)
    return f"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n{body}".encode()


def said(content: str = "", **more: Any) -> dict[str, Any]:
    """Return a line that goes on with the message."""
    message = {"role": "assistant", "content": content, **more}
    return {"model": "m:latest", "created_at": "2025-03-01T10:00:00.123456789Z", "message": message, "done": False}


def end(reason: str = "stop", **more: Any) -> dict[str, Any]:
    """Return the last line."""
    return said() | {"done": True, "done_reason": reason, **more}


async def ask(answer: bytes, tell: Any = tell_nobody) -> ChatResult:
    """Ask a server that gives this answer."""
    async with raw_server(answer) as url:
        backend = OllamaBackend("raw", BackendConfig(base_url=url))
        try:
            return await backend.chat(chat_params(), tell)
        finally:
            await backend.aclose()


def sent(**params: Any) -> dict[str, Any]:
    """Return the body of a call."""
    return request_body(chat_params(**params))


def user(*parts: Any) -> list[dict[str, Any]]:
    """Return a conversation of one user message in parts; a text that is base64 of an image is one."""
    images = {PNG: "png", JPEG: "jpeg"}
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/{images[part]};base64,{part}"}}
        if part in images
        else {"type": "text", "text": part}
        for part in parts
    ]
    return [{"role": "user", "content": content}]


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_a_plain_call_is_streamed_and_forbids_ollama_to_forget_messages() -> None:
    assert sent() == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "truncate": False,
    }


def test_settings_are_options_unless_they_are_members_of_ollamas_own() -> None:
    settings = {
        "temperature": 0,
        "top_p": 0.9,
        "top_k": 3,
        "seed": 7,
        "stop": "END",
        "num_ctx": 8192,
        "max_tokens": 50,
        "min_p": None,
        "options": {"mirostat": 1, "top_k": 99},
        "think": "high",
        "keep_alive": "5m",
        "logprobs": True,
        "top_logprobs": 2,
        "truncate": True,
        "shift": False,
        "model": "other",
        "messages": [],
        "stream": False,
        "tools": [TOOL],
        "tool_choice": "required",
    }
    assert sent(settings=settings) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "think": "high",
        "keep_alive": "5m",
        "logprobs": True,
        "top_logprobs": 2,
        "truncate": True,
        "shift": False,
        "options": {
            "mirostat": 1,
            "top_k": 3,
            "temperature": 0,
            "top_p": 0.9,
            "seed": 7,
            "stop": ["END"],
            "num_ctx": 8192,
            "num_predict": 50,
        },
    }


@pytest.mark.parametrize(
    ("setting", "member"),
    [
        ({"max_completion_tokens": 9}, {"options": {"num_predict": 9}}),
        ({"repetition_penalty": 1.1}, {"options": {"repeat_penalty": 1.1}}),
        ({"stop": ["a", "b"]}, {"options": {"stop": ["a", "b"]}}),
        ({"reasoning_effort": "low"}, {"think": "low"}),
        ({"reasoning_effort": "none"}, {"think": False}),
        ({"reasoning_effort": "low", "think": True}, {"think": True}),
        ({"response_format": {"type": "json_object"}}, {"format": "json"}),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}, {"format": SCHEMA}),
        ({"response_format": {"type": "text"}}, {}),
        ({"format": "json"}, {"format": "json"}),
        ({"parallel_tool_calls": False}, {}),
    ],
)
def test_settings_in_the_words_of_other_servers_are_translated(setting: Any, member: Any) -> None:
    assert sent(settings=setting) == sent() | member


def test_a_schema_of_the_reply_is_its_format_and_no_setting_replaces_it() -> None:
    assert sent(output_schema=SCHEMA, settings={"format": "json"})["format"] == SCHEMA


def test_beside_tools_a_schema_is_an_instruction_as_a_format_would_forbid_their_calls() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    body = sent(messages=messages, tools=[TOOL], output_schema=SCHEMA)
    assert "format" not in body
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    told = body["messages"][0]["content"]
    assert told.startswith("Be brief.\n\n")
    assert json.loads(told.splitlines()[-1]) == SCHEMA
    assert [message["role"] for message in sent(tools=[TOOL], output_schema=SCHEMA)["messages"]] == ["system", "user"]


@pytest.mark.parametrize("choice", [None, "auto"])
def test_tools_that_a_model_may_call_are_sent_as_they_are(choice: Any) -> None:
    assert sent(tools=[TOOL], tool_choice=choice) == sent() | {"tools": [TOOL]}


def test_tools_that_a_model_must_not_call_are_not_shown_to_it() -> None:
    assert sent(tools=[TOOL], tool_choice="none", output_schema=SCHEMA) == sent() | {"format": SCHEMA}


def test_that_an_agent_must_call_a_tool_is_a_wish_which_ollama_has_no_word_for() -> None:
    asked = sent(tools=[TOOL], tool_choice="required", conversation=Conversation(id="c"))
    assert asked == sent() | {"tools": [TOOL]}


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "look"}}}, "look"),
        ({"tools": [TOOL], "settings": {"parallel_tool_calls": False}}, "one tool call at a time"),
        ({"settings": {"logit_bias": {"1": 2}}}, "logit_bias"),
        ({"settings": {"options": [1]}}, "options"),
        ({"settings": {"response_format": "json"}}, "response_format"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input_audio"),
        ({"messages": [{"role": "user", "content": [3]}]}, "part of a message"),
        ({"messages": [{"role": "user", "content": 3}]}, "content of a message"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{bro"}}]}]},
            "'f'",
        ),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}]}, "'f'"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}, 3]}]}, "tool call"),
    ],
)
def test_what_ollama_has_no_word_for_is_refused_by_its_name(params: Any, word: str) -> None:
    with pytest.raises(NoWordForIt) as caught:
        sent(**params)
    assert word in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("url", ["https://example.com/a.png", "http://example.com/a.png", "a.png", "data:image/png"])
def test_an_image_that_ollama_would_have_to_fetch_is_refused(url: str) -> None:
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    with pytest.raises(NoWordForIt, match="fetches no images") as caught:
        sent(messages=messages)
    assert "data:image/png;base64," in caught.value.hint


def test_an_image_that_is_no_base64_is_refused() -> None:
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,a"}}]}]
    with pytest.raises(NoWordForIt, match="not base64"):
        sent(messages=messages)


def test_images_stand_beside_the_text_without_the_head_of_their_url() -> None:
    assert sent(messages=user("What", "is this?", PNG))["messages"] == [
        {"role": "user", "content": "What\nis this?", "images": [PNG]}
    ]
    assert sent(messages=user("Look:", PNG, "What is it?"))["messages"] == [
        {"role": "user", "content": "Look:\nWhat is it?", "images": [PNG]}
    ]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["A:", PNG, "B:", JPEG], [("A:", [PNG]), ("B:", [JPEG])]),
        ([PNG, "is A", JPEG, "is B"], [("is A", [PNG]), ("is B", [JPEG])]),
        (["both", PNG, JPEG, "so?"], [("both", [PNG, JPEG]), ("so?", None)]),
        ([PNG, JPEG, "both"], [("both", [PNG, JPEG])]),
    ],
)
def test_several_images_stay_with_the_text_that_is_theirs(parts: Any, expected: Any) -> None:
    messages = sent(messages=user(*parts))["messages"]
    assert [(message["content"], message.get("images")) for message in messages] == expected


@pytest.mark.parametrize("data", ["base64,iVBO%52w0KGgo%3D", "base64,iVBORw0K\nGgo="])
def test_escapes_and_line_breaks_of_a_data_url_are_undone(data: str) -> None:
    url = f"DATA:image/png;{data}"
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    assert sent(messages=messages)["messages"][0]["images"] == [PNG]


def test_a_data_url_of_plain_bytes_becomes_base64() -> None:
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png,%89PNG%0D%0A%1A%0A"}]}]
    assert sent(messages=messages)["messages"] == [{"role": "user", "content": "", "images": [PNG]}]


def test_tool_calls_carry_objects_and_tool_results_the_name_of_their_tool() -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":"ü"}'}},
                {"id": "c2", "type": "function", "function": {"name": "add", "arguments": ""}},
            ],
        },
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "3"}]},
        {"role": "tool", "tool_call_id": "c1", "content": "red"},
        {"role": "tool", "name": "named", "content": "x"},
        {"role": "assistant", "content": None, "refusal": "I must not"},
    ]
    assert sent(messages=messages)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c1", "function": {"name": "look", "arguments": {"at": "ü"}}},
                {"id": "c2", "function": {"name": "add", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "3", "tool_name": "add", "tool_call_id": "c2"},
        {"role": "tool", "content": "red", "tool_name": "look", "tool_call_id": "c1"},
        {"role": "tool", "content": "x", "tool_name": "named"},
        {"role": "assistant", "content": "I must not"},
    ]


def test_ids_that_come_again_in_a_later_round_mean_the_later_tool() -> None:
    def round_of(name: str) -> list[dict[str, Any]]:
        call = {"id": "call_0", "type": "function", "function": {"name": name, "arguments": "{}"}}
        return [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_0", "content": "x"},
        ]

    messages = sent(messages=[*round_of("first"), *round_of("second")])["messages"]
    assert [message["tool_name"] for message in messages if message["role"] == "tool"] == ["first", "second"]


async def test_the_key_is_optional_and_a_bearer(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    async def handler(scope: Any, body: Any) -> tuple[int, dict[str, str], bytes]:
        seen.append((scope["path"], header(scope, "authorization")))
        return 200, {"content-type": "application/json"}, json.dumps(end()).encode()

    monkeypatch.setenv("SOME_KEY", "s3cret")
    async with serving(simple_app(handler)) as url:
        for changes in ({}, {"api_key_env": "SOME_KEY"}):
            backend = OllamaBackend("b", BackendConfig(base_url=f"{url}/", **changes))
            await backend.chat(chat_params())
            await backend.aclose()
    assert seen == [("/api/chat", ""), ("/api/chat", "Bearer s3cret")]


# --- what comes back -------------------------------------------------------------------------------------------------


async def test_a_streamed_reply_is_put_together_with_its_thinking_told_and_left_out() -> None:
    told: list[tuple[str, str]] = []
    answer = lines(
        said(thinking="hm "),
        said(thinking="so"),
        said("one "),
        said("two\u2028"),
        end(prompt_eval_count=7, eval_count=3, total_duration=1),
    )
    result = await ask(answer, lambda kind, text, call, member: told.append((kind, text)))
    assert result.message == {"role": "assistant", "content": "one two\u2028"}
    assert (result.model, result.created, result.finish_reason) == ("m:latest", 1740823200, "stop")
    assert result.usage == Usage(prompt_tokens=7, completion_tokens=3, total_tokens=10)
    assert told == [("reasoning", "hm "), ("reasoning", "so"), ("content", "one "), ("content", "two\u2028")]


async def test_tool_calls_of_several_lines_are_kept_in_order_whatever_their_numbers_say() -> None:
    first = {"function": {"index": 0, "name": "add", "arguments": {"a": 1}}}
    second = {"id": "mine", "function": {"index": 0, "name": "look", "arguments": {}}}
    third = {"function": {"name": "look", "arguments": '{"at":"x"}'}}
    result = await ask(lines(said("I look.", tool_calls=[first]), said(tool_calls=[second, third]), end()))
    assert result.finish_reason == "tool_calls"
    assert result.message["content"] == "I look."
    calls = result.message["tool_calls"]
    assert [call["id"] for call in calls] == ["call_0", "mine", "call_2"]
    assert [call["function"]["name"] for call in calls] == ["add", "look", "look"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"a": 1}, {}, {"at": "x"}]


@pytest.mark.parametrize(
    ("reason", "ours"),
    [("stop", "stop"), ("length", "length"), ("load", "stop"), ("unload", "stop"), ("", "stop"), ("new", "stop")],
)
async def test_why_a_reply_ended_is_said_in_our_words(reason: str, ours: str) -> None:
    assert (await ask(lines(said("x"), end(reason)))).finish_reason == ours


async def test_a_tool_call_that_the_limit_cut_short_is_not_called_complete() -> None:
    call = {"function": {"name": "add", "arguments": {}}}
    assert (await ask(lines(said(tool_calls=[call]), end("length")))).finish_reason == "length"


async def test_without_counts_there_is_no_usage_and_a_prompt_from_the_cache_may_lack_its_own() -> None:
    assert (await ask(lines(said("x"), end()))).usage is None
    usage = (await ask(lines(said("x"), end(eval_count=4)))).usage
    assert usage == Usage(prompt_tokens=0, completion_tokens=4, total_tokens=4)


async def test_a_server_that_does_not_stream_is_understood() -> None:
    text = json.dumps(said("hi") | {"done": True, "done_reason": "stop", "eval_count": 1}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: %d\r\n\r\n"
    result = await ask(head % len(text) + text)
    assert (result.message, result.finish_reason) == ({"role": "assistant", "content": "hi"}, "stop")


@pytest.mark.parametrize("created", ["yesterday", "", "0001-01-01T00:00:00Z"])
async def test_a_time_that_makes_no_sense_is_replaced_by_our_own(created: str) -> None:
    result = await ask(lines(said("x") | {"created_at": created}, end() | {"created_at": created}))
    assert result.created > 1_750_000_000


async def test_names_of_models_are_listed_without_the_tag_that_all_have() -> None:
    async with scripted("ollama", models=["llama3.2", "qwen3:8b"]) as (backend, _):
        assert await backend.list_models() == ["llama3.2", "qwen3:8b"]


async def test_a_model_is_there_under_all_its_names() -> None:
    async with scripted("ollama", models=["llama3.2", "qwen3:8b"]) as (backend, _):
        there = [await backend.has_model(name) for name in ("llama3.2", "llama3.2:latest", "qwen3:8b", "qwen3")]
    assert there == [True, True, True, False]


async def test_a_cancelled_call_lets_go_of_the_connection_at_once() -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        head = [(b"content-type", b"application/x-ndjson")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": json.dumps(said("x")).encode() + b"\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    async with serving(app) as url:
        backend = OllamaBackend("slow", BackendConfig(base_url=url))
        call = asyncio.create_task(backend.chat(chat_params(), lambda *_: arrived.set()))
        await asyncio.wait_for(arrived.wait(), PATIENCE_S)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(gone.wait(), PATIENCE_S)
        await backend.aclose()


# --- the scripted server ---------------------------------------------------------------------------------------------


async def mocked(method: str, path: str, body: Any = None, **script: Any) -> httpx.Response:
    """Ask the scripted server once."""
    async with (
        serving(create_app(MockScript.model_validate(script))) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        return await client.request(method, path, json=body)


async def test_the_scripted_server_streams_lines_unless_it_is_told_not_to() -> None:
    rule = {
        "reply": "abcde",
        "tool_calls": [{"name": "look", "id": "c", "arguments": {"q": 1}}],
        "stream": {"chunk_chars": 2},
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    }
    call = {"model": "m:latest", "messages": [{"role": "user", "content": "hi"}]}
    streamed = await mocked("POST", "/api/chat", call, rules=[rule])
    assert streamed.headers["content-type"] == "application/x-ndjson"
    *parts, last = [json.loads(line) for line in streamed.text.splitlines()]
    look = {"id": "c", "function": {"index": 0, "name": "look", "arguments": {"q": 1}}}
    assert [part["message"]["content"] for part in parts] == ["ab", "cd", "e", ""]
    assert parts[-1]["message"]["tool_calls"] == [look]
    assert {(part["model"], part["done"]) for part in parts} == {("m", False)}
    assert (last["done"], last["done_reason"]) == (True, "stop")
    assert (last["prompt_eval_count"], last["eval_count"]) == (7, 3)
    whole = await mocked("POST", "/api/chat", call | {"stream": False}, rules=[rule])
    assert whole.headers["content-type"] == "application/json"
    assert whole.json()["message"] == {"role": "assistant", "content": "abcde", "tool_calls": [look]}
    assert (whole.json()["done"], whole.json()["eval_count"]) == (True, 3)


async def test_the_scripted_server_refuses_as_ollama_does() -> None:
    call = {"model": "m", "messages": []}
    refused = await mocked("POST", "/api/chat", call, rules=[{"status": 503}])
    assert (refused.status_code, refused.json()) == (503, {"error": "scripted status 503"})


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}],
        [{"role": "user", "content": "", "images": ["https://example.com/a.png"]}],
    ],
)
async def test_the_scripted_server_takes_only_what_ollama_takes(messages: Any) -> None:
    assert (await mocked("POST", "/api/chat", {"model": "m", "messages": messages})).status_code == 400


async def test_the_scripted_server_tells_its_version_and_about_its_models() -> None:
    assert set((await mocked("GET", "/api/version")).json()) == {"version"}
    tags = (await mocked("GET", "/api/tags", models=["m1", "m2:8b"])).json()["models"]
    assert [(item["name"], item["model"]) for item in tags] == [("m1:latest", "m1:latest"), ("m2:8b", "m2:8b")]
    for name in ("m1", "m1:latest"):
        shown = await mocked("POST", "/api/show", {"model": name}, models=["m1"])
        assert (shown.status_code, "tools" in shown.json()["capabilities"]) == (200, True)
    unknown = await mocked("POST", "/api/show", {"model": "m3"}, models=["m1"])
    assert (unknown.status_code, unknown.json()) == (404, {"error": "model 'm3' not found"})
    assert (await mocked("POST", "/api/show", {}, models=["m1"])).status_code == 400
    assert (await mocked("POST", "/api/nothing", {})).status_code == 404
