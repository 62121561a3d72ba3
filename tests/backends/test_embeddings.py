"""Vectors by every adapter that has them, against the scripted server in its own dialect, and errors in our words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from activities.backends.base import Embeddings
from activities.backends.transport import HttpBackend
from activities.backends.vectors import MAX_EMBED_CHARS, batches
from engine.core.errors import BackendError
from engine.edge.mockllm.vectors import vector_of
from tests.backends.adapters import ADAPTERS, backend_at, scripted
from tests.backends.loopback import raw_server, serving, simple_app

KINDS = [kind for kind, (made, _) in ADAPTERS.items() if made.embed_texts]
PATHS = {
    **dict.fromkeys(("openai", "responses"), "/v1/embeddings"),
    "gemini": "/v1beta/models/m1:batchEmbedContents",
    "ollama": "/api/embed",
}

each = pytest.mark.parametrize("kind", KINDS)


def answer(status: int, body: Any) -> bytes:
    """Return a whole answer."""
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
    return head.encode() + text


async def failure(kind: str, raw: bytes) -> BackendError:
    async with raw_server(raw) as url:
        backend = backend_at(kind, url)
        try:
            with pytest.raises(BackendError) as caught:
                await backend.embed("m1", ["a", "b"])
        finally:
            await backend.aclose()
    return caught.value


def body_of(kind: str, vectors: list[list[Any]]) -> dict[str, Any]:
    if kind in ("openai", "responses"):
        return {"data": [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]}
    if kind == "gemini":
        return {"embeddings": [{"values": vector} for vector in vectors]}
    return {"embeddings": vectors}


def test_all_but_anthropic_make_vectors() -> None:
    assert set(ADAPTERS) - set(KINDS) == {"anthropic"}
    assert set(PATHS) == set(KINDS)


@each
async def test_each_text_has_its_vector_in_order_with_the_tokens_of_all(kind: str) -> None:
    async with scripted(kind) as (backend, _):
        made = await backend.embed("m1", ["one two", "three", "one two"])
        await backend.embed("m1", ["half of a pair: \ud800"])
        none = await backend.embed("m1", [])
    assert made.vectors == [pytest.approx(vector_of(text)) for text in ("one two", "three", "one two")]
    assert (made.model, made.prompt_tokens) == ("m1", 5)
    assert none == Embeddings("m1", [], 0)


@each
async def test_many_texts_go_out_in_several_calls_and_come_back_in_order(kind: str) -> None:
    seen: list[int] = []

    async def handler(scope: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        assert scope["path"] == PATHS[kind]
        told = json.loads(body)
        texts = told.get("input") or [item["content"]["parts"][0]["text"] for item in told["requests"]]
        seen.append(len(texts))
        return 200, {}, json.dumps(body_of(kind, [[float(text)] for text in texts])).encode()

    async with serving(simple_app(handler)) as url:
        backend = backend_at(kind, url)
        most = backend.embed_texts
        made = await backend.embed("m1", [str(number) for number in range(1, 2 * most + 2)])
        await backend.aclose()
    assert seen == [most, most, 1]
    assert [vector[0] for vector in made.vectors] == [float(number) for number in range(1, 2 * most + 2)]


def test_long_texts_are_spread_over_more_calls() -> None:
    half = "x" * (MAX_EMBED_CHARS // 2)
    parts = batches([half, half, "y", half, "x" * (2 * MAX_EMBED_CHARS), "z"], 100)
    assert [[len(text) for text in part] for part in parts] == [
        [len(half)] * 2,
        [1, len(half)],
        [2 * MAX_EMBED_CHARS],
        [1],
    ]


@each
async def test_the_keys_of_the_backend_and_of_the_call_stand_in_headers(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", "sesame")
    seen: list[dict[str, str]] = []

    async def handler(scope: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        seen.append({name.decode(): value.decode() for name, value in scope["headers"]})
        return 200, {}, json.dumps(body_of(kind, [[1.0]])).encode()

    async with serving(simple_app(handler)) as url:
        backend = backend_at(kind, url, api_key_env="THE_KEY")
        await backend.embed("m1", ["a"], key="call")
        monkeypatch.delenv("THE_KEY")
        with pytest.raises(BackendError) as caught:
            await backend.embed("m1", ["a"])
        await backend.aclose()
    [headers] = seen
    assert any("sesame" in value for name, value in headers.items() if name in ("authorization", "x-goog-api-key"))
    assert headers["idempotency-key"] == "call/0"
    assert caught.value.code == "backend.auth"


@each
async def test_settings_are_passed_on_and_replace_neither_model_nor_texts(kind: str) -> None:
    seen: list[dict[str, Any]] = []

    async def handler(scope: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        seen.append(json.loads(body))
        return 200, {}, json.dumps(body_of(kind, [[1.0]])).encode()

    async with serving(simple_app(handler)) as url:
        backend = backend_at(kind, url)
        await backend.embed("m1", ["a"], settings={"dimensions": 2, "model": "other", "input": "x", "content": {}})
        await backend.aclose()
    told = json.dumps(seen)
    assert '"other"' not in told
    assert '"a"' in told
    name = "outputDimensionality" if kind == "gemini" else "dimensions"
    assert f'"{name}": 2' in told


@each
@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (401, "backend.auth", False),
        (400, "backend.refused", False),
        (404, "backend.not_found", False),
        (429, "backend.rate_limited", True),
        (503, "backend.overloaded", True),
    ],
)
async def test_a_refusal_is_said_in_our_words(kind: str, status: int, code: str, retryable: bool) -> None:
    error = await failure(kind, answer(status, {"error": {"message": "no"}}))
    assert (error.code, error.retryable) == (code, retryable)
    if code == "backend.not_found":
        assert "has no embeddings under" in error.message


@each
async def test_a_model_that_is_not_there_and_a_text_that_is_too_long_have_their_own_errors(kind: str) -> None:
    async with scripted(kind, models=["m1"]) as (backend, _):
        with pytest.raises(BackendError) as missing:
            await backend.embed("other", ["a"])
        with pytest.raises(BackendError) as long:
            await backend.embed("m1", ["word " * 5_000])
    assert (missing.value.code, long.value.code) == ("backend.unknown_model", "backend.context_too_long")


@each
@pytest.mark.parametrize(
    "vectors", [[[1.0]], [[1.0], []], [[1.0], ["much"]], [[1.0], [1.0, 2.0]], [[1.0], None], [[1.0], [float("nan")]]]
)
async def test_vectors_that_are_none_are_a_bad_reply(kind: str, vectors: list[Any]) -> None:
    error = await failure(kind, answer(200, body_of(kind, vectors)))
    assert (error.code, error.retryable) == ("backend.bad_reply", True)


@each
async def test_a_server_that_is_not_there_or_breaks_off_can_be_asked_again(kind: str) -> None:
    backend = backend_at(kind, "http://127.0.0.1:1")
    with pytest.raises(BackendError) as away:
        await backend.embed("m1", ["a"])
    await backend.aclose()
    cut = await failure(kind, b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{")
    assert (away.value.code, cut.code) == ("backend.unreachable", "backend.cut_off")
    assert away.value.retryable
    assert cut.retryable


async def test_a_provider_without_embeddings_says_what_to_do_instead() -> None:
    backend: HttpBackend = backend_at("anthropic", "http://127.0.0.1:1")
    with pytest.raises(BackendError) as caught:
        await backend.embed("claude", ["a"])
    await backend.aclose()
    assert (caught.value.code, caught.value.retryable) == ("backend.no_embeddings", False)
    assert "minilm" in caught.value.hint


async def test_vectors_that_come_out_of_order_are_put_in_order() -> None:
    body = {"data": [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}], "model": "m1-2026"}
    async with raw_server(answer(200, body)) as url:
        backend = backend_at("openai", url)
        made = await backend.embed("m1", ["a", "b"])
        await backend.aclose()
    assert made == Embeddings("m1-2026", [[1.0], [2.0]], None)
