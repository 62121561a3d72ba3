"""The key of a backend comes back from no adapter, whatever a server shows of what it was sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from activities.llm import ADAPTERS
from engine.core.contracts.activities import ChatParams
from engine.core.errors import BackendError
from engine.settings import BackendConfig, BackendKind
from tests.backends.loopback import CONTEXT
from tests.support.servers import serve_app

KEY = "sk-c4nary/of+backends=9"
HELLO = [{"role": "user", "content": "hello"}]


class Echo:
    """Shows the headers and the query of each request, with a status and a media type."""

    def __init__(self, status: int, media: str) -> None:
        self.status = status
        self.media = media
        self.sent = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        shown = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.sent += json.dumps(shown) + scope["query_string"].decode()
        body = json.dumps(
            {"error": {"message": f"wrong: {shown}", "type": str(shown), "code": str(shown)}, "echo": shown}
        )
        text = f"data: {body}\n\n" if self.media == "text/event-stream" else f"{body}\n"
        headers = [(b"content-type", self.media.encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": text.encode()})


@pytest.mark.parametrize("media", ["application/json", "text/event-stream", "application/x-ndjson", "text/plain"])
@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500, 503])
@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini", "ollama"])
async def test_no_failure_shows_the_key(
    monkeypatch: pytest.MonkeyPatch, kind: BackendKind, status: int, media: str
) -> None:
    monkeypatch.setenv("ECHO_KEY", KEY)
    echo = Echo(status, media)
    async with serve_app(echo) as url:
        backend = ADAPTERS[kind]("echo", BackendConfig(kind=kind, base_url=url, api_key_env="ECHO_KEY"), None)
        try:
            with pytest.raises(BackendError) as raised:
                await backend.chat(ChatParams(context=CONTEXT, messages=HELLO, model="m", timeout_s=20))
            told = [repr(raised.value.to_json()), repr(backend)]
            with pytest.raises(BackendError) as raised:
                await backend.list_models()
            told.append(repr(raised.value.to_json()))
        finally:
            await backend.aclose()
    # the server did get it, and did show it
    assert KEY in echo.sent
    assert KEY not in "".join(told)
    assert KEY[3:] not in "".join(told)


async def test_a_reply_that_holds_the_key_comes_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_KEY", KEY)

    async def chatty(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        message = {"role": "assistant", "content": f"your key is {KEY}"}
        body = {"id": "1", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    async with serve_app(chatty) as url:
        backend = ADAPTERS["openai"]("echo", BackendConfig(base_url=url, api_key_env="ECHO_KEY"), None)
        try:
            result = await backend.chat(ChatParams(context=CONTEXT, messages=HELLO, model="m", timeout_s=20))
        finally:
            await backend.aclose()
    assert result.message["content"] == "your key is ***"
