"""What models write, as a stream: a real worker process, real API processes, a scripted model on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.edge.mockllm.script import MockRule, MockScript, MockStream, MockToolCall
from tests.support.apiprocess import ApiProcess, api_process, ask, chunks_of
from tests.support.lab import Lab, plan_of
from tests.support.processes import worker_process

WORDS = " ".join(f"word{number}" for number in range(60))
TASK = """\
name: talk
main:
  - prompt: [{role: user, content: speak}]
  - prompt: [{role: user, content: again}]
  - return: done
"""


def slow(text: str, **rule: Any) -> MockRule:
    return MockRule(reply=text, stream=MockStream(chunk_chars=6, delay_s=0.05), **rule)


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a stream: its kind, its id or None, and what it tells."""

    kind: str
    id: int | None
    data: dict[str, Any]


class TokenReader:
    """Reads a token stream; told = its events so far."""

    def __init__(self, api: ApiProcess, execution_id: str) -> None:
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


def serve(lab: Lab) -> contextlib.AbstractContextManager[ApiProcess]:
    return api_process(lab.folder, TEMPORAL_ADDRESS=lab.client.service_client.config.target_host)


async def begin(lab: Lab, text: str = TASK) -> Any:
    """Start an execution and return its handle once the store knows it."""
    handle = await lab.start(plan_of(text))
    await lab.until(handle, "init")
    return handle


@pytest.mark.timeout(120)
async def test_tokens_come_before_their_message_and_make_it_up(lab: Lab) -> None:
    lab.mock.use(MockScript(rules=[slow(WORDS * 2, times=1), slow("short", times=1)]))
    with serve(lab) as first, serve(lab) as second:
        async with worker_process(lab):
            handle = await begin(lab)
            # on two processes, and two on one
            readers = [TokenReader(api, handle.id) for api in (first, first, second)]
            await asyncio.gather(*(reader.read() for reader in readers))
    for reader in readers:
        assert reader.text_of("main.0") == WORDS * 2
        assert reader.text_of("main.1") == "short"
        one, two = reader.of("message")
        assert one.data["message"] == {"role": "assistant", "content": WORDS * 2}
        assert (one.data["path"], one.data["outcome"], one.data["model"]) == ("main.0", "ok", "mock")
        assert one.data["usage"]["total_tokens"] > 0
        assert two.data["message"]["content"] == "short"
        assert one.id is not None
        assert two.id is not None
        assert one.id < two.id
        # the reply came in parts, and every part of a call before its message
        place = reader.told.index(one)
        of_first = [told.kind == "token" and told.data["path"] == "main.0" for told in reader.told]
        assert sum(of_first[:place]) > 1
        assert not any(of_first[place:])
        assert {told.id for told in reader.of("token")} == {None}
        assert (reader.told[-1].kind, reader.told[-1].data["status"]) == ("end", "succeeded")


@pytest.mark.timeout(120)
async def test_a_reader_in_the_middle_of_a_call_gets_its_text_so_far(lab: Lab) -> None:
    lab.mock.use(MockScript(rules=[slow(WORDS * 3)]))
    with serve(lab) as api, serve(lab) as other:
        async with worker_process(lab):
            handle = await begin(lab, "name: t\nmain:\n  - prompt: [{role: user, content: x}]\n")
            first = TokenReader(api, handle.id)
            reading = asyncio.create_task(first.read())
            await first.until(5)
            # at a process that has the text, and at one that nobody had asked before
            late = [TokenReader(api, handle.id), TokenReader(other, handle.id)]
            await asyncio.gather(reading, *(reader.read() for reader in late))
    for reader in late:
        assert reader.text_of("main.0") == WORDS * 3
        assert len(reader.of("token")[0].data["text"]) > len(first.of("token")[0].data["text"])


