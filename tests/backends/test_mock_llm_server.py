"""The mock LLM server on the wire: replies, faults, and its record of what was asked."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.edge.cli.doctor import check_backends
from engine.edge.mockllm.app import create_app
from engine.edge.mockllm.script import MockScript
from tests.backends.loopback import serving
from tests.support.patience import PATIENCE_S


@asynccontextmanager
async def mock(*rules: dict[str, Any]) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(MockScript.model_validate({"rules": list(rules), "models": ["m1", "m2"]}))
    async with serving(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        yield client


def body(text: str = "hello there", **more: Any) -> dict[str, Any]:
    return {"model": "m1", "messages": [{"role": "user", "content": text}], **more}


async def ask(client: httpx.AsyncClient, text: str = "hello there", **more: Any) -> httpx.Response:
    return await client.post("/v1/chat/completions", json=body(text, **more))


def events(response: httpx.Response) -> list[Any]:
    data = [block.removeprefix("data: ") for block in response.text.split("\n\n") if block]
    assert data.pop() == "[DONE]"
    return [json.loads(item) for item in data]


async def test_without_a_script_the_last_user_message_comes_back() -> None:
    async with serving(create_app()) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        response = await ask(client, "echo this")
    reply = response.json()
    assert reply["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "echo this"}, "finish_reason": "stop"}
    ]
    assert reply["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    assert reply["object"] == "chat.completion"


async def test_a_stream_brings_role_text_finish_reason_usage_and_done() -> None:
    async with mock({"reply": "abcde", "stream": {"chunk_chars": 2}}) as client:
        response = await ask(client, stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, finish, usage = events(response)
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "ab"},
        {"content": "cd"},
        {"content": "e"},
    ]
    assert finish["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 1)


async def test_usage_is_streamed_only_on_request() -> None:
    async with mock() as client:
        assert all("usage" not in event for event in events(await ask(client, stream=True)))


async def test_streamed_chunks_come_with_their_pauses() -> None:
    async with mock({"reply": "abc", "stream": {"chunk_chars": 1, "delay_s": 0.03}}) as client:
        began = time.monotonic()
        async with client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response:
            async for _ in response.aiter_bytes():
                pass
        # a busy machine makes it longer, nothing makes it shorter
        assert time.monotonic() - began >= 0.09


async def test_the_first_rule_that_applies_answers_and_is_used_up_after_its_times() -> None:
    rules: list[dict[str, Any]] = [
        {"match": "hi", "times": 2, "reply": "first {n}"},
        {"match": "hi", "reply": "then {n}: {last}"},
    ]
    async with mock(*rules) as client:
        texts = [(await ask(client, "hi you")).json()["choices"][0]["message"]["content"] for _ in range(3)]
        other = (await ask(client, "else")).json()["choices"][0]["message"]["content"]
    assert texts == ["first 1", "first 2", "then 3: hi you"]
    assert other == "else"


async def test_a_rule_may_wait_for_a_turn_of_the_conversation() -> None:
    async with mock({"turn": 1, "reply": "second"}, {"turn": 0, "reply": "first"}) as client:
        first = await ask(client)
        messages = [*body()["messages"], {"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]
        second = await client.post("/v1/chat/completions", json={"messages": messages})
    assert [item.json()["choices"][0]["message"]["content"] for item in (first, second)] == ["first", "second"]


async def test_json_replies_and_tool_calls() -> None:
    rules: list[dict[str, Any]] = [
        {"match": "json", "json": {"said": "{last}", "n": [1, None]}},
        {"tool_calls": [{"name": "look", "arguments": {"q": "{last}"}}, {"id": "mine", "name": "look"}]},
    ]
    async with mock(*rules) as client:
        said = (await ask(client, "json please")).json()["choices"][0]["message"]["content"]
        choice = (await ask(client, "a")).json()["choices"][0]
    assert json.loads(said) == {"said": "json please", "n": [1, None]}
    assert choice["finish_reason"] == "tool_calls"
    call = choice["message"]["tool_calls"][0]
    assert (call["type"], call["function"]) == ("function", {"name": "look", "arguments": '{"q":"a"}'})
    assert [each["id"] for each in choice["message"]["tool_calls"]] == ["call_2_0", "mine"]


async def test_usage_and_finish_reason_may_be_set() -> None:
    rule = {"reply": "x", "usage": {"prompt_tokens": 5, "completion_tokens": 6}, "finish_reason": "length"}
    async with mock(rule) as client:
        reply = (await ask(client)).json()
    assert reply["usage"] == {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}
    assert reply["choices"][0]["finish_reason"] == "length"


async def test_parts_of_the_tokens_stand_where_the_provider_has_them() -> None:
    parts = {"cached_tokens": 40, "cache_write_tokens": 50, "reasoning_tokens": 6}
    rule = {"reply": "x", "usage": {"prompt_tokens": 100, "completion_tokens": 10, **parts}}
    messages = {"model": "m1", "messages": [{"role": "user", "content": "x"}], "max_tokens": 9}
    contents = {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}
    async with mock(rule) as client:
        openai = (await ask(client)).json()["usage"]
        anthropic = (await client.post("/v1/messages", json=messages)).json()["usage"]
        gemini = (await client.post("/v1beta/models/m1:generateContent", json=contents)).json()["usageMetadata"]
    assert openai == {
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "total_tokens": 110,
        "prompt_tokens_details": {"cached_tokens": 40},
        "completion_tokens_details": {"reasoning_tokens": 6},
    }
    assert anthropic == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 50,
        "cache_read_input_tokens": 40,
        "output_tokens": 10,
        "output_tokens_details": {"thinking_tokens": 6},
    }
    assert gemini == {
        "promptTokenCount": 100,
        "candidatesTokenCount": 4,
        "totalTokenCount": 110,
        "cachedContentTokenCount": 40,
        "thoughtsTokenCount": 6,
    }


async def test_a_refusal_has_status_retry_after_and_body() -> None:
    rules: list[dict[str, Any]] = [
        {"status": 429, "retry_after_s": 1.5, "times": 1},
        {"status": 503, "error": {"any": "thing"}},
    ]
    async with mock(*rules) as client:
        first, second = await ask(client), await ask(client, stream=True)
    assert (first.status_code, first.headers["retry-after"]) == (429, "1.5")
    assert first.json()["error"]["type"] == "rate_limit_error"
    assert (second.status_code, second.json()) == (503, {"any": "thing"})
    assert "retry-after" not in second.headers


@pytest.mark.parametrize("stream", [True, False])
async def test_a_cut_reply_ends_in_the_middle_and_drops_the_connection(stream: bool) -> None:
    async with mock({"reply": "a long reply", "cut_after_chars": 4}) as client:
        received = b""
        async with client.stream("POST", "/v1/chat/completions", json=body(stream=stream)) as response:
            parts = response.aiter_bytes()
            received += await anext(parts)
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(parts)
    if stream:
        assert b'"a lo"' in received
        assert b"[DONE]" not in received
    else:
        assert len(received) == 4


@pytest.mark.parametrize("stream", [True, False])
async def test_broken_json_is_broken(stream: bool) -> None:
    async with mock({"bad_json": True}) as client:
        response = await ask(client, stream=stream)
    assert response.status_code == 200
    with pytest.raises(ValueError, match=r"."):
        json.loads(response.text.removeprefix("data: "))


async def test_a_delay_holds_back_one_call_and_no_other() -> None:
    async with mock({"match": "slow", "delay_s": 5}) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v1/chat/completions", json=body("slow"), timeout=0.1)
        assert (await ask(client, "fast")).status_code == 200


async def test_calls_are_recorded_with_their_keys_and_can_be_forgotten() -> None:
    async with mock({"match": "x", "status": 500}) as client:
        await client.post("/v1/chat/completions", json=body("a", seed=1), headers={"Idempotency-Key": "k1"})
        await ask(client, "x", stream=True)
        seen = (await client.get("/mock/calls")).json()
        cleared = await client.delete("/mock/calls")
        after = (await client.get("/mock/calls")).json()
    assert seen["count"] == 2
    first, second = seen["calls"]
    assert (first["n"], first["idempotency_key"], first["rule"], first["status"]) == (1, "k1", None, 200)
    assert (first["messages"], first["body"]) == ([{"role": "user", "content": "a"}], {"seed": 1})
    assert (second["n"], second["stream"], second["rule"], second["status"]) == (2, True, 0, 500)
    assert abs(first["time"] - time.time()) < 60
    assert cleared.status_code == 200
    assert after == {"count": 0, "calls": []}


async def test_models_are_listed_and_unknown_places_are_not_found() -> None:
    async with mock() as client:
        models = (await client.get("/v1/models")).json()
        nowhere = await client.get("/v2/else")
        one, none = await client.get("/v1/models/m2"), await client.get("/v1/models/m3")
    assert [item["id"] for item in models["data"]] == ["m1", "m2"]
    assert nowhere.status_code == 404
    assert (one.json()["id"], none.status_code) == ("m2", 404)


async def test_a_script_without_models_has_every_model_and_lists_those_of_its_rules() -> None:
    app = create_app(MockScript.model_validate({"rules": [{"model": "a/b"}, {"model": "c-*"}, {"reply": "x"}]}))
    async with serving(app) as url, httpx.AsyncClient(base_url=f"{url}/v1", trust_env=False) as client:
        listed = (await client.get("/models")).json()["data"]
        assert [item["id"] for item in listed] == ["a/b"]
        for name in ("a/b", "a%2Fb", "c-1"):
            assert (await client.get(f"/models/{name}")).json()["id"] == name.replace("%2F", "/")


async def test_doctor_finds_the_models_of_a_backend_that_the_mock_serves_without_listing_them(tmp_path: Path) -> None:
    file = tmp_path / "everstep.toml"
    async with serving(create_app()) as url:
        file.write_text(f'[backends.mock]\nbase_url = "{url}/v1"\nmodels = ["gpt-x", "org/m"]\n')
        (finding,) = await asyncio.to_thread(check_backends, file, tmp_path)
    assert (finding.state, finding.message) == ("ok", f"{url}/v1 has gpt-x, org/m, mock")
    async with serving(create_app(MockScript(models=["gpt-x"]))) as url:
        file.write_text(f'[backends.mock]\nbase_url = "{url}/v1"\nmodels = ["gpt-x", "org/m"]\n')
        (finding,) = await asyncio.to_thread(check_backends, file, tmp_path)
    assert (finding.state, finding.remedy) == ("error", "it has gpt-x")


@pytest.mark.parametrize("content", [b"no json", b"[]", b"{}", b'{"messages": 3}'])
async def test_a_body_that_is_no_chat_call_is_refused_and_not_counted(content: bytes) -> None:
    async with mock() as client:
        response = await client.post("/v1/chat/completions", content=content)
        assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")
        assert (await client.get("/mock/calls")).json()["count"] == 0


async def test_content_in_parts_is_read() -> None:
    async with mock() as client:
        parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]
        response = await client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": parts}]})
    assert response.json()["choices"][0]["message"]["content"].split() == ["a", "b"]


def start_process(*arguments: str) -> subprocess.Popen[str]:
    code = f"from engine.edge.mockllm.server import serve; from pathlib import Path; serve({', '.join(arguments)})"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_says_where_it_serves_and_ends_cleanly_when_told(tmp_path: Path, number: int) -> None:
    (tmp_path / "s.yaml").write_text("- reply: from the file\n")
    process = start_process(f"script_path=Path({str(tmp_path / 's.yaml')!r})")
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = json.loads(process.stdout.readline())["url"]
        assert url.startswith("http://127.0.0.1:")
        reply = httpx.post(f"{url}/chat/completions", json=body(), trust_env=False).json()
        assert reply["choices"][0]["message"]["content"] == "from the file"
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr.read() == ""


def test_a_port_that_is_taken_is_told() -> None:
    with start_process("port=0") as first:
        assert first.stdout is not None
        port = json.loads(first.stdout.readline())["url"].split(":")[2].split("/")[0]
        with start_process(f"port={port}") as second:
            assert second.stderr is not None
            assert f"cannot listen on 127.0.0.1:{port}" in second.stderr.read()
            assert second.wait(PATIENCE_S) != 0
        first.terminate()
        assert first.wait(PATIENCE_S) == 0
