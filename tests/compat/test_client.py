"""The Python client, sync and async, against a real API, a real worker and a real Temporal server."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import threading
import uuid
from asyncio import Event
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from engine import Task, evaluate, expr
from engine.client import (
    AsyncClient,
    Client,
    DefinitionError,
    ExecutionFailed,
    ExecutionTimeout,
    InvalidInput,
    NotAllowed,
    NotFound,
    StreamEvent,
    Unavailable,
)
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S

GREET = """\
name: greet
input_schema: {type: object, required: [name], properties: {name: {type: string}}}
main:
  - evaluate: {text: "$ 'hello ' + _.name"}
    label: words
  - label: sure
    wait_for_input: {info: {text: $ _.text}, schema: {type: boolean}}
  - if: $ _
    then: {return: {said: "$ steps['words'].output.text"}}
    else: {error: Nobody wanted the greeting.}
"""
DOUBLE = Task(name="double", main=evaluate(expr("_.n * 2")))


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@pytest.fixture
async def client(api: ApiServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(api.url) as opened:
        yield opened


@pytest.fixture
def greet(tmp_path: Path) -> Path:
    file = tmp_path / "greet.yaml"
    file.write_text(GREET, encoding="utf-8")
    return file


def in_thread(url: str, work: Any) -> Any:
    """Let a function use the sync client while the server runs in this loop."""

    def call() -> Any:
        with Client(url) as sync:
            return work(sync)

    return asyncio.to_thread(call)


async def test_the_sync_client_runs_a_task_from_python_to_its_result(lab: Lab, api: ApiServer) -> None:
    async with lab.worker():
        assert await in_thread(api.url, lambda sync: sync.run(DOUBLE, {"n": 21})) == 42


async def test_the_sync_client_starts_watches_answers_and_reads(lab: Lab, api: ApiServer, greet: Path) -> None:
    def work(sync: Client) -> None:
        version = sync.apply(greet)
        assert (version.name, version.version) == ("greet", 1)
        assert sync.apply(greet).version == 1
        started = sync.start("greet", {"name": "Ada"}, labels=["vip"], metadata={"order": 17})
        waiting = sync.wait(started.id, until_waiting=True, timeout_s=PATIENCE_S)
        assert (waiting.waits[0].label, waiting.waits[0].info) == ("sure", {"text": "hello Ada"})
        sync.answer(started.id, True, actor="ada")
        ended = sync.wait(started.id, timeout_s=PATIENCE_S)
        assert ended.result() == {"said": "hello Ada"}
        assert (ended.labels, ended.metadata) == (("vip",), {"order": 17})
        told = [event.data["type"] for event in sync.stream(started.id)]
        assert told == [item["type"] for item in sync.transitions(started.id)]
        assert (told[0], told[-1]) == ("init", "finish")
        assert [task.name for task in sync.tasks()] == ["greet"]
        assert [item.id for item in sync.executions(label="vip")] == [started.id]
        assert list(sync.executions(label="nobody")) == []

    async with lab.worker():
        await in_thread(api.url, work)


async def test_the_async_client_runs_and_pages_through_all(lab: Lab, client: AsyncClient) -> None:
    async with lab.worker():
        results = await asyncio.gather(*(client.run(DOUBLE, {"n": n}, timeout_s=PATIENCE_S) for n in range(5)))
    assert results == [0, 2, 4, 6, 8]
    assert len([item async for item in client.executions()]) == 5


async def test_a_failure_raises_with_the_code_of_the_step(lab: Lab, client: AsyncClient, greet: Path) -> None:
    async with lab.worker():
        started = await client.start(greet, {"name": "Ada"})
        await client.wait(started.id, until_waiting=True, timeout_s=PATIENCE_S)
        await client.answer(started.id, False)
        with pytest.raises(ExecutionFailed, match="Nobody wanted") as caught:
            (await client.wait(started.id, timeout_s=PATIENCE_S)).result()
    assert caught.value.code == "task.error"
    assert caught.value.execution.error is not None


async def test_waiting_ends_in_time_and_the_execution_goes_on(lab: Lab, client: AsyncClient, greet: Path) -> None:
    async with lab.worker():
        with pytest.raises(ExecutionTimeout, match="it goes on") as caught:
            await client.run(greet, {"name": "Ada"}, timeout_s=0.5, key="one")
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.code == "client.timeout"
        (waiting,) = [item async for item in client.executions()]
        assert not waiting.is_closed
        again = asyncio.create_task(client.run(greet, {"name": "Ada"}, key="one", timeout_s=PATIENCE_S))
        await client.wait(waiting.id, until_waiting=True, timeout_s=PATIENCE_S)
        await client.answer(waiting.id, True)
        assert await again == {"said": "hello Ada"}


async def test_a_wrong_task_is_shown_with_its_lines(client: AsyncClient, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("name: wrong\nmain:\n  - evalute: 1\n", encoding="utf-8")
    with pytest.raises(DefinitionError) as caught:
        await client.apply(file)
    assert "wrong.yaml:3:5: error[" in str(caught.value)
    assert "evalute" in str(caught.value)
    assert [item async for item in client.tasks()] == []


async def test_errors_of_the_caller_have_their_classes_and_codes(client: AsyncClient, greet: Path) -> None:
    with pytest.raises(NotFound) as missing:
        await client.start("nobody")
    assert missing.value.code == "task.not_found"
    with pytest.raises(InvalidInput) as refused:
        await client.start(greet, {})
    with pytest.raises(NotFound) as near:
        await client.start("gret")
    assert (near.value.code, near.value.hint) == ("task.not_found", "did you mean 'greet'?")
    assert refused.value.code == "input.invalid"
    with pytest.raises(NotFound) as unknown:
        await client.get(str(uuid.uuid4()))
    assert unknown.value.code == "execution.not_found"


async def test_cancelling_tells_the_reason(lab: Lab, client: AsyncClient, greet: Path) -> None:
    async with lab.worker():
        started = await client.start(greet, {"name": "Ada"})
        await client.wait(started.id, until_waiting=True, timeout_s=PATIENCE_S)
        await client.cancel(started.id, reason="changed my mind")
        ended = await client.wait(started.id, timeout_s=PATIENCE_S)
        with pytest.raises(ExecutionFailed, match="changed my mind"):
            ended.result()
        again = await client.cancel(started.id, reason="once more")
    assert again.error == ended.error


async def test_executions_are_found_by_dotted_metadata_and_times_of_all_kinds(client: AsyncClient, greet: Path) -> None:
    before = dt.datetime.now(dt.UTC)
    first = await client.start(greet, {"name": "Ada"}, metadata={"order": {"id": "A1"}})
    await client.start(greet, {"name": "Grace"}, metadata={"order": {"id": "A2"}})
    assert [item.id async for item in client.executions(metadata={"order.id": "A1"})] == [first.id]
    for time in (before, before.isoformat(), "10m"):
        assert (await client.counts(created_after=time))["total"] == 2
        assert (await client.counts(created_before=time, root_only=True))["total"] == 0
    assert await client.usage("task", since="1h", label="vip") == []
    with pytest.raises(InvalidInput, match="created_after='yesterday' is no time"):
        await client.counts(created_after="yesterday")
    with pytest.raises(InvalidInput, match="no filter 'colour'") as caught:
        await client.counts(colour="red")  # type: ignore[call-arg]
    assert "filters are task_id" in caught.value.hint
    with pytest.raises(InvalidInput, match="no stream 'words'"):
        await anext(client.stream(first.id, "words"))  # type: ignore[arg-type]


# --- an API that is restarted in an orderly way ----------------------------------------------------------------------


class Restarts:
    """An API that can be ended as an operator ends it, and begun again at the same address."""

    def __init__(self, lab: Lab, temporal: str, port: int) -> None:
        self._settings = settings_for(lab.folder, task_queue=lab.queue, port=port)
        self._temporal = temporal
        self._up = contextlib.AsyncExitStack()
        self.url = f"http://127.0.0.1:{port}"

    async def begin(self) -> None:
        await self._up.enter_async_context(api_server(self._settings, temporal=self._temporal))

    async def end(self) -> None:
        await self._up.aclose()


@pytest.fixture
async def restarts(lab: Lab, temporal_address: str, unused_tcp_port: int) -> AsyncIterator[Restarts]:
    server = Restarts(lab, temporal_address, unused_tcp_port)
    await server.begin()
    yield server
    await server.end()


async def read_all(
    client: AsyncClient, execution_id: str, what: Literal["transitions", "events", "status", "tokens"], first: Event
) -> list[StreamEvent]:
    told: list[StreamEvent] = []
    async for event in client.stream(execution_id, what):
        told.append(event)
        first.set()
    return told


async def test_streams_and_waits_outlast_an_orderly_restart_of_the_api(
    lab: Lab, restarts: Restarts, greet: Path
) -> None:
    async with lab.worker(), AsyncClient(restarts.url) as client:
        started = await client.start(greet, {"name": "Ada"})
        await client.wait(started.id, until_waiting=True, timeout_s=PATIENCE_S)
        firsts = [Event() for _ in range(3)]
        readers = [
            asyncio.create_task(read_all(client, started.id, "transitions", firsts[0])),
            asyncio.create_task(read_all(client, started.id, "events", firsts[1])),
            asyncio.create_task(read_all(client, started.id, "status", firsts[2])),
        ]
        tokens = asyncio.create_task(read_all(client, started.id, "tokens", Event()))
        waiting = asyncio.create_task(client.wait(started.id, timeout_s=PATIENCE_S))
        in_thread_told: list[str] = []
        heard = threading.Event()

        def listen(sync: Client) -> None:
            for event in sync.stream(started.id):
                in_thread_told.append(event.data["type"])
                heard.set()

        thread = asyncio.create_task(in_thread(restarts.url, listen))
        await asyncio.gather(*(first.wait() for first in firsts), asyncio.to_thread(heard.wait, 20))
        await restarts.end()
        assert not any(task.done() for task in (*readers, tokens, waiting, thread))
        await restarts.begin()
        await client.answer(started.id, True)
        transitions, events, statuses = await asyncio.gather(*readers)
        assert (await waiting).result() == {"said": "hello Ada"}
        await thread
        wanted = [row["type"] async for row in client.transitions(started.id)]
        assert [event.data["type"] for event in transitions] == in_thread_told == wanted
        assert [event.data["seq"] for event in events] == [row["seq"] async for row in client.events(started.id)]
        assert (statuses[0].data["status"], statuses[-1].data["status"]) == ("awaiting_input", "succeeded")
        assert [event.event for event in await tokens] == ["end"]


async def test_streams_of_a_terminated_execution_end_without_an_event_that_says_so(
    lab: Lab, client: AsyncClient, api: ApiServer, greet: Path
) -> None:
    async with lab.worker():
        started = await client.start(greet, {"name": "Ada"})
        await client.wait(started.id, until_waiting=True, timeout_s=PATIENCE_S)
    await lab.client.get_workflow_handle(started.id).terminate(reason="maintenance")
    # an operator's question makes the API look
    assert (await api.http.put(f"/executions/{started.id}", json={"status": "cancelled"})).status_code == 409
    told = [event.data["type"] async for event in client.stream(started.id)]
    assert told == await in_thread(api.url, lambda sync: [event.data["type"] for event in sync.stream(started.id)])
    assert (told[0], told[-1]) == ("init", "wait")
    assert [event.event async for event in client.stream(started.id, "tokens")] == ["end"]
    assert [event.data["status"] async for event in client.stream(started.id, "status")] == ["failed"]


class Flaky(httpx.AsyncBaseTransport):
    """Loses answers: sends every request on, and drops the answer as often as it is told to."""

    def __init__(self, lose: int) -> None:
        self._inner = httpx.AsyncHTTPTransport()
        self._lose = lose
        self.sent: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        response = await self._inner.handle_async_request(request)
        if self._lose > 0:
            self._lose -= 1
            await response.aclose()
            raise httpx.ReadError("the connection broke", request=request)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


async def test_a_start_whose_answers_get_lost_starts_one_execution(lab: Lab, api: ApiServer, greet: Path) -> None:
    async with AsyncClient(api.url) as plain:
        await plain.apply(greet)
    flaky = Flaky(lose=2)
    async with AsyncClient(api.url, transport=flaky) as client:
        started = await client.start("greet", {"name": "Ada"})
        assert [request.url.path for request in flaky.sent] == ["/api/tasks/greet/executions"] * 3
        assert len({request.headers["idempotency-key"] for request in flaky.sent}) == 1
        assert [item.id async for item in client.executions()] == [started.id]


async def test_an_api_that_is_not_there_is_named_after_several_tries(unused_tcp_port: int) -> None:
    flaky = Flaky(lose=0)
    async with AsyncClient(f"http://127.0.0.1:{unused_tcp_port}", transport=flaky, tries=3) as client:
        with pytest.raises(Unavailable, match="cannot be reached") as caught:
            await client.get("x")
    assert len(flaky.sent) == 3
    assert "everstep dev" in caught.value.hint


async def test_a_key_is_sent_and_a_missing_one_is_told(lab: Lab, temporal_address: str) -> None:
    settings = settings_for(lab.folder, task_queue=lab.queue, api_key="root key of this test")
    async with api_server(settings, temporal=temporal_address) as server:
        async with AsyncClient(server.url) as client:
            with pytest.raises(NotAllowed) as caught:
                await client.get("x")
            assert caught.value.code == "auth.required"
        async with AsyncClient(server.url, "root key of this test") as client:
            assert [item async for item in client.tasks()] == []


def test_addresses_and_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"items": []}, headers={"x-everstep": "1"})

    monkeypatch.setenv("EVERSTEP_ADDRESS", "http://engine.example:8700/")
    monkeypatch.setenv("EVERSTEP_API_KEY", "k")
    with Client(transport=httpx.MockTransport(answer)) as client:
        assert list(client.tasks()) == []
    assert (str(seen[0].url.copy_with(query=None)), seen[0].headers["authorization"]) == (
        "http://engine.example:8700/api/tasks",
        "Bearer k",
    )
    with pytest.raises(InvalidInput):
        Client("engine.example:8700")