@pytest.mark.timeout(120)
async def test_messages_that_were_missed_are_told_again_and_a_running_call_goes_on(lab: Lab) -> None:
    lab.mock.use(MockScript(rules=[slow("first", times=1), slow("second", times=1), slow(WORDS * 50)]))
    three = "name: t\nmain:\n" + "  - prompt: [{role: user, content: x}]\n" * 3
    with serve(lab) as api:
        async with worker_process(lab):
            handle = await begin(lab, three)
            reader = TokenReader(api, handle.id)
            reading = asyncio.create_task(reader.read())
            await reader.until(1, "message")
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await lab.until(handle, "effect.finished", count=2)
            api.kill()
            await asyncio.to_thread(api.start)
            again = TokenReader(api, handle.id)
            again.last_id = reader.last_id
            going_on = asyncio.create_task(again.read())
            await again.until(3)
            await lab.cancel(handle)
            await going_on
    assert [told.data["message"]["content"] for told in again.of("message")] == ["second"]
    begun = again.text_of("main.2")
    assert begun
    assert (WORDS * 50).startswith(begun)
    assert [told.data["outcome"] for told in again.of("failed")] == ["cancelled"]
    assert again.told[-1].data["status"] == "cancelled"


@pytest.mark.timeout(120)
async def test_a_call_that_lost_its_worker_begins_anew_with_the_next_delivery(lab: Lab) -> None:
    lab.mock.use(MockScript(rules=[slow(WORDS * 20, times=1), slow(WORDS)]))
    with serve(lab) as api:
        async with worker_process(lab) as worker:
            handle = await begin(lab, "name: t\nmain:\n  - prompt: [{role: user, content: x}]\n")
            reader = TokenReader(api, handle.id)
            reading = asyncio.create_task(reader.read())
            await reader.until(3)
            worker.kill()
            worker.start()
            await reading
    assert reader.text_of("main.0", delivery=2) == WORDS
    begun = reader.text_of("main.0", delivery=1)
    assert begun
    assert (WORDS * 20).startswith(begun)
    assert reader.of("message")[0].data["message"]["content"] == WORDS


@pytest.mark.timeout(120)
async def test_arguments_of_tool_calls_and_failed_attempts_are_told_too(lab: Lab) -> None:
    call = MockRule(tool_calls=[MockToolCall(name="look", arguments={"at": "x" * 40})], times=1)
    lab.mock.use(MockScript(rules=[slow(WORDS, times=1, cut_after_chars=30), call]))
    text = """\
name: t
main:
  - prompt:
      messages: [{role: user, content: x}]
    retry: {attempts: 2, delay: 0s}
"""
    with serve(lab) as api:
        async with worker_process(lab):
            handle = await begin(lab, text)
            reader = TokenReader(api, handle.id)
            await reader.read()
    failed, ended = reader.of("failed"), reader.of("message")
    assert [(told.data["attempt"], told.data["error"]["code"]) for told in failed] == [(1, "backend.cut_off")]
    first = [told.data for told in reader.of("token") if told.data["attempt"] == 1]
    assert "".join(data["text"] for data in first) == WORDS[:30]
    second = [told.data for told in reader.of("token") if told.data["attempt"] == 2]
    assert {data["kind"] for data in second} == {"tool_call"}
    assert "".join(data["text"] for data in second if data["member"] == "name") == "look"
    assert json.loads("".join(data["text"] for data in second if data["member"] == "arguments")) == {"at": "x" * 40}
    assert ended[0].data["message"]["tool_calls"][0]["function"]["name"] == "look"


async def test_the_sockets_of_an_installation_are_for_its_owner_alone(lab: Lab, tmp_path: Path) -> None:
    from engine.broker.unix import socket_folder

    lab.mock.use(MockScript(rules=[slow(WORDS)]))
    with serve(lab):
        async with worker_process(lab):
            folder = socket_folder(tmp_path)
            assert folder.stat().st_mode & 0o777 == 0o700
            assert [path.name.split("-")[0] for path in folder.iterdir()] == ["worker"]
    assert list(folder.iterdir()) == []
