"""Answers of sessions as streams, read by the real SDK: as the model writes, whole, and stopped by no reader."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import julep
import pytest
from julep import AsyncJulep

from engine.edge.mockllm.script import MockRule, MockScript, MockStream, MockToolCall
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.lab import Lab
from tests.support.processes import worker_process

WORDS = " ".join(f"word{number}" for number in range(40))
CLOCK = {"name": "clock", "type": "system", "system": {"resource": "agent", "operation": "list"}}
WEATHER = {"name": "weather", "type": "function", "function": {"parameters": {"type": "object", "properties": {}}}}


@contextlib.asynccontextmanager
async def serving(lab: Lab, **more: Any) -> AsyncIterator[ApiServer]:
    """Serve the API of a laboratory."""
    settings = settings_for(lab.folder, task_queue=lab.queue, **more)
    async with api_server(settings, temporal=lab.client.service_client.config.target_host) as server:
        yield server


@contextlib.asynccontextmanager
async def sdk(api: ApiServer) -> AsyncIterator[AsyncJulep]:
    """Open the SDK, which looks at every member that it gets."""
    options: dict[str, Any] = {"base_url": f"{api.url}/api", "max_retries": 0, "_strict_response_validation": True}
    async with AsyncJulep(api_key="any", **options) as client:
        yield client


def slow(text: str, **rule: Any) -> MockRule:
    return MockRule(reply=text, stream=MockStream(chunk_chars=12, delay_s=0.05), **rule)


async def begin(client: Any, **more: Any) -> str:
    agent = await client.agents.create(name="Ada", model="mock")
    return str((await client.sessions.create(agent=agent.id, **more)).id)


async def read(client: Any, session: str, text: str, **more: Any) -> list[Any]:
    """Say something and return the chunks of the answer."""
    said: Any = [{"role": "user", "content": text}]
    return [chunk async for chunk in await client.sessions.chat(session, messages=said, stream=True, **more)]


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def test_an_answer_comes_in_pieces_as_the_model_writes_it(lab: Lab) -> None:
    lab.mock.use(MockScript(rules=[slow(WORDS)]))
    async with serving(lab) as api, sdk(api) as client, worker_process(lab):
        session = await begin(client)
        chunks = await read(client, session, "speak")
        assert text_of(chunks) == WORDS
        assert len(chunks) > 3
        assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
        assert chunks[-1].usage.total_tokens > 0
        assert chunks[-1].docs == []
        assert len({chunk.id for chunk in chunks}) == 1
        entries = (await client.sessions.history(session)).entries
        assert [entry.content for entry in entries] == ["speak", WORDS]


async def test_where_no_worker_tells_what_is_written_the_answer_comes_as_one_piece(lab: Lab) -> None:
    lab.mock.use(MockScript(rules=[slow(WORDS)]))
    async with serving(lab) as api, sdk(api) as client, lab.worker():
        chunks = await read(client, await begin(client), "speak")
        assert (len(chunks), text_of(chunks), chunks[0].choices[0].finish_reason) == (1, WORDS, "stop")


async def test_a_reader_that_hangs_up_stops_nothing_and_one_that_comes_late_gets_all_of_it(lab: Lab) -> None:
    lab.mock.use(MockScript(rules=[slow(WORDS)]))
    async with serving(lab) as api, sdk(api) as client, worker_process(lab):
        session = await begin(client)
        said = {"messages": [{"role": "user", "content": "speak"}], "stream": True}

        async def lines(most: int) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            headers, path = {"Idempotency-Key": "k"}, f"/sessions/{session}/chat"
            async with api.http.stream("POST", path, json=said, headers=headers) as answer:
                assert answer.status_code == 201
                async for line in answer.aiter_lines():
                    if line.startswith("data: "):
                        found.append(json.loads(line.removeprefix("data: ")))
                    if len(found) >= most:
                        break
            return found

        first = await lines(2)
        assert WORDS.startswith(_joined(first))
        assert _joined(first) != WORDS
        assert _joined(await lines(1_000)) == WORDS, "the same request goes on with the turn that is there"
        assert _joined(await lines(1_000)) == WORDS, "and tells the answer of one that is over"
        assert len(lab.mock.calls) == 1
        assert [entry.content for entry in (await client.sessions.history(session)).entries] == ["speak", WORDS]


def _joined(chunks: list[dict[str, Any]]) -> str:
    return "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)


async def test_tools_that_are_run_stand_between_the_texts_and_those_of_the_client_at_the_end(lab: Lab) -> None:
    calls = [MockToolCall(name="clock", arguments={})]
    rules = [
        MockRule(turn=0, reply="One moment. ", tool_calls=calls, stream=MockStream(chunk_chars=4, delay_s=0.02)),
        MockRule(turn=1, tool_calls=[MockToolCall(name="weather", arguments={})]),
    ]
    lab.mock.use(MockScript(rules=rules))
    async with serving(lab) as api, sdk(api) as client, worker_process(lab):
        session = await begin(client, auto_run_tools=True)
        chunks = await read(client, session, "what now?", tools=[CLOCK, WEATHER])
        assert text_of(chunks) == "One moment. "
        assert chunks[-1].choices[0].finish_reason == "tool_calls"
        assert [made.function.name for made in chunks[-1].choices[0].delta.tool_calls] == ["weather"]


async def test_a_refusal_before_the_first_word_has_its_status(lab: Lab) -> None:
    lab.mock.use(MockScript(rules=[MockRule(status=400)]))
    async with serving(lab) as api, sdk(api) as client, lab.worker():
        with pytest.raises(julep.BadRequestError):
            await read(client, await begin(client), "speak")


async def broken(client: Any, session: str, text: str) -> list[Any]:
    """Say something and return what came before the stream broke off, which it must."""
    said: Any = [{"role": "user", "content": text}]
    found: list[Any] = []
    with contextlib.suppress(httpx.RemoteProtocolError):
        async for chunk in await client.sessions.chat(session, messages=said, stream=True):
            found.append(chunk)
        pytest.fail("the stream ended as if it were whole")
    return found


async def test_what_goes_wrong_in_the_middle_is_told_and_breaks_the_stream_off(lab: Lab) -> None:
    def cut(word: str, **more: Any) -> MockRule:
        return slow(WORDS, match=word, cut_after_chars=100, **more)

    rules = [cut("never"), cut("once", times=1), slow(WORDS, match="once"), cut("otherwise", times=1)]
    lab.mock.use(MockScript(rules=[*rules, MockRule(match="otherwise", reply="No.")]))
    async with serving(lab) as api, sdk(api) as client, worker_process(lab):
        sessions = [await begin(client) for _ in range(3)]
        never, once, otherwise = await asyncio.gather(
            broken(client, sessions[0], "never"),
            read(client, sessions[1], "once"),
            broken(client, sessions[2], "otherwise"),
        )
        assert WORDS.startswith(text_of(never))
        assert len(never) > 1
        assert never[-1].error["code"] == "backend.cut_off"
        assert (await client.sessions.history(sessions[0])).entries == []
        assert text_of(once) == WORDS, "the model was asked again, and nothing was told twice"
        assert otherwise[-1].error["code"] == "chat.told_otherwise"
        assert [entry.content for entry in (await client.sessions.history(sessions[2])).entries] == ["otherwise", "No."]
