"""Readers of streams that stop reading, that are of another tenant, or that are there when the API stops."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import structlog
from pydantic import SecretStr

from engine.edge import server
from engine.edge.http.connections import Connection
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.apiprocess import Script, SeqReader, ask, chunks_of, script_of

STREAM = "/api/executions/e1/transitions.stream"
STREAMS = ("status", "transitions", "events", "tokens")
NOBODY = "127.0.0.1:1"
DROPPED = "a reader that takes nothing is dropped"
MIB = 1024 * 1024
_IDS = re.compile(rb"^id: (\d+)$", re.MULTILINE)


@pytest.fixture
async def script(tmp_path: Path) -> AsyncIterator[Script]:
    async with script_of(tmp_path) as opened:
        yield opened


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """The connections of the API in the order in which they were made."""
    found: list[Connection] = []
    made = Connection.connection_made

    def remember(self: Connection, transport: asyncio.Transport) -> None:
        made(self, transport)
        found.append(self)

    monkeypatch.setattr(Connection, "connection_made", remember)
    return found


def api_with(folder: Path, **settings: object) -> contextlib.AbstractAsyncContextManager[ApiServer]:
    return api_server(settings_for(folder, **settings), temporal=NOBODY)


async def until(true: Callable[[], object]) -> None:
    """Wait until something is so; the test's own limit ends it."""
    while not true():  # noqa: ASYNC110 - connections set no event
        await asyncio.sleep(0.01)


async def what_is_left(stuck: socket.socket) -> tuple[list[int], bool]:
    """Read what was sent to a reader; return the ids of whole events, and whether the stream came to its end."""
    text = b""
    try:
        async for chunk in chunks_of(stuck):
            text += chunk
    except ConnectionError:
        ended = False
    else:
        ended = True
    return [int(found) for found in _IDS.findall(text.rpartition(b"\n\n")[0])], ended


async def test_a_reader_that_stops_reading_is_cut_and_can_come_back(tmp_path: Path, script: Script) -> None:
    with structlog.testing.capture_logs() as logs:
        async with api_with(tmp_path, stream_stall_s=1) as api, asyncio.TaskGroup() as group:
            stuck = await ask(api, STREAM, receive_bytes=4_096)
            reader = SeqReader(STREAM, api)
            reading = group.create_task(reader.read())
            while not any(line["event"] == DROPPED for line in logs):
                await script.steps(20, output="x" * 30_000)
                await until(lambda: len(reader.ids) >= script.seq)
            known, ended = await what_is_left(stuck)
            back = SeqReader(STREAM, api)
            back.ids = known
            await script.end()
            await back.read()
            await reading
    assert known
    assert not ended
    # it missed nothing, and the other one did not notice
    assert back.ids == reader.ids == list(range(1, script.seq + 1))
    assert reader.breaks == 0
    assert sum(line["event"] == DROPPED for line in logs) == 1


async def test_a_reader_that_does_not_take_the_end_is_cut_too(
    tmp_path: Path, script: Script, connections: list[Connection]
) -> None:
    await script.steps(300, output="x" * 30_000)
    await script.end()
    async with api_with(tmp_path, stream_stall_s=1) as api:
        stuck = await ask(api, STREAM, receive_bytes=4_096)
        # the server may put away all of it, so that the stream is over at once
        connections[0].transport.set_write_buffer_limits(64 * MIB)
        connections[0].resume_writing()
        await until(lambda: connections[0].transport.is_closing())
        assert connections[0].transport.get_write_buffer_size() > 0
        await until(lambda: not connections[0].connections)
        assert not (await what_is_left(stuck))[1]


async def test_a_server_that_stops_does_not_wait_for_a_reader_that_is_stuck(
    tmp_path: Path, script: Script, connections: list[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    # longer than this test may last
    monkeypatch.setattr(server, "GRACE_S", 600)
    async with api_with(tmp_path) as api:
        stuck = await ask(api, STREAM, receive_bytes=4_096)
        reader = SeqReader(STREAM, api)
        reading = asyncio.create_task(reader.read())
        await reader.opened.wait()
        while not connections[0].flow.write_paused:
            await script.steps(20, output="x" * 30_000)
            await until(lambda: len(reader.ids) >= script.seq)
        api.stop.set()
        await api.serving
        await reading
        # one who reads is told the end of the stream
        assert reader.ids == list(range(1, script.seq + 1))
        assert reader.breaks == 0
        assert not (await what_is_left(stuck))[1]


async def test_streams_of_another_tenant_are_not_found(tmp_path: Path, script: Script) -> None:
    root = {"x-auth-key": "sesame"}
    await script.end()
    async with api_with(tmp_path, api_key=SecretStr("sesame")) as api:
        body = {"name": "globex-bot", "tenant": "globex", "scopes": ["admin"]}
        theirs = {"x-auth-key": (await api.http.post("/keys", json=body, headers=root)).json()["key"]}
        for headers in (theirs, {**theirs, "last-event-id": "1"}):
            for name in STREAMS:
                other = await api.http.get(f"/executions/e1/{name}.stream", headers=headers)
                nobody = await api.http.get(f"/executions/e2/{name}.stream", headers=headers)
                assert (other.status_code, other.json()["code"]) == (404, "execution.not_found")
                assert _words(other, "e1") == _words(nobody, "e2")
        for name in STREAMS:
            assert (await api.http.get(f"/executions/e1/{name}.stream", headers=root)).status_code == 200


def _words(answer: httpx.Response, execution_id: str) -> str:
    return str(answer.json()["detail"]).replace(execution_id, "…")
