"""What models write, as a stream: a real worker process, APIs of their own, a scripted model on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass
from typing import Any

from engine.broker.unix import socket_folder
from engine.edge.mockllm.script import MockRule, MockScript, MockStream, MockToolCall
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.apiprocess import HasPort, api_processes, ask, chunks_of
from tests.support.lab import Lab, plan_of
from tests.support.processes import worker_process

WORDS = " ".join(f"word{number}" for number in range(60))
LONG = WORDS * 50
"""Longer than any of these tests lasts."""
GATED = """\
name: talk
main:
  - race:
      - prompt: [{role: user, content: long}]
      - workflow: talk
talk:
  - wait_for_input: {}
"""
"""While the first branch writes, all readers come; then the second goes on, and the race is over when it is done."""
ONE = "name: t\nmain:\n  - prompt: [{role: user, content: x}]\n"


def slow(text: str, **rule: Any) -> MockRule:
    return MockRule(reply=text, stream=MockStream(chunk_chars=12, delay_s=0.05), **rule)


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a stream: its kind, its id or None, and what it tells."""

    kind: str
    id: int | None
    data: dict[str, Any]


class TokenReader:
    """Reads a token stream; told = its events so far."""

    def __init__(self, api: HasPort, execution_id: str) -> None:
        self.told: list[Told] = []
        self.last_id = ""
        self._api = api
        self._path = f"/api/executions/{execution_id}/tokens.stream"
        self._socket: socket.socket | None = None

    async def read(self) -> None:
        """Read until the server ends the stream."""
        rest = b""
        made = await ask(self._api, self._path, last_id=self.last_id)
        async for chunk in chunks_of(made):
            *whole, rest = (rest + chunk).split(b"\n\n")
            for text in whole:
                self._take(text.decode())

    def _take(self, text: str) -> None:
        fields = dict(line.split(": ", 1) for line in text.splitlines() if not line.startswith(":"))
        if "data" in fields:
            number = int(fields["id"]) if "id" in fields else None
            self.last_id = fields.get("id", self.last_id)
            self.told.append(Told(fields.get("event", "message"), number, json.loads(fields["data"])))

    def of(self, kind: str) -> list[Told]:
        return [told for told in self.told if told.kind == kind]

    def text_of(self, path: str, *, delivery: int = 1, kind: str = "content") -> str:
        """Return the characters of a call, which must follow each other without a gap."""
        text, index = "", 0
        for told in self.of("token"):
            if (told.data["path"], told.data["delivery"]) == (path, delivery):
                assert told.data["index"] == index, told
                index += len(told.data["text"])
                text += told.data["text"] if told.data["kind"] == kind else ""
        return text

    async def until(self, count: int, kind: str = "token") -> None:
        while len(self.of(kind)) < count:  # noqa: ASYNC110 - the test's own limit ends it
            await asyncio.sleep(0.01)


def serve(lab: Lab) -> contextlib.AbstractAsyncContextManager[ApiServer]:
    """Serve an API in this process; two of them know as little of each other as two processes do."""
    return api_server(settings_for(lab.folder), temporal=lab.client.service_client.config.target_host)


async def begin(lab: Lab, text: str = ONE) -> Any:
    """Start an execution and return its handle once the store knows it."""
    handle = await lab.start(plan_of(text))
    await lab.until(handle, "init")
    return handle


async def go_on_before(lab: Lab, handle: Any, readers: list[TokenReader]) -> None:
    """Let a gated task go on when all readers get tokens, and read to its end."""
    async with asyncio.TaskGroup() as group:
        for reader in readers:
            group.create_task(reader.read())
        for reader in readers:
            await reader.until(1)
        await lab.until(handle, "wait")
        await lab.answer(handle, True)


async def test_tokens_come_before_their_message_and_make_it_up(both_stores: str, lab: Lab) -> None:
    del both_stores
    rules = [slow(LONG, match="long"), slow(WORDS, match="speak"), slow("short", match="again")]
    lab.mock.use(MockScript(rules=rules))
    text = GATED + "".join(f"  - prompt: [{{role: user, content: {word}}}]\n" for word in ("speak", "again"))
    async with serve(lab) as first, serve(lab) as second, worker_process(lab):
        handle = await begin(lab, text)
        readers = [TokenReader(api, handle.id) for api in (first, first, second)]
        await go_on_before(lab, handle, readers)
    for reader in readers:
        one, two = reader.of("message")
        assert reader.text_of(one.data["path"]) == WORDS
        assert reader.text_of(two.data["path"]) == "short"
        assert one.data["message"] == {"role": "assistant", "content": WORDS}
        assert (one.data["outcome"], one.data["model"]) == ("ok", "mock")
        assert one.data["usage"]["total_tokens"] > 0
        assert two.data["message"]["content"] == "short"
        assert one.id is not None
        assert two.id is not None
        assert one.id < two.id
        # the reply came in parts, and every part of a call before its message
        place = reader.told.index(one)
        of_one = [told.kind == "token" and told.data["path"] == one.data["path"] for told in reader.told]
        assert sum(of_one[:place]) > 1
        assert not any(of_one[place:])
        assert {told.id for told in reader.of("token")} == {None}
        assert [told.data["outcome"] for told in reader.of("failed")] == ["cancelled"]
        assert (reader.told[-1].kind, reader.told[-1].data["status"]) == ("end", "succeeded")


