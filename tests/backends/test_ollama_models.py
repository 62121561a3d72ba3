"""How the models of an Ollama server are fetched, deleted, described and used for embeddings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from activities.backends.ollama_models import ModelFacts, OllamaModels, Progress
from engine.core.errors import BackendError
from engine.edge.mockllm.app import create_app
from engine.edge.mockllm.script import MockScript
from engine.settings import BackendConfig
from tests.backends.loopback import header, raw_server, serving, simple_app
from tests.support.patience import PATIENCE_S

Act = Callable[[OllamaModels], Awaitable[Any]]
ACTS: dict[str, Act] = {
    "pull": lambda models: models.pull("m1"),
    "delete": lambda models: models.delete("m1"),
    "show": lambda models: models.show("m1"),
    "embed": lambda models: models.embed("m1", ["a"]),
}


@asynccontextmanager
async def models_at(url: str, **changes: Any) -> AsyncIterator[OllamaModels]:
    """Look after the models of a server."""
    models = OllamaModels("b", BackendConfig(base_url=url, **changes))
    try:
        yield models
    finally:
        await models.aclose()


@asynccontextmanager
async def scripted(*names: str) -> AsyncIterator[OllamaModels]:
    """Look after the models of the scripted server."""
    async with serving(create_app(MockScript(models=list(names)))) as url, models_at(url) as models:
        yield models


async def failure(act: Act, answer: bytes) -> BackendError:
    """Ask a server that gives this answer."""
    async with raw_server(answer) as url, models_at(url) as models:
        with pytest.raises(BackendError) as caught:
            await act(models)
    return caught.value


def lines(*events: Any) -> bytes:
    """Return a streamed answer of these lines."""
    body = "".join(f"{json.dumps(event)}\n" for event in events)
    return f"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n{body}".encode()


def answer(status: int, body: Any) -> bytes:
    """Return a whole answer."""
    text = json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        status,
        len(text),
        text,
    )


# --- fetching and deleting -------------------------------------------------------------------------------------------


async def test_a_model_that_was_fetched_is_there_and_one_that_was_deleted_is_gone() -> None:
    told: list[Progress] = []
    async with scripted("m1") as models:
        await models.pull("m2:8b", told.append)
        assert await models.list_models() == ["m1", "m2:8b"]
        await models.delete("m1:latest")
        assert await models.list_models() == ["m2:8b"]
    assert told[0] == Progress("pulling manifest")
    assert told[-1] == Progress("success")
    sizes = [(step.done_bytes, step.total_bytes) for step in told if step.digest]
    assert sizes == [(0, 1000), (500, 1000), (1000, 1000)]


async def test_a_fetch_tells_how_far_it_is_while_it_goes_on_and_a_cancel_reaches_the_server() -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"status":"pulling manifest"}\n', "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    async with serving(app) as url, models_at(url) as models:
        fetch = asyncio.create_task(models.pull("m1", lambda _: arrived.set()))
        await asyncio.wait_for(arrived.wait(), PATIENCE_S)
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
        await asyncio.wait_for(gone.wait(), PATIENCE_S)


@pytest.mark.parametrize("events", [[], [{"status": "pulling manifest"}], [{"status": "success"}, {"status": "x"}]])
async def test_a_fetch_that_does_not_end_in_success_is_none(events: Any) -> None:
    error = await failure(ACTS["pull"], lines(*events))
    assert (error.code, error.retryable) == ("backend.cut_off", True)


@pytest.mark.parametrize(
    ("problem", "code", "retryable"),
    [
        ("pull model manifest: file does not exist", "backend.unknown_model", False),
        ("dial tcp: lookup registry: no such host", "backend.overloaded", True),
        ("max retries exceeded: EOF", "backend.overloaded", True),
    ],
)
async def test_why_a_fetch_failed_is_named(problem: str, code: str, retryable: bool) -> None:
    error = await failure(ACTS["pull"], lines({"status": "pulling manifest"}, {"error": problem}))
    assert (error.code, error.retryable, error.details["reason"]) == (code, retryable, problem)


@pytest.mark.parametrize("line", [b"[]", b"no", b'{"status":3}'])
async def test_progress_that_cannot_be_read_is_a_bad_reply(line: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
    assert (await failure(ACTS["pull"], head + line + b"\n")).code == "backend.bad_reply"


# --- describing and embedding ----------------------------------------------------------------------------------------


async def test_a_model_is_described_by_what_it_can_do_and_how_large_it_is() -> None:
    async with scripted("m1") as models:
        facts = await models.show("m1")
    assert facts == ModelFacts(
        capabilities=frozenset({"completion", "tools", "vision", "thinking", "embedding"}),
        context_tokens=4096,
        parameter_size="0B",
        quantization="F16",
    )


async def test_what_an_older_server_does_not_tell_is_left_open() -> None:
    async with raw_server(answer(200, {"details": {"family": "llama"}})) as url, models_at(url) as models:
        facts = await models.show("m1")
    assert facts == ModelFacts(frozenset(), None, "", "")


async def test_texts_become_vectors_in_their_order() -> None:
    async with scripted("m1") as models:
        both = await models.embed("m1", ["one two", "three"])
        second = await models.embed("m1", ["three"])
    assert (both.model, both.prompt_tokens, len(both.vectors)) == ("m1", 3, 2)
    assert both.vectors[1] == second.vectors[0] != both.vectors[0]


async def test_a_text_that_is_too_long_is_refused_unless_it_may_be_cut() -> None:
    text = "word " * 5_000
    async with scripted("m1") as models:
        with pytest.raises(BackendError) as caught:
            await models.embed("m1", [text])
        assert len((await models.embed("m1", [text], settings={"truncate": True})).vectors) == 1
    assert (caught.value.code, caught.value.retryable) == ("backend.context_too_long", False)


async def test_settings_of_embeddings_are_passed_on_and_replace_neither_model_nor_texts() -> None:
    seen = []

    async def handler(scope: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        seen.append((scope["method"], scope["path"], json.loads(body)))
        return 200, {}, b'{"embeddings":[[1,2]]}'

    async with serving(simple_app(handler)) as url, models_at(url) as models:
        settings = {"dimensions": 2, "model": "other", "input": "x"}
        embedded = await models.embed("m1", ["a"], settings=settings)
    assert seen == [("POST", "/api/embed", {"truncate": False, "dimensions": 2, "model": "m1", "input": ["a"]})]
    assert (embedded.model, embedded.vectors, embedded.prompt_tokens) == ("m1", [[1.0, 2.0]], None)


async def test_fewer_vectors_than_texts_are_a_bad_reply() -> None:
    error = await failure(lambda models: models.embed("m1", ["a", "b"]), answer(200, {"embeddings": [[1.0]]}))
    assert (error.code, error.retryable) == ("backend.bad_reply", True)


# --- what all of them do alike ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["delete", "show", "embed"])
async def test_a_model_that_is_not_there_is_unknown(name: str) -> None:
    async with scripted("m2", "m3") as models:
        with pytest.raises(BackendError) as caught:
            await ACTS[name](models)
    assert (caught.value.code, caught.value.retryable) == ("backend.unknown_model", False)
    assert "'m1'" in caught.value.message


@pytest.mark.parametrize("name", ACTS)
async def test_a_server_that_is_busy_or_away_may_be_asked_again(name: str) -> None:
    busy = await failure(ACTS[name], answer(503, {"error": "server busy"}))
    assert (busy.code, busy.retryable) == ("backend.overloaded", True)
    async with models_at("http://127.0.0.1:1") as models:
        with pytest.raises(BackendError) as caught:
            await ACTS[name](models)
    assert (caught.value.code, caught.value.retryable) == ("backend.unreachable", True)


@pytest.mark.parametrize("name", ["show", "embed"])
async def test_an_answer_of_another_shape_is_a_bad_reply(name: str) -> None:
    assert (await failure(ACTS[name], answer(200, {"embeddings": "x", "details": 3}))).code == "backend.bad_reply"


@pytest.mark.parametrize("name", ACTS)
async def test_the_key_is_sent_with_every_request(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    async def handler(scope: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        seen.append(header(scope, "authorization"))
        return 401, {}, b'{"error":"unauthorized"}'

    monkeypatch.setenv("SOME_KEY", "s3cret")
    async with serving(simple_app(handler)) as url, models_at(url, api_key_env="SOME_KEY") as models:
        with pytest.raises(BackendError) as caught:
            await ACTS[name](models)
    assert seen == ["Bearer s3cret"]
    assert caught.value.code == "backend.auth"


async def test_the_scripted_server_keeps_its_last_model_and_takes_no_call_without_a_name() -> None:
    async with scripted("m1") as models:
        with pytest.raises(BackendError) as caught:
            await models.delete("m1")
        assert caught.value.code == "backend.refused"
        assert await models.list_models() == ["m1"]
        for act in (models.delete, models.show, models.pull):
            with pytest.raises(BackendError) as caught:
                await act("")
            assert caught.value.code == "backend.refused"
