"""Keys of backends that are secrets: read for each call, sent as the provider wants them, and shown by no error."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from activities.llm import build_backends
from engine.core.errors import BackendError, SecretError
from engine.settings import BackendConfig, Project
from tests.backends.loopback import serving

SENT = {
    "openai": ("authorization", "Bearer {key}"),
    "anthropic": ("x-api-key", "{key}"),
    "gemini": ("x-goog-api-key", "{key}"),
    "ollama": ("authorization", "Bearer {key}"),
}


def backend_with(url: str, kind: Any, read: Any) -> Any:
    config = BackendConfig(kind=kind, base_url=url, api_key_secret="the_key")
    (backend,) = build_backends(Project(backends={"b": config}), read)
    return backend


@pytest.mark.parametrize("kind", SENT)
async def test_a_secret_is_read_for_each_call_so_that_a_changed_one_counts_at_once(kind: str) -> None:
    keys = iter(["first-key", "second-key"])
    seen: list[str] = []
    header, form = SENT[kind]

    async def read(name: str) -> SecretStr:
        assert name == "the_key"
        return SecretStr(f" {next(keys)}\n")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del receive
        seen.append(dict(scope["headers"])[header.encode()].decode())
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"data": [], "models": []}'})

    async with serving(app) as url:
        backend = backend_with(url, kind, read)
        assert await backend.list_models() == []
        assert await backend.list_models() == []
        await backend.aclose()
    assert seen == [form.format(key=key) for key in ("first-key", "second-key")]


async def test_a_secret_that_is_missing_is_an_error_of_the_key() -> None:
    async def read(name: str) -> SecretStr:
        raise SecretError(f"there is no secret '{name}'", hint=f"set it: `everstep secrets set {name}`")

    backend = backend_with("http://127.0.0.1:9/v1", "openai", read)
    with pytest.raises(BackendError, match="the_key") as caught:
        await backend.list_models()
    assert (caught.value.code, caught.value.retryable) == ("backend.auth", False)
    assert "everstep secrets set the_key" in caught.value.hint


@pytest.mark.parametrize("key", ["schlüssel-of-the-test", "two\nlines-of-the-test"])
async def test_a_secret_that_no_header_can_carry_is_refused_and_not_shown(key: str) -> None:
    async def read(name: str) -> SecretStr:
        del name
        return SecretStr(key)

    backend = backend_with("http://127.0.0.1:9/v1", "openai", read)
    with pytest.raises(BackendError) as caught:
        await backend.list_models()
    assert caught.value.code == "backend.auth"
    assert "of-the-test" not in str(caught.value.to_json())


async def test_a_process_that_reads_no_secrets_says_so() -> None:
    with pytest.raises(BackendError, match="reads no secrets") as caught:
        await backend_with("http://127.0.0.1:9/v1", "gemini", None).list_models()
    assert caught.value.code == "backend.auth"