async def test_a_reader_in_the_middle_of_a_call_gets_its_text_so_far(lab: Lab) -> None:
    lab.mock.use(MockScript(rules=[slow(LONG)]))
    async with serve(lab) as api, serve(lab) as other, worker_process(lab):
        handle = await begin(lab)
        first = TokenReader(api, handle.id)
        # at a process that has the text, and at one that nobody had asked before
        late = [TokenReader(api, handle.id), TokenReader(other, handle.id)]
        async with asyncio.TaskGroup() as group:
            group.create_task(first.read())
            await first.until(5)
            known = first.text_of("main.0")
            for reader in late:
                group.create_task(reader.read())
                await reader.until(2)
            await lab.cancel(handle)
    for reader in late:
        assert reader.of("token")[0].data["text"].startswith(known)
        assert LONG.startswith(reader.text_of("main.0"))
    # whoever is gone leaves no socket behind
    assert list(socket_folder(lab.folder).iterdir()) == []


async def test_messages_that_were_missed_are_told_again_and_a_running_call_goes_on(lab: Lab) -> None:
    lab.mock.use(MockScript(rules=[slow("first", times=1), slow("second", times=1), slow(LONG)]))
    prompt = "  - prompt: [{role: user, content: x}]\n"
    text = f"name: t\nmain:\n{prompt}  - wait_for_input: {{}}\n{prompt}{prompt}"
    temporal = lab.client.service_client.config.target_host
    async with api_processes(lab.folder, 1, TEMPORAL_ADDRESS=temporal) as (api,), worker_process(lab):
        handle = await begin(lab, text)
        reader = TokenReader(api, handle.id)
        reading = asyncio.create_task(reader.read())
        await reader.until(1, "message")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await lab.answer(handle, True)
        await lab.until(handle, "effect.finished", count=2)
        api.kill()
        await asyncio.to_thread(api.start)
        again = TokenReader(api, handle.id)
        again.last_id = reader.last_id
        async with asyncio.TaskGroup() as group:
            group.create_task(again.read())
            await again.until(3)
            await lab.cancel(handle)
    assert [told.data["message"]["content"] for told in again.of("message")] == ["second"]
    begun = again.text_of("main.3")
    assert begun
    assert LONG.startswith(begun)
    assert [told.data["outcome"] for told in again.of("failed")] == ["cancelled"]
    assert again.told[-1].data["status"] == "cancelled"


async def test_a_call_that_lost_its_worker_begins_anew_with_the_next_delivery(lab: Lab) -> None:
    lab.mock.use(MockScript(rules=[slow(LONG, times=1), slow(WORDS)]))
    async with serve(lab) as api, worker_process(lab) as worker:
        handle = await begin(lab)
        reader = TokenReader(api, handle.id)
        async with asyncio.TaskGroup() as group:
            group.create_task(reader.read())
            await reader.until(3)
            worker.kill()
            worker.start()
    assert reader.text_of("main.0", delivery=2) == WORDS
    begun = reader.text_of("main.0", delivery=1)
    assert begun
    assert LONG.startswith(begun)
    assert reader.of("message")[0].data["message"]["content"] == WORDS


async def test_arguments_of_tool_calls_and_failed_attempts_are_told_too(lab: Lab) -> None:
    call = MockRule(tool_calls=[MockToolCall(name="look", arguments={"at": "x" * 40})], match="see")
    cut = slow(WORDS, match="see", times=1, cut_after_chars=30)
    lab.mock.use(MockScript(rules=[slow(LONG, match="long"), cut, call]))
    text = f"{GATED}  - prompt: [{{role: user, content: see}}]\n    retry: {{attempts: 2, initial: 0}}\n"
    async with serve(lab) as api, worker_process(lab):
        handle = await begin(lab, text)
        reader = TokenReader(api, handle.id)
        await go_on_before(lab, handle, [reader])
    (ended,) = reader.of("message")
    path = ended.data["path"]
    failed = [told.data for told in reader.of("failed") if told.data["path"] == path]
    assert [(data["attempt"], data["outcome"], data["error"]["code"]) for data in failed] == [
        (1, "failed", "backend.cut_off")
    ]
    tokens = [told.data for told in reader.of("token") if told.data["path"] == path]
    first = [data for data in tokens if data["attempt"] == 1]
    assert "".join(data["text"] for data in first) == WORDS[:30]
    second = [data for data in tokens if data["attempt"] == 2]
    assert {data["kind"] for data in second} == {"tool_call"}
    assert "".join(data["text"] for data in second if data["member"] == "name") == "look"
    assert json.loads("".join(data["text"] for data in second if data["member"] == "arguments")) == {"at": "x" * 40}
    assert ended.data["message"]["tool_calls"][0]["function"]["name"] == "look"
