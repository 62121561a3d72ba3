"""The adapters that the contract tests run over, and where each of them finds the scripted server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from activities.backends.anthropic import AnthropicBackend
from activities.backends.gemini import GeminiBackend
from activities.backends.ollama import OllamaBackend
from activities.backends.openai import OpenAIBackend
from activities.backends.openai_responses import ResponsesBackend
from activities.backends.transport import HttpBackend
from engine.edge.mockllm.app import MockLlm, create_app
from engine.edge.mockllm.script import MockScript
from engine.settings import BackendConfig
from tests.backends.loopback import serving

ADAPTERS: dict[str, tuple[type[HttpBackend], str]] = {
    "openai": (OpenAIBackend, "/v1"),
    "responses": (ResponsesBackend, "/v1"),
    "anthropic": (AnthropicBackend, ""),
    "gemini": (GeminiBackend, "/v1beta"),
    "ollama": (OllamaBackend, ""),
}
"""The class, and what stands behind the server's address in its base URL."""


def backend_at(kind: str, url: str, **changes: Any) -> HttpBackend:
    """Return the adapter of a kind for a server."""
    made, base = ADAPTERS[kind]
    return made("b", BackendConfig(base_url=f"{url}{base}", **changes))


@asynccontextmanager
async def scripted(
    kind: str, *rules: dict[str, Any], models: list[str] | None = None, **changes: Any
) -> AsyncIterator[tuple[HttpBackend, MockLlm]]:
    """Run the scripted server and an adapter that asks it."""
    app = create_app(MockScript.model_validate({"rules": list(rules), "models": models or []}))
    async with serving(app) as url:
        backend = backend_at(kind, url, **changes)
        try:
            yield backend, app
        finally:
            await backend.aclose()
